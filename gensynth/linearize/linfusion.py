"""LinFusion (arXiv 2409.02097; Huage001/LinFusion): attention that is linear in the tokens.

q = to_q(x + to_q_(x)) and k = to_k(x + to_k_(x)) with two small networks of its own, φ = ELU + 1:
time and memory grow linearly with the picture, whatever its height and width.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from gensynth.errors import InputError, UsageError
from gensynth.linearize import files
from gensynth.linearize.attentions import check_processor, put_out, warn_of_unknown
from gensynth.linearize.changes import Change, configured
from gensynth.linearize.contract import Linearized, Replaced, Size, State, Weights
from gensynth.models.layers.grid import merge_heads, split_heads
from gensynth.models.layers.mixers.linear import EPS, projection
from gensynth.ops import linear_attention
from gensynth.stored import STEM, choose_variant, read_json, variants, weight_files
from gensynth.values import is_whole

NAME = "linfusion"
OPERATOR = "linear_attention"
MIXER = "linfusion"  # of our own models
PUBLISHED = "Yuanshi/LinFusion-1-5, Yuanshi/LinFusion-2-1 and Yuanshi/LinFusion-XL."
LIST = "modules_list"  # of the published config.json
ADDED = ("to_q_", "to_k_")  # the published names of the networks that an attention gets
MEANINGS: Mapping[str, str] = {}  # every option may be left out


@dataclass(frozen=True)
class Options:
    """How LinFusion is begun without weights; weights bring their own.

    Attributes:
        projection_dim: inner width of the two networks; None for the width of the tokens, -1 for
            none, which leaves q = to_q(2 x). After weights with several it is None.
        projection_scale: what the width of the tokens is divided by for that, where projection_dim
            is None; 16 was published for SDXL. Weights bring their own.
        seed: of their first layers. The last ones start at zero, so the distillation of a model
            begins with linear attention of its own queries and keys.
    """

    projection_dim: int | None = None
    projection_scale: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        inner = self.projection_dim
        if inner is not None and (not is_whole(inner) or (inner < 1 and inner != -1)):
            raise UsageError(f"projection_dim must be a whole number from 1, or -1, got {inner!r}.")
        scale = self.projection_scale
        if not is_whole(scale) or scale < 1 or (scale > 1 and inner is not None):
            raise UsageError(
                f"projection_scale must be a whole number from 1, without projection_dim, got "
                f"{scale!r}."
            )
        if not is_whole(self.seed) or self.seed < 0:
            raise UsageError(f"seed must be a whole number from 0, got {self.seed!r}.")

    def inner(self, width: int) -> int | None:
        """Of the networks of an attention of that width; None for the width itself."""
        if self.projection_scale == 1:
            return self.projection_dim
        return max(1, width // self.projection_scale)

    def operator_keywords(self, height: int, width: int, text: int) -> dict[str, Any]:
        """Of the operator, beside queries, keys and values."""
        return {"eps": EPS}


class LinFusionSelfAttention(Attention):
    """diffusers' attention of a UNet; an `Attention` becomes one by its class, see `swap`."""

    to_q_: nn.Module
    to_k_: nn.Module

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **unknown: Any,
    ) -> Tensor:
        """hidden_states [B, N, C], keys and values from [B, M, C] if given -> [B, N, C].

        Raises:
            UsageError: there is a mask, or a processor that does more than softmax attention.
        """
        check_processor(self, NAME)
        if unknown:
            warn_of_unknown(self, unknown)
        if attention_mask is not None:
            raise UsageError(
                "LinFusion's attention has no masks; call the model without attention_mask, or "
                "gensynth.restore it first."
            )
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q = split_heads(self.to_q(hidden_states + self.to_q_(hidden_states)), self.heads)
        k = split_heads(self.to_k(source + self.to_k_(source)), self.heads)
        v = split_heads(self.to_v(source), self.heads)
        # q, k, v [B, H, N or M, D]; φ = ELU + 1 is applied inside
        return put_out(self, merge_heads(linear_attention(q, k, v, eps=EPS)))


def additions(
    size: Replaced, options: Options, state: State | None, number: int, ours: bool
) -> dict[str, Any]:
    """The two networks that an attention gets, of the width that their weights have.

    Args:
        number: of the attention in its model, so that each begins otherwise.
    """
    inner = options.inner(size.width) if state is None else inner_width(state)
    generator = torch.Generator().manual_seed(options.seed + number)
    return {name: network(size.width, inner, generator) for name in ADDED}


def inner_width(state: State) -> int:
    """Of the networks in a state; -1 if there are none."""
    first = state.get("to_q_.0.weight")
    return -1 if first is None else len(first)


def network(width: int, inner: int | None, generator: torch.Generator) -> nn.Module:
    """An MLP of the published layers that gives zero, and learns; the identity for `inner` -1."""
    with torch.device("meta"):  # whose initialisation draws nothing
        module = projection(width, width if inner is None else inner)
    if isinstance(module, nn.Identity):
        return module
    module.to_empty(device="cpu")
    layers: list[Any] = list(module.children())
    first, norm, _, last = layers
    nn.init.kaiming_uniform_(first.weight, a=math.sqrt(5), generator=generator)  # as nn.Linear
    nn.init.uniform_(first.bias, -(width**-0.5), width**-0.5, generator=generator)
    norm.reset_parameters()
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return module


def around(model: Any, options: Options, ours: bool) -> list[Change]:
    """What changes beside the attentions: the configuration of a model of ours."""
    if not ours:
        return []
    inner = options.inner(model.config.hidden_size)
    return [configured(model, mixer=MIXER, projection_dim=inner)]


def side(options: Options) -> int:
    """What height and width in tokens must be a multiple of."""
    return 1


def read(weights: str | Path, options: Mapping[str, Any]) -> Weights:
    """A published folder: config.json with the list of attentions, and their tensors by number.

    Raises:
        InputError: it is not there, or not LinFusion's.
        UsageError: options that the weights decide.
        CorruptError, RefusedError: damaged files, or a pickle.
    """
    if options:
        raise UsageError(
            f"weights of LinFusion bring their own {', '.join(options)}; leave that out."
        )
    beside = ["config.json", f"{STEM}*.index.json"]
    path = files.find(weights, [f"{STEM}*{files.ENDING}"], beside, "Published are " + PUBLISHED)
    folder = path if path.is_dir() else path.parent
    entries = _entries(folder)
    if path.is_dir():
        if not variants(folder):
            files.refuse_without(folder)
        stored = weight_files(folder, choose_variant([folder], None)[folder])
    else:
        stored = [path]
    tensors, _ = files.read(stored)
    numbered: dict[str, State] = {str(number): {} for number in range(len(entries))}
    for key, tensor in tensors.items():
        number, _, own = key.partition(".")
        if number not in numbered:
            raise InputError(
                f"{weights} does not fit its config.json: that lists {len(entries)} attentions, "
                f"and {key} belongs to none of them."
            )
        numbered[number][own] = tensor
    names = [entry["module_name"] for entry in entries]
    states = dict(zip(names, numbered.values(), strict=True))
    sizes = {entry["module_name"]: Size(entry["dim_n"], entry["heads"]) for entry in entries}
    return Weights(str(weights), states, sizes, {"projection_dim": _projection_dim(states, sizes)})


def _projection_dim(states: Mapping[str, State], sizes: Mapping[str, Size]) -> int | None:
    """As `Options` says it."""
    inner = {name: inner_width(state) for name, state in states.items()}
    if all(inner[name] == size.width for name, size in sizes.items()):
        return None
    return inner.popitem()[1] if len(set(inner.values())) == 1 else None


def _entries(folder: Path) -> list[dict[str, Any]]:
    file = folder / "config.json"
    if not file.is_file():
        raise InputError(
            f"{folder} has no config.json, which says to which attentions the weights of LinFusion "
            "belong; put the published one beside them."
        )
    config = read_json(file)
    entries = config.get(LIST) if isinstance(config, dict) else None
    names = {"module_name": str, "dim_n": int, "heads": int}
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and all(isinstance(entry.get(n), kind) for n, kind in names.items())
        for entry in entries
    ):
        raise InputError(f"{file} is not that of a LinFusion: it has no {LIST} of attentions.")
    return entries


def write(folder: Path, done: Linearized, states: Sequence[State]) -> None:
    """Writes the tensors of a linearized model as LinFusion is published."""
    entries: list[dict[str, Any]] = []
    tensors: State = {}
    for number, (one, state) in enumerate(zip(done.replaced, states, strict=True)):
        inner = inner_width(state)
        entries.append(
            {
                "module_name": one.name,
                "dim_n": one.width,
                "heads": one.heads,
                "projection_mid_dim": None if inner == one.width else inner,
            }
        )
        tensors |= {f"{number}.{name}": tensor for name, tensor in state.items()}
    config = {
        "_class_name": "LinFusion",
        "_diffusers_version": diffusers.__version__,
        LIST: entries,
    }
    files.write(folder, f"{STEM}{files.ENDING}", tensors, {}, config)
