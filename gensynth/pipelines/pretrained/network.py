"""The network inside a pipeline of diffusers, called as a backbone of ours is: for training."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gensynth.seeding import StepRandom

Told = dict[str, Tensor]  # what prompts say, by the keywords of the pipeline's call
Call = Callable[["Network", Tensor, Tensor, Told], Tensor]


class Network(nn.Module):
    """latents [B, C, H, W], time [B] and encoded prompts -> the prediction, [B, C, H, W].

    Args:
        inner: the pipeline, one of `FAMILIES`.
        guidance: that the network is told if it takes one (FLUX.1-dev).
    """

    works_on: ClassVar[str] = "latents"
    draws: ClassVar[bool] = True

    def __init__(self, inner: Any, name: str, guidance: float):
        super().__init__()
        self.pipeline_class: Any = type(inner)
        self.network = getattr(inner, name)
        self.pixels = int(inner.vae_scale_factor)  # of a side, for one latent
        self.guidance = guidance
        packed = self.pipeline_class.__name__ == "FluxPipeline"
        self.size_multiple = 2 if packed else _patch(self.network)

    @property
    def config(self) -> Any:
        return self.network.config

    @property
    def dtype(self) -> torch.dtype:
        found: torch.dtype = self.network.dtype
        return found

    @property
    def device(self) -> torch.device:
        found: torch.device = self.network.device
        return found

    def training_passes(
        self, random: StepRandom, height: int, width: int, crops: Tensor | None = None
    ) -> list[dict[str, Any]]:
        """As of a `Backbone`: one pass without further keywords."""
        return [{}]

    def enable_gradient_checkpointing(self) -> None:
        self.network.enable_gradient_checkpointing()

    def forward(self, sample: Tensor, time: Tensor, **told: Tensor) -> Tensor:
        """`time` [B]: timesteps of the pipeline's scheduler, 0 to 1000."""
        return CALLS[self.pipeline_class.__name__](self, sample, time, told)


def _patch(network: Any) -> int:
    levels = network.config.get("block_out_channels")
    if levels is not None:  # a UNet, which halves between its levels
        return int(2 ** (len(levels) - 1))
    return int(network.config.patch_size)


def _unet(net: Network, sample: Tensor, time: Tensor, told: Told) -> Tensor:
    further: dict[str, Any] = {}
    if "pooled_prompt_embeds" in told:
        height, width = (side * net.pixels for side in sample.shape[-2:])
        # the size before cropping, the crop's corner, the size asked for
        ids = sample.new_tensor([[height, width, 0, 0, height, width]]).expand(len(sample), -1)
        pooled = told["pooled_prompt_embeds"]
        further["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": ids}
    return _first(
        net.network(
            sample,
            time,
            encoder_hidden_states=told["prompt_embeds"],
            return_dict=False,
            **further,
        )
    )


def _sd3(net: Network, sample: Tensor, time: Tensor, told: Told) -> Tensor:
    return _first(
        net.network(
            hidden_states=sample,
            timestep=time,
            encoder_hidden_states=told["prompt_embeds"],
            pooled_projections=told["pooled_prompt_embeds"],
            return_dict=False,
        )
    )


def _flux(net: Network, sample: Tensor, time: Tensor, told: Told) -> Tensor:
    batch, channels, height, width = sample.shape
    words, packing = told["prompt_embeds"], net.pipeline_class
    guidance = sample.new_full([batch], net.guidance) if net.config.guidance_embeds else None
    places = packing._prepare_latent_image_ids(
        batch, height // 2, width // 2, sample.device, words.dtype
    )
    output = _first(
        net.network(
            hidden_states=packing._pack_latents(sample, batch, channels, height, width),
            timestep=time / 1000,
            guidance=guidance,
            pooled_projections=told["pooled_prompt_embeds"],
            encoder_hidden_states=words,
            txt_ids=words.new_zeros(words.shape[1], 3),
            img_ids=places,
            return_dict=False,
        )
    )
    pixels = (height * net.pixels, width * net.pixels)
    unpacked: Tensor = packing._unpack_latents(output, *pixels, net.pixels)
    return unpacked


def _pixart(net: Network, sample: Tensor, time: Tensor, told: Told) -> Tensor:
    sizes: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
    if net.network.use_additional_conditions:
        height, width = (float(side * net.pixels) for side in sample.shape[-2:])
        sizes["resolution"] = sample.new_tensor([[height, width]]).expand(len(sample), -1)
        sizes["aspect_ratio"] = sample.new_full([len(sample), 1], height / width)
    output = _first(
        net.network(
            sample,
            encoder_hidden_states=told["prompt_embeds"],
            encoder_attention_mask=told["prompt_attention_mask"],
            timestep=time,
            added_cond_kwargs=sizes,
            return_dict=False,
        )
    )
    return output[:, : sample.shape[1]]  # without the variance


def _first(outputs: tuple[Tensor, ...]) -> Tensor:
    return outputs[0]


CALLS: dict[str, Call] = {
    "StableDiffusionPipeline": _unet,
    "StableDiffusionXLPipeline": _unet,
    "StableDiffusion3Pipeline": _sd3,
    "FluxPipeline": _flux,
    "PixArtAlphaPipeline": _pixart,
    "PixArtSigmaPipeline": _pixart,
}
