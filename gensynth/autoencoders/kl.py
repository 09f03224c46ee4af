"""A pretrained variational autoencoder's latents, as Stable Diffusion's (arXiv 2112.10752)."""

from typing import Any, Self

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

# diffusers' pipelines look here for the name of the base class that knows how to load.
from diffusers.models.modeling_utils import ModelMixin as ModelMixin
from safetensors import SafetensorError
from torch import Tensor

from gensynth.autoencoders.levels import from_levels, to_levels
from gensynth.errors import CorruptError, InputError, UsageError
from gensynth.seeding import StepRandom

ADVICE = (
    "Give the folder or hub id of a diffusers AutoencoderKL with safetensors "
    "(autoencoder.path=FOLDER; --vae FOLDER of gensynth convert)."
)


class KLAutoencoder(AutoencoderKL):
    """diffusers' AutoencoderKL between uint8 images and scaled latents; frozen, float32.

    A subclass, so that the folder it is saved to is a plain diffusers VAE as well: any folder or
    hub id of one loads here, and what is saved here loads there.
    """

    kind = "kl"
    channels = 3

    @classmethod
    def open(cls, path: str) -> Self:
        """The frozen VAE of a local folder or a hub id in diffusers' format, from safetensors only.

        Raises:
            InputError: there is none, or it cannot be fetched.
            CorruptError: its weights are damaged or not those of its configuration.
            UsageError: it is another kind of autoencoder.
        """
        try:
            settings = cls.load_config(path)
        except (OSError, ValueError) as error:
            raise InputError(
                f"there is no autoencoder at {path!r}, and as a hub id it cannot be fetched: "
                f"{_first_line(error)}. {ADVICE}"
            ) from error
        _check_settings(path, settings)
        try:
            vae, report = cls.from_pretrained(
                path,
                use_safetensors=True,
                torch_dtype=torch.float32,
                low_cpu_mem_usage=False,
                output_loading_info=True,
            )
        except OSError as error:
            raise InputError(
                f"the weights of the autoencoder {path!r} cannot be fetched or read: "
                f"{_first_line(error)}. {ADVICE}"
            ) from error
        except (SafetensorError, RuntimeError, ValueError, TypeError) as error:
            raise CorruptError(
                f"the autoencoder {path!r} is damaged: {_first_line(error)}. {ADVICE}"
            ) from error
        # diffusers leaves a missing tensor at its random start and only logs it.
        if report["missing_keys"]:
            some = ", ".join(sorted(report["missing_keys"])[:3])
            raise CorruptError(f"the autoencoder {path!r} lacks weights: {some}. {ADVICE}")
        return vae.eval().requires_grad_(False)

    @property
    def patch(self) -> int:
        """Side in pixels of the square that one latent position stands for."""
        return 2 ** (len(self.config.block_out_channels) - 1)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channels, height, width) of the latents of an image of that size in pixels."""
        return self.config.latent_channels, height // self.patch, width // self.patch

    @torch.no_grad()
    def encode(self, images: Tensor, random: StepRandom | None = None) -> Tensor:
        """uint8 [B, 3, H, W] -> float32 [B, C, H / patch, W / patch], of about unit variance.

        With `random` a sample of the posterior, as DiT trains; without, its mean.
        """
        posterior = super().encode(from_levels(images)).latent_dist
        latents = posterior.mean
        if random is not None:
            latents = latents + posterior.std * random.normal(*latents.shape[1:])
        return (latents - self.shift) * self.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> uint8 [B, 3, H, W]."""
        latents = latents.to(self.dtype) / self.config.scaling_factor + self.shift
        return to_levels(super().decode(latents).sample)

    @property
    def shift(self) -> float:
        """What is taken from the latents before they are scaled; 0 for Stable Diffusion's."""
        return self.config.shift_factor or 0.0


def _check_settings(path: str, settings: dict[str, Any]) -> None:
    kind = settings.get("_class_name")
    if kind not in (AutoencoderKL.__name__, KLAutoencoder.__name__):
        raise UsageError(f"{path!r} is a {kind}; autoencoder.kind kl takes an AutoencoderKL.")
    if settings.get("in_channels", 3) != 3 or settings.get("out_channels", 3) != 3:
        raise UsageError(f"the autoencoder {path!r} is not one of RGB images.")
    if settings.get("latents_mean") is not None or settings.get("latents_std") is not None:
        raise UsageError(
            f"the autoencoder {path!r} scales its channels one by one (latents_mean, latents_std), "
            "which kind kl does not; take one with a scaling_factor."
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
