"""The autoencoder of a pipeline of diffusers as one of our codecs, with the same weights."""

from typing import Any

import torch

from gensynth.autoencoders.dc import DCAutoencoder
from gensynth.autoencoders.kl import KLAutoencoder
from gensynth.autoencoders.taesd import TaesdAutoencoder
from gensynth.errors import UsageError

OURS: dict[str, Any] = {
    "AutoencoderKL": KLAutoencoder,
    "AutoencoderDC": DCAutoencoder,
    "AutoencoderTiny": TaesdAutoencoder,
}


def codec_of(autoencoder: Any) -> Any:
    """A codec whose weights are those of diffusers' autoencoder; a codec of ours as it is.

    It takes latents as the pipelines' denoisers have them, scaled, and gives uint8 pixels.

    What asks to be computed in 32 bits (SDXL's) and is in 16 gets weights of its own in 32.

    Raises:
        UsageError: an autoencoder that is none of `OURS`, or whose latents are scaled by channel.
    """
    name = type(autoencoder).__name__
    if hasattr(autoencoder, "patch"):
        return autoencoder
    if name not in OURS or autoencoder.config.get("latents_mean") is not None:
        raise UsageError(
            f"this {name} is not decoded in tiles of ours, which are for {', '.join(OURS)} with "
            "one scale for all channels; use its own tiles (--load vae_tiling=true)."
        )
    with torch.device("meta"):  # so that no weights are made but to be thrown away
        codec = OURS[name].from_config(autoencoder.config)
    codec.load_state_dict(autoencoder.state_dict(), assign=True)
    if codec.dtype == torch.float16 and codec.config.get("force_upcast"):
        codec = codec.float()  # numbers of SDXL's decoder are too large for 16 bits
    return codec.eval().requires_grad_(False)
