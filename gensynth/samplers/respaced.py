"""Diffusion on a respaced chain, as DiT samples (diffusion/respace.py): which timesteps, and how.

diffusers' own schedulers round evenly spaced timesteps otherwise, and its DDIM takes other steps.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, repeat
from typing import Any

import torch
from diffusers.schedulers import scheduling_ddpm
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from gensynth.errors import UsageError

STRIDED = "ddim"  # before a number of steps: one whole stride between them, from 0


def respaced(spacing: str | int | Sequence[int], total: int) -> list[int]:
    """The timesteps, ascending, that a chain of `total` is reduced to.

    Args:
        spacing: how many; or how many of each of several equal sections, from data to noise; or
            both as a text, "250" or "10,20,30"; or "ddim50", that many with a whole stride.
        total: length of the full chain.

    Raises:
        UsageError: more than there are, or no stride gives that many; the nearest are named.
    """
    if isinstance(spacing, str):
        if spacing.startswith(STRIDED):
            return strided(int(spacing.removeprefix(STRIDED)), total)
        spacing = [int(part) for part in spacing.split(",")]
    counts = [spacing] if isinstance(spacing, int) else list(spacing)
    timesteps = [timestep for section in _sections(counts, total) for timestep in section]
    if not timesteps:
        raise UsageError("a spacing of no steps draws nothing; give one section at least one step.")
    return timesteps


def strided(steps: int, total: int) -> list[int]:
    """The timesteps 0, n, 2 n, ... below `total` for the smallest n that makes `steps` of them.

    Raises:
        UsageError: there is no such n; the nearest numbers of steps are named.
    """
    possible = [len(range(0, total, stride)) for stride in range(1, total)]
    if steps not in possible:
        below = max((count for count in possible if count < steps), default=None)
        above = min((count for count in possible if count > steps), default=None)
        nearest = " or ".join(str(count) for count in (below, above) if count is not None)
        raise UsageError(
            f"no whole stride makes {steps} steps of {total} timesteps. Nearest: {nearest}; even "
            "spacing with rounding makes any number."
        )
    return list(range(0, total, possible.index(steps) + 1))


def _sections(counts: Sequence[int], total: int) -> Iterator[list[int]]:
    """The timesteps of each of the equal sections; the first ones have what is left over."""
    size, left_over = divmod(total, len(counts))
    begin = 0
    for index, count in enumerate(counts):
        length = size + (index < left_over)
        if count > length:
            raise UsageError(
                f"section {index + 1} of {len(counts)} has {length} timesteps, from which {count} "
                "steps cannot be chosen."
            )
        # Added up, and rounded half to even: i * stride, as NumPy spaces, is another sum, which for
        # 278 of the 1000 counts rounds the other way somewhere.
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        places = accumulate(repeat(stride, count - 1), initial=0.0) if count else iter(())
        yield [begin + round(place) for place in places]
        begin += length


class DDPMScheduler(scheduling_ddpm.DDPMScheduler):
    """diffusers' under its own name, with the timesteps of facebookresearch/DiT (respace.py).

    Evenly spaced steps ("linspace") are those of the published list for every number of steps, and
    nothing is added to the last sample where a chain ends above timestep 0.
    """

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: list[int] | None = None,
    ) -> None:
        """The path of that many steps, or of the falling `timesteps`."""
        super().set_timesteps(num_inference_steps, device, timesteps)
        if num_inference_steps is not None and self.config.timestep_spacing == "linspace":
            ascending = respaced(num_inference_steps, self.config.num_train_timesteps)
            self.timesteps = torch.tensor(ascending[::-1], device=device)

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """The next sample; after the last timestep, the data that the model expects."""
        taken = super().step(model_output, timestep, sample, generator, return_dict)
        if int(timestep) == 0 or int(timestep) != int(self.timesteps[-1]):
            return taken
        # The mean of the last step is the data itself; diffusers adds noise to it unless it is 0.
        data = taken[1]
        if not return_dict:
            return data, data
        return scheduling_ddpm.DDPMSchedulerOutput(prev_sample=data, pred_original_sample=data)


class RespacedDDIMScheduler(DDIMScheduler):
    """DDIM on a respaced chain, as facebookresearch/DiT samples (diffusion/respace.py).

    diffusers' own takes each step to `timestep - 1000 // steps`, which is not the next timestep of
    an evenly spaced list (999, 799, 599, ... for 6 steps). This one steps along the list: the
    cumulative alphas of the chosen timesteps become a chain of their own. Where it clips the
    expected data, it takes the noise that belongs to the clipped data, as published.
    """

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: list[int] | None = None,
    ) -> None:
        """The path of that many steps from noise to data, or of the falling `timesteps`.

        Raises:
            UsageError: "leading" spacing, which is DiT's `ddimN`, with a number of steps that no
                whole stride makes.
        """
        total, spacing = self.config.num_train_timesteps, self.config.timestep_spacing
        steps = len(timesteps) if timesteps is not None else num_inference_steps
        assert steps is not None, "give a number of steps or timesteps"
        super().set_timesteps(steps, device)
        if timesteps is not None:
            self.timesteps = torch.tensor(timesteps, device=device)
        elif spacing != "trailing":
            ascending = respaced(steps, total) if spacing == "linspace" else strided(steps, total)
            self.timesteps = torch.tensor(ascending[::-1], device=device)
        places = self.timesteps.flip(0).cpu()
        self.position = {int(timestep): index for index, timestep in enumerate(places)}
        self.alphas_cumprod: Tensor = (1 - self.betas).cumprod(0)[places]
        # DDIM steps back by this divided into the length of the full chain: by one position.
        self.num_inference_steps = total

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool | None = None,
        generator: Any = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """One step from `timestep` to the next of the list; otherwise as diffusers' DDIM.

        `use_clipped_model_output` is whether the noise is that of the clipped data: None does so
        where data are clipped.
        """
        if use_clipped_model_output is None:
            use_clipped_model_output = self.config.clip_sample or self.config.thresholding
        return super().step(
            model_output,
            self.position[int(timestep)],
            sample,
            eta=eta,
            use_clipped_model_output=use_clipped_model_output,
            generator=generator,
            variance_noise=variance_noise,
            return_dict=return_dict,
        )

    def reverse_step(self, epsilon: Tensor, timestep: int | Tensor, sample: Tensor) -> Tensor:
        """DDIM inversion: the sample at the next noisier timestep; from the last, pure noise.

        `epsilon` [B, C, H, W] is the noise that the model finds in `sample` at `timestep`.
        """
        position = self.position[int(timestep)]
        here = self.alphas_cumprod[position]
        later = self.alphas_cumprod[position + 1] if position + 1 < len(self.position) else 0 * here
        image = (sample - (1 - here).sqrt() * epsilon) / here.sqrt()  # x_0
        if self.config.clip_sample:
            limit = self.config.clip_sample_range
            image = image.clamp(-limit, limit)
            epsilon = (sample - here.sqrt() * image) / (1 - here).sqrt()  # of the clipped image
        return later.sqrt() * image + (1 - later).sqrt() * epsilon
