"""The `regularizers:` of a run: checked, built, and added to the loss of each micro-batch."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from gensynth.config import Dispersive, Experiment, LayerSync, Repa
from gensynth.errors import UsageError
from gensynth.experiments.encoders import create_encoder
from gensynth.models import example_inputs, example_text
from gensynth.objectives import Loss
from gensynth.objectives.hidden_states import hidden_shapes, hidden_states, token_shape
from gensynth.objectives.regularizers import (
    DispersiveTerm,
    LayerSyncTerm,
    Regularizers,
    RepaTerm,
    check_states,
)
from gensynth.seeding import derived_seed


def named(experiment: Experiment) -> dict[str, Dispersive | LayerSync | Repa]:
    """The terms by the names they are logged under: a second `repa` is "repa_2"."""
    terms: dict[str, Dispersive | LayerSync | Repa] = {}
    for config in experiment.regularizers:
        count = sum(other.name == config.name for other in terms.values())
        terms[config.name if count == 0 else f"{config.name}_{count + 1}"] = config
    return terms


def check_regularizers(
    experiment: Experiment, model: ModelMixin, processes: int = 1
) -> dict[str, torch.Size]:
    """Checks the terms against a model; gives the shapes of its hidden states.

    Raises:
        UsageError: an unknown hidden state, a pair that cannot be aligned, or a group of images
            that is not within one micro-batch of one process.
    """
    settings = experiment.training
    micro_batch = settings.batch_size // (settings.gradient_accumulation * processes)
    side = experiment.data.size // experiment.autoencoder.patch
    shapes = hidden_shapes(model, *example_inputs(model, side, side), **example_text(model))
    for config in experiment.regularizers:
        check_states(config, shapes)
        if config.name == "dispersive" and micro_batch % config.group_size:
            raise UsageError(
                f"dispersive: group_size {config.group_size} does not divide the {micro_batch} "
                f"images of a micro-batch (training.batch_size {settings.batch_size}, "
                f"{settings.gradient_accumulation} accumulation steps, {processes} processes), so "
                "the result would depend on the split. Set its group_size to a divisor of "
                f"{micro_batch}, or training.batch_size to a multiple of {config.group_size}."
            )
    return shapes


class Regularization:
    """The terms between model, images and loss; without terms everything here does nothing.

    Raises:
        UsageError: see `check_regularizers`.
        InputError: a frozen encoder cannot be loaded.
    """

    def __init__(self, experiment: Experiment, model: ModelMixin, processes: int):
        self.configs = named(experiment)
        self.encoders: dict[str, nn.Module] = {}
        self.module: nn.Module = nn.Identity()
        self.names: tuple[str, ...] = ()  # of the hidden states that are read
        if not self.configs:
            return
        shapes = check_regularizers(experiment, model, processes)
        with torch.random.fork_rng(devices=[]):  # the caller's generator is left as it is
            torch.manual_seed(derived_seed(experiment.seed, "regularizers"))
            terms = {name: self._term(name, shapes) for name in self.configs}
        self.names = tuple(dict.fromkeys(name for term in terms.values() for name in term.names))
        self.module = Regularizers(terms)

    def _term(
        self, name: str, shapes: Mapping[str, torch.Size]
    ) -> DispersiveTerm | LayerSyncTerm | RepaTerm:
        config = self.configs[name]
        if config.name == "dispersive":
            return DispersiveTerm(config)
        if config.name == "layersync":
            return LayerSyncTerm(config)
        encoder = self.encoders[name] = create_encoder(config)
        return RepaTerm(config, token_shape(shapes[config.block])[1], encoder.dim)

    def prepare(self, accelerator: Accelerator) -> None:
        """Puts what is trained under accelerate's care: gradients of all processes, checkpoints."""
        if any(True for _ in self.module.parameters()):  # DDP refuses a module without weights
            self.module = accelerator.prepare(self.module)
        for encoder in self.encoders.values():
            encoder.to(accelerator.device)

    def watching(self, model: nn.Module) -> AbstractContextManager[dict[str, Tensor]]:
        """Inside the block, the hidden states of the model's first forward pass."""
        return hidden_states(model, self.names) if self.names else nullcontext({})

    def add(self, loss: Loss, states: Mapping[str, Tensor], images: Tensor | None) -> Loss:
        """`loss` with the weighted terms; its parts are told apart from them as "denoising".

        Args:
            images: the micro-batch, uint8 [B, C, H, W]; None if no encoder looks at them.
        """
        if not self.configs:
            return loss
        targets = {name: encoder(images) for name, encoder in self.encoders.items()}
        values: dict[str, Tensor] = self.module(states, targets)
        total = loss.total
        for name, value in values.items():
            total = total + self.configs[name].weight * value
        parts = {name: value.detach() for name, value in values.items()}
        return Loss(total, {**loss.parts, "denoising": loss.total.detach(), **parts})

    def finite(self) -> bool:
        """Whether every trained weight here is a number."""
        finite = [weight.isfinite().all() for weight in self.module.parameters()]
        return not finite or bool(torch.stack(finite).all())  # one wait for the device, not many
