"""Which attention of which models a method can replace. Another family is one entry here."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_flux import FluxAttention
from torch import nn

from gensynth.linearize import clear, grids, linfusion
from gensynth.linearize.clear_attentions import (
    ClearFluxAttention,
    ClearJointAttention,
    ClearSelfAttention,
)
from gensynth.linearize.grids import GridOf
from gensynth.linearize.linfusion import LinFusionSelfAttention
from gensynth.models.dit import DiT
from gensynth.models.layers.grid import grid_size
from gensynth.models.layers.mixers import MIXERS
from gensynth.models.layers.mixers.softmax import SoftmaxAttention

SEPARATE = ("to_q", "to_k", "to_v", "to_out.0")
JOINED = ("qkv", "proj")


@dataclass(frozen=True)
class Family:
    """Models of one kind.

    Attributes:
        name: for people.
        model: their class.
        attentions: pattern of the whole names of their self-attentions.
        kind: the class of these.
        methods: what takes the place of that class, by method.
        layers: of an attention whose weights a linearized model has of its own, where it has them.
        grid: makes what finds height and width in a call, if the attentions are not told anyway.
        told: the keyword of the model's forward that its attentions get.
        deaf: pattern of the attentions beside them that get it too.
        latents: of a picture, one side for each token.
        usual: height and width in tokens, and tokens of text, that a model was made for.
        ours: whether attentions are token mixers that a configuration names, and told the grid.
    """

    name: str
    model: type[nn.Module]
    attentions: str
    kind: type[nn.Module]
    methods: Mapping[str, type[nn.Module]]
    layers: tuple[str, ...]
    usual: Callable[[Any], tuple[int, int, int]]
    grid: Callable[[], GridOf] | None = None
    told: str = ""
    deaf: str | None = None
    latents: Callable[[Any], int] = lambda model: 1
    ours: bool = False

    def size_of(self, attention: Any) -> tuple[int, int]:
        """Width and heads of one of them."""
        if self.ours:
            return attention.qkv.in_features, attention.num_heads
        return attention.inner_dim, attention.heads

    def attentions_of(self, model: nn.Module) -> dict[str, Any]:
        """The attentions to replace, by name, in the order of the model."""
        return {
            name: module
            for name, module in model.named_modules()
            if re.fullmatch(self.attentions, name)
            and type(module) is self.kind
            and not vars(module).get("is_cross_attention", False)
        }

    def layers_of(self, attention: nn.Module) -> dict[str, Any]:
        """The linear layers of one that a method trains, by path, with adapters around them."""
        found = {}
        for path in self.layers:
            layer: nn.Module | None = attention
            for part in path.split("."):
                layer = layer._modules.get(part) if layer is not None else None
            if layer is not None:
                found[path] = layer
        return found


def family_of(model: nn.Module) -> Family | None:
    """The entry of the table that a model belongs to."""
    return next((one for one in FAMILIES if isinstance(model, one.model)), None)


def patch(model: Any) -> int:
    return int(model.config.patch_size)


def of_unet(model: Any) -> tuple[int, int, int]:
    """At the first level with attention, which is the one with most tokens."""
    attends = [kind.startswith("CrossAttn") for kind in model.config.down_block_types]
    level = attends.index(True) if any(attends) else len(attends) - 1
    height, width = sides(model.config.sample_size)
    return max(1, height >> level), max(1, width >> level), 0


def of_sample(text: int) -> Callable[[Any], tuple[int, int, int]]:
    def usual(model: Any) -> tuple[int, int, int]:
        height, width = (
            side // model.config.patch_size for side in sides(model.config.sample_size)
        )
        return height, width, text

    return usual


def sides(sample_size: int | Sequence[int] | None) -> tuple[int, int]:
    """Height and width of the latents; 64 where a configuration does not say."""
    if sample_size is None:
        return 64, 64
    height, width = (sample_size,) * 2 if isinstance(sample_size, int) else sample_size
    return height, width


FAMILIES = (
    Family(
        name="Stable Diffusion (UNet)",
        model=diffusers.UNet2DConditionModel,
        attentions=r".+\.attn1",
        kind=Attention,
        methods={linfusion.NAME: LinFusionSelfAttention},
        layers=SEPARATE,
        usual=of_unet,
    ),
    Family(
        name="FLUX",
        model=diffusers.FluxTransformer2DModel,
        attentions=r"(single_)?transformer_blocks\.\d+\.attn",
        kind=FluxAttention,
        methods={clear.NAME: ClearFluxAttention},
        layers=SEPARATE,
        usual=lambda model: (64, 64, 512),
        grid=grids.Positions,
        told="joint_attention_kwargs",
        latents=lambda model: 2,
    ),
    Family(
        name="Stable Diffusion 3",
        model=diffusers.SD3Transformer2DModel,
        attentions=r"transformer_blocks\.\d+\.attn2?",
        kind=Attention,
        methods={clear.NAME: ClearJointAttention},
        layers=SEPARATE,
        usual=of_sample(text=333),
        grid=lambda: grids.of_latents,
        told="joint_attention_kwargs",
        latents=patch,
    ),
    Family(
        name="PixArt",
        model=diffusers.PixArtTransformer2DModel,
        attentions=r"transformer_blocks\.\d+\.attn1",
        kind=Attention,
        methods={clear.NAME: ClearSelfAttention},
        layers=SEPARATE,
        usual=of_sample(text=0),
        grid=lambda: grids.of_latents,
        told="cross_attention_kwargs",
        deaf=r"transformer_blocks\.\d+\.attn2",
        latents=patch,
    ),
    Family(
        name="DiT",
        model=DiT,
        attentions=r"blocks\.\d+\.mixer",
        kind=SoftmaxAttention,
        methods={clear.NAME: MIXERS[clear.MIXER], linfusion.NAME: MIXERS[linfusion.MIXER]},
        layers=JOINED,
        usual=lambda model: (*grid_size(model.config.input_size, model.patch_size), 0),
        ours=True,
    ),
)
