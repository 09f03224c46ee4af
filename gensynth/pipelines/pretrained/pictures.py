"""Latents of a pretrained pipeline -> pixels, and what a step expects at the end."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gensynth.pipelines.pretrained.families import Family


def decode(inner: Any, family: Family, latents: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels uint8 [B, C, H, W] of latents."""
    return pixels(inner, decoded(inner, family, latents, size))


def decoded(inner: Any, family: Family, latents: Tensor, size: tuple[int, int]) -> Tensor:
    """What the autoencoder gives for latents, [B, C, H, W], as the pipeline itself decodes them.

    Args:
        latents: [B, C, h, w], or FLUX's [B, h * w / 4, 4 * C].
    """
    vae, config = inner.vae, inner.vae.config
    if family.packed:
        latents = inner._unpack_latents(latents, *size, inner.vae_scale_factor)
    mean, deviation = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and deviation is not None:
        rows = torch.tensor([mean, deviation]).to(latents)[:, None, :, None, None]
        latents = latents * rows[1] / config.scaling_factor + rows[0]
    else:
        latents = latents / config.scaling_factor
    if family.shifted:
        latents = latents + config.shift_factor
    # Numbers of SDXL's decoder are too large for 16 bits with 5 of exponent.
    upcast = vae.dtype == torch.float16 and bool(config.get("force_upcast"))
    try:
        if upcast:
            vae.to(torch.float32)
        image: Tensor = vae.decode(
            latents.to(inner._execution_device, vae.dtype), return_dict=False
        )[0]
    finally:
        if upcast:
            vae.to(torch.float16)
    return image


def pixels(inner: Any, decoded: Tensor) -> Tensor:
    """uint8 [B, C, H, W] of what the autoencoder gave."""
    shares = inner.image_processor.postprocess(decoded, output_type="pt")
    return (shares.float() * 255).round().to(torch.uint8).cpu()


def sketch(inner: Any, family: Family, latents: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels uint8 [B, 3, H, W] of three channels of latents, without the decoder.

    For pipelines whose networks are moved to and fro: decoding would move them in every step.
    """
    if family.packed:
        latents = inner._unpack_latents(latents, *size, inner.vae_scale_factor)
    some = latents[:, :3].float()
    low, high = some.amin(dim=(1, 2, 3), keepdim=True), some.amax(dim=(1, 2, 3), keepdim=True)
    shares = (some - low) / (high - low).clamp(min=1e-6)
    return interpolate((shares * 255).round(), size=size).to(torch.uint8).cpu()


def expected(scheduler: Any, call: int, said: Tensor, time: Any, sample: Tensor) -> Tensor:
    """The latents that a network expects at the end, of what it says of a sample in a step.

    For schedulers whose steps do not tell it themselves.

    Args:
        call: how many steps there were before.
        said: by the network: noise, velocity or data, by the scheduler's `prediction_type`.
    """
    if hasattr(scheduler, "precondition_outputs"):  # of EDM
        return cast(Tensor, scheduler.precondition_outputs(sample, said, scheduler.sigmas[call]))
    alpha, sigma = _signal_and_noise(scheduler, call, time)
    kind = scheduler.config.get("prediction_type", "flow_prediction")
    if kind == "sample":
        return said
    if kind == "flow_prediction":
        return sample - sigma * said
    if kind == "v_prediction":
        return alpha * sample - sigma * said
    return (sample - sigma * said) / alpha


def _signal_and_noise(scheduler: Any, call: int, time: Any) -> tuple[float, float]:
    """How much of a sample before a step is signal and how much is noise."""
    if "sigmas" not in vars(scheduler):
        share = float(scheduler.alphas_cumprod[int(time)])
        return share**0.5, (1 - share) ** 0.5
    sigma = float(scheduler.sigmas[call])
    flow = scheduler.config.get("use_flow_sigmas") or "prediction_type" not in scheduler.config
    if flow:
        return 1 - sigma, sigma
    alpha = (1 + sigma * sigma) ** -0.5  # its sigmas are noise for each part of signal
    return alpha, sigma * alpha
