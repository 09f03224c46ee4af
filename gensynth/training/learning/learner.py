"""What learns in a run: a batch in, a loss and its gradients out."""

from contextlib import ExitStack, nullcontext
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from gensynth.data.training import Batch
from gensynth.experiments.apply import compile_blocks
from gensynth.experiments.assemble import Parts
from gensynth.experiments.beginning.tuning import Tuning
from gensynth.objectives import Loss
from gensynth.seeding import StepRandom
from gensynth.training.learning.optim import create_optimizer


class Learner:
    """Model, autoencoder, objective and regularizers of an experiment, under accelerate's care.

    Attributes:
        model, bare_model: with and without the wrapper of several processes.
        weights: all that are trained, also those of the objective and of regularizers; of the
        model those that `tuning` does not freeze.
    newest: what was seen of the newest micro-batch: images, if the data hold any, and latents.
    """

    def __init__(self, parts: Parts, accelerator: Accelerator, tuning: Tuning | None = None):
        self.accelerator, self.device = accelerator, accelerator.device
        self.newest: tuple[Tensor | None, Tensor] | None = None
        experiment = parts.experiment
        self.condition, self.autoencoder = parts.condition, parts.autoencoder
        self.objective, self.regularization = parts.objective, parts.regularization
        if experiment.training.compile:
            compile_blocks(parts.model, self.regularization.names)
        # What the objective trains beside the model, such as a discriminator.
        self.beside: nn.Module = self.objective.trained or nn.Identity()
        trained = nn.ModuleList([parts.model, self.regularization.module, self.beside])
        frozen = tuning.frozen if tuning is not None else frozenset()
        left_out = {id(w) for name, w in parts.model.named_parameters() if name in frozen}
        self.weights = [w for w in trained.parameters() if id(w) not in left_out]
        optimizer = create_optimizer(nn.ParameterList(self.weights), experiment.optimizer)
        self.model, self.optimizer = accelerator.prepare(parts.model, optimizer)
        self.bare_model = accelerator.unwrap_model(self.model)
        self.regularization.prepare(accelerator)
        self._prepare_objective()

    def _prepare_objective(self) -> None:
        if any(True for _ in self.beside.parameters()):  # DDP refuses a module without weights
            self.beside = self.objective.trained = self.accelerator.prepare(self.beside)
        if self.objective.state is not None:  # without weights, so not wrapped for processes
            self.objective.state = self.accelerator.prepare_model(
                self.objective.state, evaluation_mode=True
            )

    def backward(self, batch: Batch, random: StepRandom, parts: int, last: bool) -> Loss:
        """Adds the gradients of one of `parts` micro-batches; they are exchanged after the last."""
        images, latents = self.newest = self.seen(batch, random)
        shown = batch.texts if self.condition.reads == "texts" else batch.labels
        assert shown is not None
        conditions = self.condition.encode(shown, self.device)
        passes = self.passes(random.apart("model"), latents, batch.crops)
        with nullcontext() if last else self.no_sync():  # gradients are exchanged once a step
            with (
                random.for_dropout(),
                self.accelerator.autocast(),
                self.regularization.watching(self.bare_model) as states,
            ):
                loss = self.objective.loss(self.model, latents, conditions, random, passes)
                loss = self.regularization.add(loss, states, images)
            self.accelerator.backward(loss.total / parts)  # gradients add up to those of the mean
        return loss

    def update(self, clip: float | None) -> bool:
        """Moves the weights along the gradients of all micro-batches, cut off at a norm of `clip`.

        False if nothing was moved, as the gradients had overflowed (fp16).
        """
        if clip is not None:
            self.accelerator.clip_grad_norm_(self.weights, clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return not self.accelerator.optimizer_step_was_skipped

    def seen(self, batch: Batch, random: StepRandom) -> tuple[Tensor | None, Tensor]:
        """Images, if the data hold them, and what the model is trained on, on the device."""
        if batch.latents is not None:
            return None, batch.latents.to(self.device, non_blocking=True)
        assert batch.images is not None
        images = batch.images.to(self.device, non_blocking=True)
        # Randomness of its own: a VAE draws here, pixels do not, and the rest stays the same.
        return images, self.autoencoder.encode(images, random.apart("autoencoder"))

    def images(self, most: int) -> Tensor | None:
        """Some images of the newest micro-batch, uint8 [B, C, H, W].

        What was encoded before is decoded for a tokenizer, which has nothing else to show.
        """
        if self.newest is None:
            return None
        images, latents = self.newest
        if images is None and not self.bare_model.draws:
            images = self.autoencoder.decode(latents[:most])
        return images

    def passes(
        self, random: StepRandom, latents: Tensor, crops: Tensor | None
    ) -> list[dict[str, Any]]:
        """Further keywords of each forward pass of a step, of the model."""
        if not self.bare_model.draws:
            return [{}]
        crops = None if crops is None else crops.to(self.device)
        return self.bare_model.training_passes(random, *latents.shape[-2:], crops)

    def no_sync(self) -> ExitStack:
        """Inside, processes keep their gradients to themselves."""
        stack = ExitStack()
        for module in (self.model, self.regularization.module, self.beside):
            stack.enter_context(self.accelerator.no_sync(module))
        return stack

    def finite(self) -> bool:
        """Whether every weight beside the model's is a number."""
        beside = all(bool(weight.isfinite().all()) for weight in self.beside.parameters())
        return beside and self.regularization.finite()
