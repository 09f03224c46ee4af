"""Class label and seed -> picture, with any backbone, objective and fitting diffusers scheduler."""

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from PIL import Image
from torch import Tensor

from gensynth.data.images import to_pil
from gensynth.errors import UsageError
from gensynth.pipelines.acceleration.optimize import OptimizedModel, optimize
from gensynth.pipelines.editing import edit as editing
from gensynth.pipelines.model_call import check_codebook, check_guide, fresh, guided_model
from gensynth.pipelines.saving import SavedPipeline
from gensynth.pipelines.walk import Progress, start, walk
from gensynth.samplers.guidance import check_interval
from gensynth.samplers.registry import create_scheduler, steps_range, with_options
from gensynth.seeding import picture_generator, whole_seed

SHOWCASE_BATCH = 50  # pictures drawn together in a showcase


class Settings(NamedTuple):
    """How a call draws. The scheduler is fresh, the interval None where guidance always acts."""

    steps: int
    guidance: float
    size: tuple[int, int]
    scheduler: SchedulerMixin
    guidance_interval: tuple[float, float] | None


class ClassConditionalPipeline(SavedPipeline):
    """Pictures of classes.

    Args:
        model: a backbone, `forward(sample, timestep, class_labels)`.
        scheduler: one that fits `prediction`, from `create_scheduler`.
        autoencoder: pixels <-> latents.
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

    Raises:
        UsageError: a tokenizer that is not the model's.
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
    ):
        super().__init__()
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
        )
        self.classes: list[str] = [str(n) for n in range(model.config.num_classes)]
        self.optimized: OptimizedModel | None = None

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Writes the folder that `gensynth.load` reads, with the mark of the codebook, if any."""
        if hasattr(self.autoencoder, "fingerprint"):
            self.register_to_config(codebook=self.autoencoder.fingerprint())
        super().save_pretrained(save_directory, **kwargs)

    def label_id(self, label: int | str) -> int:
        """The number of a class given by number or name (upper and lower case are the same).

        Raises:
            UsageError: no such class; the message names the nearest.
        """
        count = len(self.classes)
        if isinstance(label, str) and not re.fullmatch(r"\s*[0-9]+\s*", label):
            names = [name.lower() for name in self.classes]
            if label.strip().lower() in names:
                return names.index(label.strip().lower())
            close = difflib.get_close_matches(label.lower(), names, n=1, cutoff=0.4)
            hint = f" Did you mean {self.classes[names.index(close[0])]!r}?" if close else ""
            known = ", ".join(self.classes[:12]) + (", ..." if count > 12 else "")
            raise UsageError(f"there is no class {label!r}.{hint} Classes: {known}.")
        number = int(label)
        if not 0 <= number < count:
            raise UsageError(f"class {number} does not exist; this model knows 0-{count - 1}.")
        return number

    @torch.inference_mode()
    def __call__(
        self,
        labels: Sequence[int | str],
        seeds: Sequence[int],
        steps: int | None = None,
        guidance: float | None = None,
        size: int | tuple[int, int] | None = None,
        scheduler: str | None = None,
        on_step: Callable[[Progress], None] | None = None,
        guidance_interval: tuple[float, float] | None = None,
        guide: "ClassConditionalPipeline | None" = None,
        scheduler_options: Mapping[str, Any] | None = None,
    ) -> list[Image.Image]:
        """One picture for each pair of label and seed.

        A picture depends on its label, its seed and the settings, not on the others in the batch.

        Args:
            labels: class numbers or names, [B].
            seeds: whole numbers, [B].
            steps: steps along the path; most schedulers call the model once in each.
            guidance: guidance scale, from 1 (none).
            size: pixels, one number or (height, width).
            scheduler: name of another scheduler that fits.
            on_step: called after every step; an exception it raises ends the call.
            guidance_interval: noise levels from 0 (data) to 1 between which guidance acts.
            guide: a worse pipeline of the same kind: guidance leads away from it instead of from
                the null label (arXiv 2406.02507).
            scheduler_options: keywords of the scheduler in which it differs from the model's.

        Raises:
            UsageError: labels and seeds of unlike number, a value out of range, or a guide that
                does not fit.
        """
        steps, guidance, size, sampler, interval = self.resolve(
            steps, guidance, size, scheduler, guidance_interval, guide, scheduler_options
        )
        if len(labels) != len(seeds) or not labels:
            raise UsageError(f"{len(labels)} labels and {len(seeds)} seeds; give one of each.")
        numbers = [self.label_id(label) for label in labels]
        classes = torch.tensor(numbers, device=self.model.device)
        generators = [picture_generator(whole_seed(seed)) for seed in seeds]
        sample = start(self, sampler, size, generators)
        predict = guided_model(self, sampler, guidance, interval, guide, steps, classes)
        states = walk(self, sampler, predict, sample, steps, classes, generators)
        for sample, progress in states:  # noqa: B007 - the last one is the picture
            if on_step is not None:
                on_step(progress)
        return [to_pil(pixels) for pixels in self.autoencoder.decode(sample)]

    def edit(
        self,
        image: Image.Image,
        label: int | str | None = None,
        mask: Image.Image | None = None,
        seeds: Sequence[int] | int = (0,),
        steps: int | None = None,
        guidance: float | None = None,
        strength: float | None = None,
        scheduler: str | None = None,
        outpaint: tuple[int, int] | int | None = None,
        anchor: str = "center",
        edge: int | None = None,
        on_step: Callable[[Progress], None] | None = None,
        guidance_interval: tuple[float, float] | None = None,
        guide: "ClassConditionalPipeline | None" = None,
        scheduler_options: Mapping[str, Any] | None = None,
    ) -> list[Image.Image]:
        """The PIL image with a part drawn anew, once for each seed; see `editing.Edit`."""
        seeds = [seeds] if isinstance(seeds, int) else seeds
        outpaint = (outpaint, outpaint) if isinstance(outpaint, int) else outpaint
        how: dict[str, Any] = {"steps": steps, "guidance": guidance, "scheduler": scheduler}
        how |= {"guide": guide, "guidance_interval": guidance_interval}
        how["scheduler_options"] = scheduler_options
        wanted = editing.Edit(image, label, mask, strength, outpaint, anchor, edge, how)
        return editing.edit(self, wanted, seeds, on_step)

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

    def showcase(
        self, num: int, images: Tensor | None, on_step: Callable[[Progress], None]
    ) -> list[Image.Image]:
        """`num` pictures, classes in turn, seeds 0, 1, ...; `images` are not needed."""
        pictures: list[Image.Image] = []
        for begin in range(0, num, SHOWCASE_BATCH):
            seeds = range(begin, min(begin + SHOWCASE_BATCH, num))
            labels = [seed % len(self.classes) for seed in seeds]
            pictures += self(labels, seeds, on_step=on_step)
        return pictures

    def steps_range(self, sampler: SchedulerMixin, size: tuple[int, int]) -> tuple[int, int]:
        """The fewest and the most steps that a scheduler can take to pictures of `size`."""
        return steps_range(sampler, math.prod(self.autoencoder.latent_shape(*size)[-2:]))

    def resolve(
        self,
        steps: int | None = None,
        guidance: float | None = None,
        size: int | tuple[int, int] | None = None,
        scheduler: str | None = None,
        guidance_interval: tuple[float, float] | None = None,
        guide: "ClassConditionalPipeline | None" = None,
        scheduler_options: Mapping[str, Any] | None = None,
    ) -> Settings:
        """The settings of a call with the model's own in place of None, and a fresh scheduler.

        Raises:
            UsageError: a value out of range; the message says what is allowed.
        """
        steps = self.config.steps if steps is None else steps
        guidance = self.config.guidance if guidance is None else guidance
        size = self.config.size if size is None else size
        sampler = self.scheduler
        if scheduler not in (None, type(sampler).__name__):  # its own keeps its options
            betas = self.scheduler.config.get("beta_schedule", "linear")
            sampler = create_scheduler(
                scheduler, self.config.prediction, path=self.config.path, betas=betas
            )
        if scheduler_options:
            sampler = with_options(sampler, scheduler_options)
        if not 1 <= guidance < 1000:
            raise UsageError(f"guidance must be from 1 (none) upwards, got {guidance}.")
        given = guidance_interval or self.config.guidance_interval
        interval = None if given is None else check_interval(given)
        null_label = getattr(self.model.config, "null_label", True)
        if guidance > 1 and guide is None and not null_label:
            raise UsageError("this model was trained without a null label; guidance must be 1.")
        height, width = (size, size) if isinstance(size, int) else size
        multiple = self.model.size_multiple * self.autoencoder.patch
        if height < multiple or width < multiple or height % multiple or width % multiple:
            nearest = [max(multiple, round(side / multiple) * multiple) for side in (height, width)]
            raise UsageError(
                f"size {height}x{width} is not possible: each side must be a multiple of "
                f"{multiple}. Nearest: {nearest[0]}x{nearest[1]}."
            )
        fewest, most = self.steps_range(sampler, (height, width))
        if not fewest <= steps <= most:
            raise UsageError(
                f"steps must be from {fewest} to {most}, got {steps} ({type(sampler).__name__} "
                f"at {height}x{width})."
            )
        if guide is not None:
            check_guide(self, guide, guidance, (height, width))
        # A scheduler remembers its last run, so each call has its own.
        return Settings(steps, guidance, (height, width), fresh(sampler, self.model), interval)
