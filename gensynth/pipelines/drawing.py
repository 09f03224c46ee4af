"""Condition and seed -> picture, with any backbone, condition, objective and fitting sampler."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from PIL import Image
from torch import Tensor

from gensynth.conditions import Condition, Item
from gensynth.conditions import condition_kind as find_kind
from gensynth.data.images import to_pil
from gensynth.errors import UsageError
from gensynth.pipelines.acceleration.optimize import OptimizedModel, optimize
from gensynth.pipelines.contract import OnStep, Progress, Resolved, shown_in_turn
from gensynth.pipelines.editing import edit as editing
from gensynth.pipelines.fit import check_codebook, check_drawable
from gensynth.pipelines.highres import upscale as upscaling
from gensynth.pipelines.highres.contract import Kept
from gensynth.pipelines.highres.decoding import pixels_of
from gensynth.pipelines.highres.strategies import strategy_of
from gensynth.pipelines.model_call import sampler_of
from gensynth.pipelines.resolving import positions, resolve
from gensynth.pipelines.saving import SavedPipeline
from gensynth.samplers.contract import Step
from gensynth.samplers.guidance import check_interval
from gensynth.samplers.registry import misfit
from gensynth.settings import Settings
from gensynth.whole import listed


class DrawingPipeline(SavedPipeline):
    """Pictures of what a model was trained to show.

    Args:
        model: a `models.backbone.Backbone`.
        scheduler: one that fits `prediction`, from `create_scheduler`.
        autoencoder: pixels <-> latents or tokens.
        prediction: "velocity", "noise", "score" or "x" (flow; model time runs from 0 at noise to
            `time_scale` at data, as in SiT), "epsilon" (model time is the timestep of the
            scheduler, as in DiT) or "tokens" (logits of masked tokens; the scheduler is a decoder).
        time_scale: the largest time that a flow model sees.
        size: height and width in pixels the model was trained at.
        steps, guidance: what to use when the caller does not say.
        guided_channels: how many channels guidance acts on; None for all.
        guidance_schedule, guidance_power: "constant", or MDT's "power-cosine" with that power.
        guidance_interval: noise levels (low, high) between which guidance acts; None for all.
        ddpm_prediction: what a model of an "epsilon" pipeline says, "epsilon", "x" or "v".
        path: of a flow, "linear", "gvp" or "vp".
        codebook: `fingerprint()` of the tokenizer that the model was trained with; None: any.
        fit: how the training images were brought to their size, "crop" or "pad".
        condition_kind: what pictures can show, a key of `conditions.CONDITIONS`.

    Raises:
        UsageError: a tokenizer that is not the model's, or a scheduler of another kind.
    """

    def __init__(
        self,
        model: ModelMixin,
        scheduler: SchedulerMixin,
        autoencoder: ModelMixin,
        prediction: str = "velocity",
        time_scale: float = 1.0,
        size: int = 32,
        steps: int = 50,
        guidance: float = 1.0,
        guided_channels: int | None = None,
        guidance_schedule: str = "constant",
        guidance_power: float = 4.0,
        guidance_interval: Sequence[float] | Mapping[str, float] | None = None,
        ddpm_prediction: str = "epsilon",
        path: str = "linear",
        codebook: str | None = None,
        fit: str = "crop",
        condition_kind: str = "classes",
    ):
        super().__init__()
        Settings(steps=steps, guidance=guidance, size=size)  # refuses what none can be
        check_codebook(model, autoencoder, codebook)
        if guidance_interval is not None:
            # Not a list: diffusers takes a pair in a saved index for a module and its class.
            low, high = check_interval(guidance_interval)
            guidance_interval = {"low": low, "high": high}
        self.register_modules(model=model, scheduler=scheduler, autoencoder=autoencoder)
        self.register_to_config(
            prediction=prediction,
            time_scale=time_scale,
            size=size,
            steps=steps,
            guidance=guidance,
            guided_channels=guided_channels,
            guidance_schedule=guidance_schedule,
            guidance_power=guidance_power,
            guidance_interval=guidance_interval,
            ddpm_prediction=ddpm_prediction,
            path=path,
            codebook=codebook,
            fit=fit,
            condition_kind=condition_kind,
        )
        self.check_scheduler(scheduler)
        self.name = type(model).__name__  # until `load` knows the name it was asked for
        self.condition: Condition = find_kind(condition_kind).of_model(model)
        self.optimized: OptimizedModel | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        """As in every pipeline of diffusers a part can be replaced, but not by one that misfits.

        Raises:
            UsageError: a scheduler of another kind than the model; the message says which fit.
        """
        if name == "scheduler" and "scheduler" in vars(self):
            self.check_scheduler(value, self.scheduler)
        super().__setattr__(name, value)

    def check_scheduler(self, scheduler: Any, before: Any = None) -> None:
        """Refuses a scheduler that cannot draw with the model; `before` is one that can."""
        reason = misfit(scheduler, self.config.prediction, self.config.path, before)
        if reason is not None:
            raise UsageError(reason)

    @property
    def channels(self) -> int:
        """Of a picture: 1 (grey) or 3 (RGB)."""
        return self.autoencoder.channels

    def check(self) -> None:
        """Raises UsageError if its parts cannot draw together."""
        check_drawable(self)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Writes the folder that `gensynth.load` reads, with the mark of the codebook, if any."""
        codebook = self.autoencoder.fingerprint()
        if codebook is not None:
            self.register_to_config(codebook=codebook)
        super().save_pretrained(save_directory, **kwargs)

    def resolve(self, settings: Settings | None = None) -> Resolved:
        """The settings of a call with the model's own in place of None, and a fresh sampler.

        Raises:
            UsageError: a value out of range; the message says what is allowed.
        """
        return resolve(self, settings or Settings())

    @torch.inference_mode()
    def draw(
        self,
        items: Sequence[Item],
        seeds: Sequence[int] | int,
        settings: Settings | None = None,
        on_step: OnStep | None = None,
        kept: Kept | None = None,
    ) -> list[Image.Image]:
        """One picture for each pair of item and seed.

        A picture depends on its item, its seed and the settings, not on the others in the batch.

        Args:
            items: of the pipeline's condition, [B].
            seeds: whole numbers, [B]: a list, a range, an array or a tensor.
            on_step: called after every step; an exception it raises ends the call.
            kept: latents of finished stages of pictures that are drawn in several.

        Raises:
            UsageError: items and seeds of unlike number, or a value out of range.
        """
        latents = self.latents(items, seeds, settings, on_step, kept)
        return [to_pil(pixels) for pixels in pixels_of(self.autoencoder, latents)]

    @torch.inference_mode()
    def latents(
        self,
        items: Sequence[Item],
        seeds: Sequence[int] | int,
        settings: Settings | None = None,
        on_step: OnStep | None = None,
        kept: Kept | None = None,
    ) -> Tensor:
        """What `draw` decodes: latents [B, C, h, w] or tokens [B, h, w]."""
        resolved = self.resolve(settings)
        items, seeds = listed(items, "labels"), listed(seeds, "seeds")
        if len(items) != len(seeds) or not items:
            raise UsageError(f"{len(items)} labels and {len(seeds)} seeds; give one of each.")
        items = [self.condition.item(item) for item in items]
        decode = partial(pixels_of, self.autoencoder)
        for step in self.walk(items, seeds, resolved, kept):
            if on_step is not None:
                on_step(Progress.of(step, decode))
        return step.sample

    def walk(
        self,
        items: Sequence[Item],
        seeds: Sequence[int],
        resolved: Resolved,
        kept: Kept | None = None,
    ) -> Iterator[Step]:
        """Every step from noise to data, for pairs of item and seed; nothing is decoded."""
        strategy = strategy_of(resolved.settings)
        return strategy.walk(self, items, seeds, resolved, kept)

    def edit(
        self,
        image: Image.Image,
        label: Any = None,
        mask: Image.Image | None = None,
        seeds: Sequence[int] | int = (0,),
        strength: float | None = None,
        outpaint: tuple[int, int] | int | None = None,
        anchor: str = "center",
        edge: int | None = None,
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> list[Image.Image]:
        """The PIL image with a part drawn anew, once for each seed; see `editing.edit.Edit`."""
        how = Settings.of(**settings)
        canvas = editing.canvas_size(outpaint)
        wanted = editing.Edit(image, label, mask, strength, canvas, anchor, edge, how)
        return editing.edit(self, wanted, listed(seeds, "seeds"), on_step)

    def upscale(
        self,
        image: Image.Image,
        shown: Any = None,
        size: tuple[int, int] | None = None,
        times: float = 4.0,
        seeds: Sequence[int] | int = (0,),
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> list[Image.Image]:
        """The PIL image enlarged and refined, once for each seed; see `highres.upscale`."""
        wanted = upscaling.Upscaling(image, shown, size, times, Settings.of(**settings))
        return upscaling.upscale(self, wanted, listed(seeds, "seeds"), on_step)

    def optimize(
        self,
        compile: bool | Mapping[str, Any] | None = None,
        tables: bool | None = None,
        graphs: bool | None = None,
    ) -> list[str]:
        """Sentences that say what now makes drawing faster, and what does not and why.

        Pictures stay the same up to rounding. See `pipelines.acceleration.optimize`.
        """
        return optimize(self, compile, tables, graphs)

    def showcase(self, num: int, images: Tensor | None, on_step: OnStep) -> list[Image.Image]:
        """`num` pictures, all items in turn, seeds 0, 1, ...; `images` are not needed."""
        return shown_in_turn(self, num, on_step)

    def steps_range(self, size: tuple[int, int]) -> tuple[int, int]:
        """The fewest and the most steps that its scheduler takes for pictures of `size`."""
        return sampler_of(self, self.scheduler).steps_range(positions(self, size))
