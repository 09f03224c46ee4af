"""Class label and seed -> picture, with any backbone, objective and fitting diffusers scheduler."""

import difflib
import inspect
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from PIL import Image
from torch import Tensor

from gensynth.data.images import to_pil
from gensynth.errors import UsageError
from gensynth.guidance import classifier_free
from gensynth.schedulers import SIGMA_SCALED, create_scheduler
from gensynth.seeding import picture_generator

LABELS_FILE = "labels.json"


@dataclass
class Progress:
    """Where a batch stands. `preview()` decodes the current estimate, uint8 [B, C, H, W]."""

    step: int
    steps: int
    preview: Callable[[], Tensor]


class ClassConditionalPipeline(DiffusionPipeline):
    """Pictures of classes.

    Args:
        model: a backbone, `forward(sample, timestep, class_labels)`.
        scheduler: a diffusers scheduler that fits `prediction`.
        autoencoder: pixels <-> latents.
        prediction: "velocity" (flow; model time runs from 0 at noise to `time_scale` at data, as
            in SiT) or "epsilon" (model time is the timestep of the scheduler, as in DiT).
        time_scale: the largest time that a velocity model sees.
        size: height and width in pixels the model was trained at.
        steps, guidance: what to use when the caller does not say.
        guided_channels: how many channels guidance acts on; None for all.
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
    ):
        super().__init__()
        self.register_modules(model=model, scheduler=scheduler, autoencoder=autoencoder)
        self.register_to_config(
            prediction=prediction,
            time_scale=time_scale,
            size=size,
            steps=steps,
            guidance=guidance,
            guided_channels=guided_channels,
        )
        self.classes: list[str] = [str(n) for n in range(model.config.num_classes)]

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Writes the folder that `gensynth.load` reads: safetensors, configs and class names."""
        super().save_pretrained(save_directory, safe_serialization=True, **kwargs)
        for config in [
            *Path(save_directory).glob("*/config.json"),
            Path(save_directory) / self.config_name,
        ]:
            content = json.loads(config.read_text(encoding="utf-8"))
            content.pop("_name_or_path", None)  # where it was loaded from is nobody's business
            config.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        names = json.dumps(self.classes, ensure_ascii=False, indent=1)
        (Path(save_directory) / LABELS_FILE).write_text(names + "\n", encoding="utf-8")

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
    ) -> list[Image.Image]:
        """One picture for each pair of label and seed.

        A picture depends on its label, its seed and the settings, not on the others in the batch.

        Args:
            labels: class numbers or names, [B].
            seeds: whole numbers, [B].
            steps: model calls along the path.
            guidance: classifier-free guidance scale, from 1 (none).
            size: pixels, one number or (height, width).
            scheduler: name of another diffusers scheduler that fits.
            on_step: called after every step; an exception it raises ends the call.

        Raises:
            UsageError: labels and seeds of unlike number, or a value out of range.
        """
        steps, guidance, size, sampler = self.resolve(steps, guidance, size, scheduler)
        if len(labels) != len(seeds) or not labels:
            raise UsageError(f"{len(labels)} labels and {len(seeds)} seeds; give one of each.")
        shape = self.autoencoder.latent_shape(*size)
        device, dtype = self.model.device, self.model.dtype
        classes = torch.tensor([self.label_id(label) for label in labels], device=device)
        generators = [picture_generator(_whole_seed(seed)) for seed in seeds]
        sample = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)
        self.set_timesteps(sampler, steps)
        sample = sample * getattr(sampler, "init_noise_sigma", 1.0)
        predict = classifier_free(
            self.model, guidance, self.model.config.num_classes, self.config.guided_channels
        )

        for index, timestep in enumerate(sampler.timesteps):
            output = self.predict(predict, sampler, sample.to(dtype), timestep, classes).float()
            preview = self.previewer(sampler, output, timestep, sample)
            sample = self.step(sampler, output, timestep, sample, generators)
            if on_step is not None:
                on_step(Progress(index + 1, len(sampler.timesteps), preview))
        return [to_pil(pixels) for pixels in self.autoencoder.decode(sample)]

    def resolve(
        self,
        steps: int | None = None,
        guidance: float | None = None,
        size: int | tuple[int, int] | None = None,
        scheduler: str | None = None,
    ) -> tuple[int, float, tuple[int, int], SchedulerMixin]:
        """The settings of a call with the model's own in place of None, and a fresh scheduler.

        Raises:
            UsageError: a value out of range; the message says what is allowed.
        """
        steps = self.config.steps if steps is None else steps
        guidance = self.config.guidance if guidance is None else guidance
        size = self.config.size if size is None else size
        sampler = self.scheduler
        if scheduler is not None:
            sampler = create_scheduler(scheduler, self.config.prediction)
        most = sampler.config.num_train_timesteps
        if not 1 <= steps <= most:
            raise UsageError(f"steps must be from 1 to {most}, got {steps}.")
        if not 1 <= guidance < 1000:
            raise UsageError(f"guidance must be from 1 (none) upwards, got {guidance}.")
        if guidance > 1 and not getattr(self.model.config, "null_label", True):
            raise UsageError("this model was trained without a null label; guidance must be 1.")
        height, width = (size, size) if isinstance(size, int) else size
        multiple = self.model.size_multiple * self.autoencoder.patch
        if height < multiple or width < multiple or height % multiple or width % multiple:
            nearest = [max(multiple, round(side / multiple) * multiple) for side in (height, width)]
            raise UsageError(
                f"size {height}x{width} is not possible: each side must be a multiple of "
                f"{multiple}. Nearest: {nearest[0]}x{nearest[1]}."
            )
        # A scheduler remembers its last run, so each call has its own.
        return steps, guidance, (height, width), type(sampler).from_config(sampler.config)

    def set_timesteps(self, sampler: SchedulerMixin, steps: int) -> None:
        """Sets the path. Flow's Euler steps are equal in time, as SiT's (the default is not)."""
        if "sigmas" in inspect.signature(sampler.set_timesteps).parameters and (
            self.config.prediction == "velocity"
        ):
            sampler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
        else:
            sampler.set_timesteps(steps)

    def predict(
        self,
        predict: Callable[[Tensor, Tensor, Tensor], Tensor],
        sampler: SchedulerMixin,
        sample: Tensor,
        timestep: Tensor,
        classes: Tensor,
    ) -> Tensor:
        """What the scheduler expects at its timestep: noise - data for flow, noise for epsilon."""
        time = timestep.to(sample.device).float().expand(len(sample))
        if self.config.prediction == "velocity":
            # diffusers counts from data (0) to noise (1000), SiT from noise (0) to data (1).
            time = (1 - time / sampler.config.num_train_timesteps) * self.config.time_scale
            return -predict(sample, time, classes)
        if hasattr(sampler, "scale_model_input"):
            sample = sampler.scale_model_input(sample, timestep)
        output = predict(sample, time, classes)
        learned = getattr(sampler.config, "variance_type", None) == "learned_range"
        return output if learned else output[:, : sample.shape[1]]

    def step(
        self,
        sampler: SchedulerMixin,
        output: Tensor,
        timestep: Tensor,
        sample: Tensor,
        generators: list[torch.Generator],
    ) -> Tensor:
        """The next sample; noise a scheduler adds comes from each picture's own generator."""
        extra = {}
        if "generator" in inspect.signature(sampler.step).parameters:
            extra["generator"] = generators
        return sampler.step(output, timestep, sample, return_dict=False, **extra)[0]

    def previewer(
        self, sampler: SchedulerMixin, output: Tensor, timestep: Tensor, sample: Tensor
    ) -> Callable[[], Tensor]:
        """A function that decodes the picture the model has in mind before a step is taken."""
        sigma_scaled = type(sampler).__name__ in SIGMA_SCALED
        sigma = sampler.sigmas[sampler.step_index] if sigma_scaled else None  # moves with the step

        def decode() -> Tensor:
            noise, scale = output[:, : sample.shape[1]], 1.0
            if self.config.prediction == "velocity":
                level = timestep / sampler.config.num_train_timesteps
            elif sigma is not None:
                level = sigma
            else:
                alpha = (1 - sampler.betas).cumprod(0)[timestep.long().cpu()]
                scale, level = float(alpha.sqrt()), (1 / alpha - 1).sqrt()
            return self.autoencoder.decode(sample / scale - float(level) * noise)

        return decode


def _whole_seed(seed: int) -> int:
    if not 0 <= seed < 2**63:
        raise UsageError(f"a seed must be a whole number from 0 to 2^63 - 1, got {seed}.")
    return seed
