"""What makes a pipeline draw faster on its device; its pictures change by rounding at most."""

import logging
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from gensynth.conditions import Conditions
from gensynth.errors import UsageError
from gensynth.ops.plain import hooked_layer
from gensynth.pipelines.acceleration import step_tables
from gensynth.pipelines.acceleration.cuda_graphs import Graphed
from gensynth.pipelines.acceleration.step_tables import Modulations, StepTable
from gensynth.pipelines.contract import Composed
from gensynth.pipelines.model_call import ROW, asked, conditions_at, without_rows
from gensynth.samplers.contract import Predict

# With tables and graphs. With more at once, arithmetic takes longer than weights and launches.
MOST_PICTURES = 8
MOST_TABLE_BYTES = 256 * 2**20
LOGGER = logging.getLogger(__name__)


class OptimizedModel:
    """The model of a pipeline with tables of its modulations, CUDA graphs, both or neither.

    One call at a time: other threads wait.
    """

    def __init__(self, model: ModelMixin, tables: bool, graphs: bool):
        self.model: Any = model
        self.tables, self.graphs = tables, graphs
        self.modulations: Modulations | None = None  # of the latest walk
        self.recordings: dict[tuple[tuple[str, ...], bool], Graphed] = {}
        self.lock = threading.Lock()
        self.logged: str | None = None  # the latest reason, so that it is said once

    @property
    def device(self) -> torch.device:
        return self.model.device

    def at(
        self, times: Sequence[float], conditions: Conditions, none: Conditions | None
    ) -> Predict:
        """The model call of one walk; without a table where gradients are asked for.

        Args:
            times: at which the model will be asked, if they are known. At others it computes its
                modulations as ever.
            conditions: of the pictures, [B, ...], with their rows (`model_call.with_rows`).
            none: "nothing" [1, ...], if it will also be asked for. It must not be for any other.
        """
        table = None
        with self.lock:
            if self.tables and times:
                table = self.table(times, conditions, none)
            # A replay runs no Python, so it would leave out hooks that were put in since.
            graphs = self.graphs and hooked_layer(self.model) is None
            if graphs:
                for recording in self.recordings.values():
                    recording.check_weights()
        return partial(self.ask, table, graphs)

    def table(
        self, times: Sequence[float], conditions: Conditions, none: Conditions | None
    ) -> StepTable | None:
        """The modulations of all calls, unless there is a reason against it, which is logged."""
        count = len(next(iter(conditions.values()), ()))
        if torch.is_grad_enabled() or count > MOST_PICTURES:
            return None
        told = without_rows(conditions)
        if none is not None:
            told = {name: torch.cat([value, none[name].to(value)]) for name, value in told.items()}
        reason = step_tables.refusal(self.model)  # it may have changed
        if reason is None:
            self.modulations = Modulations(self.model)
            told = self.model.encoded(told)  # beside a guide texts come as they were written
            steering = step_tables.steering(self.model, told)
            rows = len(set(times)) * step_tables.num_distinct(steering, self.device)
            size = rows * sum(self.modulations.widths) * self.model.dtype.itemsize  # bytes
            if size <= MOST_TABLE_BYTES:
                return StepTable(self.modulations, times, told)
            most = MOST_TABLE_BYTES // 2**20
            reason = f"it would have {size / 2**20:.0f} MiB, and {most} are allowed"
        if reason != self.logged:
            LOGGER.warning("no table of modulations: %s.", reason)
        self.logged = reason
        return None

    def ask(
        self,
        table: StepTable | None,
        graphs: bool,
        sample: Tensor,
        time: Tensor,
        conditions: Conditions,
    ) -> Tensor:
        """The output of the model, as `asked` gives it."""
        there = self.model.device
        conditions = conditions_at(conditions, there)
        sample = sample.to(there, self.model.dtype if sample.is_floating_point() else None)
        # Twice: with guidance the model sees every picture in two rows.
        graphed = graphs and there.type == "cuda" and len(sample) <= 2 * MOST_PICTURES
        graphed = graphed and not torch.is_grad_enabled()
        rows = None if table is None else table.find(time, conditions.get(ROW))
        told = without_rows(conditions)
        tensors = [sample, time.to(there), *told.values()]
        with self.lock:
            if not graphed:
                return self.call(tuple(told), rows, *tensors)
            if rows is None:
                return self.recorded(tuple(told), False)(*tensors)
            return self.recorded(tuple(told), True)(rows, *tensors)

    def recorded(self, names: tuple[str, ...], with_table: bool) -> Graphed:
        """The graphs of calls with conditions of these names, with modulations given or not."""
        if (names, with_table) not in self.recordings:
            # With a table its rows come first among the tensors.
            call = partial(self.call, names) if with_table else partial(self.call, names, None)
            self.recordings[names, with_table] = Graphed(call, self.model)
        return self.recordings[names, with_table]

    def call(
        self,
        names: tuple[str, ...],
        rows: Tensor | None,
        sample: Tensor,
        time: Tensor,
        *told: Tensor,
    ) -> Tensor:
        """The output of the model; `rows` [B, sum of widths] are its modulations, if known."""
        conditions = dict(zip(names, told, strict=True))
        if rows is None:
            return asked(self.model, sample, time, conditions)
        assert self.modulations is not None
        with self.modulations.given(rows):
            # Only the modulations read what is embedded, and these are given. The conditions go
            # along for whatever else of the model reads them, as attention to a prompt does.
            embedded = [rows] * len(self.modulations.widths)
            return self.model.predict(sample, time, conditions, embedded)


def optimize(
    pipeline: Composed,
    compile: bool | Mapping[str, Any] | None = None,
    tables: bool | None = None,
    graphs: bool | None = None,
) -> list[str]:
    """Makes a pipeline faster where it is now; one sentence for each thing done or left out.

    Pictures stay the same up to rounding. Calling it again changes nothing; after moving the
    pipeline to another device, call it again. The weights keep their names, so that the pipeline
    can be saved as ever.

    - channels-last: convolutions whose input needs no rearranging;
    - tables: the modulations of all steps computed before the first, for up to 8 pictures; they
      depend on time and label alone. Samplers that choose their times on the way have none.
    - graphs: the model's kernels launched together, for up to 8 pictures on a CUDA GPU;
    - compile: each kind of block compiled once (`compile_repeated_blocks` of diffusers).

    Args:
        compile, tables, graphs: None does what pays on the device; True does it anyway, False does
            not. `compile` may be keywords of `torch.compile`; what is compiled stays so.

    Raises:
        UsageError: graphs or tables are demanded where they are not possible.
    """
    model = pipeline.model
    has_tables, about_tables = use_tables(model, tables)
    has_graphs, about_graphs = use_graphs(model, graphs)
    before = pipeline.optimized
    wanted = (model, has_tables, has_graphs)
    if before is None or (before.model, before.tables, before.graphs) != wanted:
        pipeline.optimized = OptimizedModel(*wanted)
    return [
        channels_last(model, "model"),
        channels_last(pipeline.autoencoder, "autoencoder"),
        about_tables,
        about_graphs,
        compile_blocks(model, compile),
    ]


def channels_last(module: ModelMixin, name: str) -> str:
    """Lays the weights of spatial convolutions out with their channels last."""
    spatial = any(
        isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1 and max(layer.stride) == 1
        for layer in module.modules()
    )
    if not spatial:
        return f"not channels-last: the {name} has no convolution over neighbours"
    module.to(memory_format=torch.channels_last)
    return f"channels-last: the {name}'s convolutions"


def use_tables(model: ModelMixin, wanted: bool | None) -> tuple[bool, str]:
    """Whether modulations come from a table, and why.

    Raises:
        UsageError: demanded of a model that cannot have them.
    """
    reason = step_tables.refusal(model)
    if wanted is False:
        return False, "no tables of modulations: not wanted"
    if reason is None:
        return True, f"tables of modulations: all steps at once, for up to {MOST_PICTURES} pictures"
    if wanted:
        raise UsageError(f"tables cannot be True: {reason}.")
    return False, f"no tables of modulations: {reason}"


def use_graphs(model: ModelMixin, wanted: bool | None) -> tuple[bool, str]:
    """Whether the model's kernels are launched as a CUDA graph, and why.

    Raises:
        UsageError: demanded on another device.
    """
    kind = model.device.type
    if kind != "cuda":
        if wanted:
            raise UsageError(f"graphs cannot be True: the model is on {kind}, not on a CUDA GPU.")
        return False, f"no CUDA graphs: the model is on {kind}"
    if wanted is False:
        return False, "no CUDA graphs: not wanted"
    hooked = hooked_layer(model)
    if hooked is not None:
        reason = f"{hooked or 'the model'} has hooks, which a graph would leave out"
        if wanted:
            raise UsageError(f"graphs cannot be True: {reason}.")
        return False, f"no CUDA graphs: {reason}"
    return True, f"CUDA graphs: of the model, for up to {MOST_PICTURES} pictures"


def compile_blocks(model: ModelMixin, wanted: bool | Mapping[str, Any] | None) -> str:
    """Compiles the repeated blocks of a model, unless they are or on a CPU."""
    compiled = any(module._compiled_call_impl is not None for module in model.modules())
    if not compiled and wanted is None and model.device.type != "cuda":
        kind = model.device.type
        return f"not compiled: on {kind} that takes tens of seconds; optimize(compile=True) does it"
    if not compiled and wanted is False:
        return "not compiled: not wanted"
    if not compiled:
        model.compile_repeated_blocks(**(wanted if isinstance(wanted, Mapping) else {}))
    return f"compiled: each {', '.join(model._repeated_blocks)}, when it is first called"
