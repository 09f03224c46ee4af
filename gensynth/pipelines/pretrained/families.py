"""The pipelines of diffusers that can be drawn with, and what differs between them.

Another one is an entry of `FAMILIES`. Nothing heavy is imported: what a folder's JSON files say is
checked with this table before torch is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Config = Mapping[str, Any]  # of a part, as its JSON file has it

_SHORT = ("prompt_embeds", "negative_prompt_embeds")
_POOLED = (*_SHORT, "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
_MASKED = (
    *("prompt_embeds", "prompt_attention_mask"),
    *("negative_prompt_embeds", "negative_prompt_attention_mask"),
)
# Schedulers of a diffusion whose noise a picture's own generator makes, as diffusers names them.
_DIFFUSION = (
    *("DDIMScheduler", "DDPMScheduler", "PNDMScheduler"),
    *("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"),
    *("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"),
    *("DEISMultistepScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"),
    *("LCMScheduler", "TCDScheduler"),
)
_BOTH = ("text_encoder.projection_dim", "text_encoder_2.projection_dim")
_FLOW = ("FlowMatchEulerDiscreteScheduler",)
_ANY_FLOW = (*_FLOW, "DPMSolverMultistepScheduler", "UniPCMultistepScheduler")


@dataclass(frozen=True)
class Family:
    """What is known of one pipeline.

    Attributes:
        title: what people call it.
        network: the part that is asked in every step.
        encoded: what `encode_prompt` gives, in its order, by the names that the call takes; "" for
            what it does not take.
        schedulers: that may be chosen.
        multiple: of pixels that the pipeline itself insists on, whatever its parts could do.
        packed: whether two by two latents are one token of the network (FLUX).
        shifted: whether latents have a mean beside their scale.
        by_size: whether a scheduler with `use_dynamic_shifting` is told how far to shift.
        precise: whether latents stay in float32 whatever the networks compute in (Sana).
        lowered: whether prompts are read in lower case.
        fewest: steps where a scheduler says no estimate: PixArt's loop takes that after one step.
        extra: keywords of the call in which it is not left to diffusers' defaults.
        widths: settings of the network that are sums of settings of the parts, "part.setting".
    """

    title: str
    network: str
    encoded: tuple[str, ...]
    schedulers: tuple[str, ...]
    multiple: int = 1
    packed: bool = False
    shifted: bool = False
    by_size: bool = False
    precise: bool = False
    lowered: bool = False
    fewest: int = 1
    extra: Mapping[str, Any] | None = None
    widths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def negatives(self) -> bool:
        """Whether a negative prompt can be told at all."""
        return any(name.startswith("negative") for name in self.encoded)


# At sizes the pipeline does not know these would draw another size and scale it, and what they take
# out of a prompt depends on which libraries are installed.
_AS_ASKED = {"use_resolution_binning": False, "clean_caption": False}
_CAPTIONS = {"caption_channels": ("text_encoder.hidden_size",)}
FAMILIES: dict[str, Family] = {
    "StableDiffusionPipeline": Family(
        *("Stable Diffusion", "unet", _SHORT, _DIFFUSION, 8),
        widths={"cross_attention_dim": ("text_encoder.hidden_size",)},
    ),
    "StableDiffusionXLPipeline": Family(
        *("SDXL", "unet", _POOLED, _DIFFUSION, 8),
        widths={
            "cross_attention_dim": ("text_encoder.hidden_size", "text_encoder_2.hidden_size"),
            "projection_class_embeddings_input_dim": (
                *["unet.addition_time_embed_dim"] * 6,  # numbers that say sizes
                "text_encoder_2.projection_dim",
            ),
        },
    ),
    "StableDiffusion3Pipeline": Family(
        *("Stable Diffusion 3", "transformer", _POOLED, _FLOW),
        shifted=True,
        by_size=True,
        widths={
            "joint_attention_dim": ("text_encoder_3.hidden_size",),
            "pooled_projection_dim": _BOTH,
        },
    ),
    "FluxPipeline": Family(
        *("FLUX", "transformer", ("prompt_embeds", "pooled_prompt_embeds", ""), _FLOW),
        packed=True,
        shifted=True,
        by_size=True,
        widths={
            "joint_attention_dim": ("text_encoder_2.hidden_size",),
            "pooled_projection_dim": ("text_encoder.hidden_size",),
        },
    ),
    "PixArtAlphaPipeline": Family(
        *("PixArt-Alpha", "transformer", _MASKED, _DIFFUSION, 8),
        lowered=True,
        fewest=2,
        extra=_AS_ASKED,
        widths=_CAPTIONS,
    ),
    "PixArtSigmaPipeline": Family(
        *("PixArt-Sigma", "transformer", _MASKED, _DIFFUSION, 8),
        lowered=True,
        fewest=2,
        extra=_AS_ASKED,
        widths=_CAPTIONS,
    ),
    "SanaPipeline": Family(
        *("Sana", "transformer", _MASKED, _ANY_FLOW, 32),
        precise=True,
        lowered=True,
        extra=_AS_ASKED,
        widths=_CAPTIONS,
    ),
}
# Parts that are left out: what blackens pictures, and what only pictures as prompts need.
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")
# Parts that a folder may lack: SD 3 draws without its T5 too.
OPTIONAL = {"StableDiffusion3Pipeline": ("text_encoder_3", "tokenizer_3")}
# What is drawn for whoever gives no prompt, and shown on the page to try.
EXAMPLES = (
    "a red apple on a wooden table",
    "a cat asleep on a windowsill, oil painting",
    "a lighthouse in a storm, black and white photograph",
    "a bowl of ramen seen from above",
    "a small house by a lake in autumn",
    "an astronaut in a field of sunflowers",
    "a paper boat on a wet street at night",
    "a map of an island, watercolour",
)
LENGTH = 77  # tokens of a prompt that a CLIP reads, for what is said before there is a tokenizer
FLUX_SIDE = 128  # latents of a side, whatever the weights: FluxPipeline.default_sample_size


def latent_scale(vae: Config) -> int:
    """Pixels of a side for one latent."""
    levels = vae.get("block_out_channels") or vae.get("encoder_block_out_channels") or [0] * 4
    return int(2 ** (len(levels) - 1))


def size_multiple(family: Family, vae: Config, network: Config) -> int:
    """What height and width in pixels must be multiples of."""
    patch = 2 if family.packed else network.get("patch_size", 1)
    return math.lcm(family.multiple, latent_scale(vae) * int(patch))


def own_size(family: Family, vae: Config, network: Config) -> tuple[int, int]:
    """Height and width in pixels that a pipeline draws at unless told otherwise."""
    sample = FLUX_SIDE if family.packed else network["sample_size"]
    height, width = sample if isinstance(sample, list | tuple) else (sample, sample)
    scale = latent_scale(vae)
    return int(height) * scale, int(width) * scale


def most_side(family: Family, vae: Config, network: Config) -> int | None:
    """The longest side in pixels that the network knows positions for; None: any."""
    most = network.get("pos_embed_max_size")
    return None if most is None else int(most) * int(network["patch_size"]) * latent_scale(vae)


def guided_inside(network: Config) -> bool:
    """Whether guidance is told to the network, which has learnt it, instead of asking it twice."""
    return bool(network.get("guidance_embeds") or network.get("time_cond_proj_dim"))


def takes_guidance(family: Family, network: Config) -> bool:
    """Whether there is any guidance; FLUX.1-schnell has none."""
    return family.negatives or guided_inside(network)
