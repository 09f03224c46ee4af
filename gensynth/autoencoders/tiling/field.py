"""How far a layer looks: the window of its input that a window of its output needs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from diffusers.models.attention_processor import (
    Attention,
    SanaMultiscaleAttentionProjection,
    SanaMultiscaleLinearAttention,
)
from diffusers.models.autoencoders.autoencoder_dc import (
    DCDownBlock2d,
    DCUpBlock2d,
    EfficientViTBlock,
    ResBlock,
)
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from diffusers.models.downsampling import Downsample2D
from diffusers.models.normalization import RMSNorm
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.sana_transformer import GLUMBConv
from diffusers.models.upsampling import Upsample2D
from torch import nn

from gensynth.autoencoders.tiny import Bend, Block
from gensynth.errors import UsageError

Window = tuple[int, int]  # rows, or columns, from the first to behind the last
Corner = tuple[Window, Window]  # rows and columns


@dataclass(frozen=True)
class Step:
    """A part of a layer: it looks `radius` positions to each side, then changes the resolution."""

    radius: int = 0
    up: int = 1
    down: int = 1

    def needs(self, window: Window) -> Window:
        """Positions of the input that a window of the output is made of, beyond the edges too.

        Where resolution is lost, the window begins and ends between two positions of the output.
        """
        start, stop = (edge * self.down for edge in window)
        start, stop = start // self.up - self.radius, -(-stop // self.up) + self.radius
        return start // self.down * self.down, -(-stop // self.down) * self.down


def needs(steps: Iterable[Step], window: Window) -> Window:
    """Positions of the input of all steps that a window of their output is made of."""
    for step in reversed(list(steps)):
        window = step.needs(window)
    return window


def _convolution(layer: nn.Conv2d) -> Iterator[Step]:
    reach = max(
        (dilation * (kernel - 1) + 1) // 2
        for kernel, dilation in zip(layer.kernel_size, layer.dilation, strict=True)
    )
    yield Step(reach, down=max(layer.stride))


def _upsampling(layer: Any) -> Iterator[Step]:
    if layer.mode != "nearest":
        raise _unknown(layer)
    yield Step(up=int(layer.scale_factor))


def _upsampling_of_diffusers(layer: Any) -> Iterator[Step]:
    if layer.use_conv_transpose or not layer.interpolate:
        raise _unknown(layer)
    yield Step(up=2)
    yield from _children(layer)


def _upsampling_of_dc(layer: Any) -> Iterator[Step]:
    yield from [Step(up=2), Step(1)] if layer.interpolate else [Step(1, up=2)]


def _downsampling_of_dc(layer: Any) -> Iterator[Step]:
    yield Step(1, down=2)


def _children(layer: nn.Module) -> Iterator[Step]:
    # Branches beside each other count as if they were behind each other: never too little.
    for child in layer.children():
        yield from steps_of(child)


def _nothing(layer: nn.Module) -> Iterator[Step]:
    yield from ()


# What looks at one position alone, or (group norms and linear attention) at the whole picture by
# numbers that `whole.py` gathers.
POINTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Mish, nn.Identity, nn.Dropout, nn.Linear),
    *(RMSNorm, nn.RMSNorm, nn.BatchNorm2d, nn.GroupNorm, Bend),
)
# Layers whose steps are those of the layers in them.
COMPOSED = (
    *(nn.Sequential, nn.ModuleList, Block, AutoencoderTinyBlock, ResnetBlock2D, Downsample2D),
    *(ResBlock, EfficientViTBlock, GLUMBConv),
    *(SanaMultiscaleLinearAttention, SanaMultiscaleAttentionProjection),
)
MIXING = (Attention,)  # each position asks every other: only the whole picture will do
KINDS: dict[type[nn.Module], Callable[[Any], Iterator[Step]]] = {
    **dict.fromkeys(POINTWISE, _nothing),
    **dict.fromkeys(COMPOSED, _children),
    **dict.fromkeys(MIXING, _nothing),
    nn.Conv2d: _convolution,
    nn.Upsample: _upsampling,
    Upsample2D: _upsampling_of_diffusers,
    DCUpBlock2d: _upsampling_of_dc,
    DCDownBlock2d: _downsampling_of_dc,
}


def steps_of(layer: nn.Module) -> Iterator[Step]:
    """The steps of a layer and those within it.

    Raises:
        UsageError: a kind of layer that is not known to look at its surroundings alone.
    """
    kind = KINDS.get(type(layer))
    if kind is None:
        raise _unknown(layer)
    yield from kind(layer)


def _unknown(layer: nn.Module) -> UsageError:
    return UsageError(
        f"how far a {type(layer).__name__} looks is not known, so this autoencoder cannot work in "
        "tiles; use its own encode and decode, which take the whole picture."
    )
