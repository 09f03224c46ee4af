"""DDIM on a respaced chain, as DiT samples; diffusers' own takes other steps."""

from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor


class RespacedDDIMScheduler(DDIMScheduler):
    """DDIM on a respaced chain, as facebookresearch/DiT samples (diffusion/respace.py).

    diffusers' own takes each step to `timestep - 1000 // steps`, which is not the next timestep of
    an evenly spaced list (999, 799, 599, ... for 6 steps). This one steps along the list: the
    cumulative alphas of the chosen timesteps become a chain of their own.
    """

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None
    ) -> None:
        """The path of that many steps over 0..999, from noise to data."""
        super().set_timesteps(num_inference_steps, device)
        ascending = self.timesteps.flip(0).cpu()
        self.position = {int(timestep): index for index, timestep in enumerate(ascending)}
        self.alphas_cumprod: Tensor = (1 - self.betas).cumprod(0)[ascending]
        # DDIM steps back by this divided into the length of the full chain: by one position.
        self.num_inference_steps = self.config.num_train_timesteps

    def step(self, model_output: Tensor, timestep: int | Tensor, *args: Any, **kwargs: Any) -> Any:
        """One step from `timestep` to the next of the list; otherwise as diffusers' DDIM."""
        return super().step(model_output, self.position[int(timestep)], *args, **kwargs)

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
