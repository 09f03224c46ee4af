"""DiCo: a class-conditional diffusion ConvNet (arXiv 2505.11196; shallowdream204/DiCo).

What is unusual:
- a U-shaped hourglass of three levels without patchify and without attention: the only spatial
  mixing is a depthwise 3x3, followed by compact channel attention;
- the last decoder level runs at twice the base width and reuses the second level's condition;
- each level has its own timestep embedder and its own class table.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from gensynth.models.backbone import Backbone
from gensynth.models.layers.checkpointing import run_block
from gensynth.models.layers.checks import check_classes, check_levels, check_ratio, check_whole
from gensynth.models.layers.conditioning import (
    TimestepEmbedder,
    channel_norm,
    modulate,
    over_batch,
    stage_conditions,
)
from gensynth.models.layers.resample import downsample, upsample
from gensynth.models.layers.text import COARSE, CrossAttention, TextInput, Words, words_width
from gensynth.ops.dwconv_gelu_pool import dwconv_gelu_pool
from gensynth.ops.gated_projection import gated_projection
from gensynth.ops.plain import is_plain


class ChannelAttention(nn.Module):
    """Compact channel attention: each channel scaled by a sigmoid of all channel means."""

    def __init__(self, channels: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, mean: Tensor) -> Tensor:
        """Means of the channels [B, C] -> their scales [B, C] in (0, 1)."""
        return torch.sigmoid(self.proj(mean[:, :, None, None])).flatten(1)


class DiCoBlock(nn.Module):
    """Convolution module and feed-forward, each modulated and gated (adaLN-Zero)."""

    def __init__(self, channels: int, mlp_ratio: float, words_width: int | None = None):
        super().__init__()
        inner = int(channels * mlp_ratio)
        self.conv_in = nn.Conv2d(channels, channels, 1)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.channel_attention = ChannelAttention(channels)
        self.conv_out = nn.Conv2d(channels, channels, 1)
        self.mlp_in = nn.Conv2d(channels, inner, 1)
        self.mlp_out = nn.Conv2d(inner, channels, 1)
        self.modulation = nn.Linear(channels, 6 * channels)
        self.act = nn.GELU()
        self.cross = None if words_width is None else CrossAttention(channels, words_width)

    def forward(self, sample: Tensor, condition: Tensor, words: Words | None = None) -> Tensor:
        """sample [B, C, H, W], condition [B, C] after its SiLU -> [B, C, H, W]."""
        shift_conv, scale_conv, gate_conv, shift_mlp, scale_mlp, gate_mlp = self.modulation(
            condition
        ).chunk(6, dim=1)
        # Convolution module: 1x1, depthwise 3x3, GELU, channel attention, 1x1 (figure 4).
        hidden = self.conv_in(modulate(channel_norm(sample), shift_conv, scale_conv))
        hidden, mean = gelu_and_mean(self.depthwise, hidden)  # mean is [B, C]
        scale = self.channel_attention(mean)  # [B, C]
        sample = gated(self.conv_out, sample, hidden, gate_conv, scale)
        if self.cross is not None and words is not None:  # ours: the paper has classes only
            sample = sample + self.cross.over_map(channel_norm(sample), words)
        # Feed-forward of 1x1 convolutions, [B, C, H, W] -> [B, mlp_ratio * C, H, W] and back.
        hidden = self.act(self.mlp_in(modulate(channel_norm(sample), shift_mlp, scale_mlp)))
        return gated(self.mlp_out, sample, hidden, gate_mlp)


def gelu_and_mean(depthwise: nn.Module, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """GELU of the depthwise convolution of `hidden` [B, C, H, W], and its channel means [B, C]."""
    if is_plain(depthwise, nn.Conv2d):  # one operator for three steps: one pass over the image
        return dwconv_gelu_pool(hidden, *parameters_of(depthwise))
    hidden = F.gelu(depthwise(hidden))
    return hidden, hidden.mean(dim=(2, 3))


def gated(
    conv: nn.Module, residual: Tensor, hidden: Tensor, gate: Tensor, scale: Tensor | None = None
) -> Tensor:
    """residual [B, C, H, W] + gate [B, C] * conv(scale [B, D] * hidden [B, D, H, W])."""
    if is_plain(conv, nn.Conv2d):
        return gated_projection(residual, hidden, *parameters_of(conv), gate, scale)
    if scale is not None:
        hidden = hidden * scale[:, :, None, None]
    return torch.addcmul(residual, gate[:, :, None, None], conv(hidden))


def parameters_of(conv: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    return conv.weight, conv.bias


class FinalLayer(nn.Module):
    """Modulated norm and the 3x3 convolution to the output channels."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.modulation = nn.Linear(channels, 2 * channels)
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, sample: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.modulation(condition).chunk(2, dim=1)
        return self.conv(modulate(channel_norm(sample), shift, scale))


class DiCo(ModelMixin, ConfigMixin, Backbone):
    """Noise, velocity or noise-and-variance prediction for class-conditional images or latents.

    Args:
        in_channels: channels of `sample`.
        hidden_size: width C of the first level; the levels run at C, 2C, 4C, 2C, 2C.
        depth: number of blocks of the five levels.
        mlp_ratio: inner width of the feed-forward in units of its level's width.
        num_classes: number of classes. Label `num_classes` is the null label of guidance.
        null_label: whether the class tables have the row of the null label.
        learn_sigma: whether the output has `2 * in_channels` channels: prediction, then variance.
        text: for texts instead of classes, see `layers.text.TextInput`; the blocks of the two
            coarse sizes look at the words.
    """

    _supports_gradient_checkpointing = True
    _repeated_blocks = ("DiCoBlock",)
    size_multiple = 4  # height and width are halved twice

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        hidden_size: int = 128,
        depth: Sequence[int] = (5, 4, 4, 4, 4),
        mlp_ratio: float = 2,
        num_classes: int = 1000,
        null_label: bool = True,
        learn_sigma: bool = True,
        text: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        check_whole(in_channels=in_channels)
        check_classes(num_classes, null_label)
        check_ratio(mlp_ratio=mlp_ratio)
        if not isinstance(hidden_size, int) or hidden_size < 2 or hidden_size % 2:
            raise ValueError(f"hidden_size must be an even number from 2, got {hidden_size!r}")
        check_levels(depth)
        width = [hidden_size, 2 * hidden_size, 4 * hidden_size]
        rows = num_classes + int(null_label)

        self.stem = nn.Conv2d(in_channels, width[0], 3, padding=1)
        self.timestep_embedders = nn.ModuleList(TimestepEmbedder(w) for w in width)
        self.class_embedders = nn.ModuleList(
            nn.Embedding(rows, w) for w in (width if text is None else ())
        )
        # The last level stays at 2C: its input is fused from C of the encoder and C of the decoder.
        level_width = [width[0], width[1], width[2], width[1], width[1]]
        seen = words_width(text)
        self.levels = nn.ModuleList(
            nn.ModuleList(
                DiCoBlock(w, mlp_ratio, seen if level in COARSE else None) for _ in range(count)
            )
            for level, (w, count) in enumerate(zip(level_width, depth, strict=True))
        )
        self.downs = nn.ModuleList([downsample(width[0]), downsample(width[1])])
        self.ups = nn.ModuleList([upsample(width[2]), upsample(width[1])])
        self.fuses = nn.ModuleList(
            [nn.Conv2d(2 * width[1], width[1], 1), nn.Conv2d(width[1], width[1], 1)]
        )
        self.final_layer = FinalLayer(width[1], in_channels * (2 if learn_sigma else 1))
        self.gradient_checkpointing = False
        self.init_weights()
        # Last: its weights start as transformers' do.
        self.text_input = None if text is None else TextInput(text, width)

    def init_weights(self) -> None:
        """Xavier for matrices and kernels, N(0, 0.02) for embeddings, zero for gates and output."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # As one matrix [C_out, C_in * 9], as DiT starts its patch embedding; a convolution has more
        # outputs to spread over, hence another bound.
        nn.init.xavier_uniform_(self.stem.weight.flatten(1))
        for module in self.modules():
            if isinstance(module, TimestepEmbedder):
                module.init_weights()
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, DiCoBlock):
                nn.init.zeros_(module.modulation.weight)
            elif isinstance(module, CrossAttention):
                module.init_weights()
        nn.init.zeros_(self.final_layer.modulation.weight)
        nn.init.zeros_(self.final_layer.conv.weight)

    def run_level(
        self, index: int, sample: Tensor, condition: Tensor, words: Words | None
    ) -> Tensor:
        """The blocks of one level, recomputed in the backward pass if checkpointing is on."""
        for block in cast(nn.ModuleList, self.levels[index]):
            sample = run_block(self, block, sample, condition, words)
        return sample

    def embed(
        self,
        timestep: Tensor,
        class_labels: Tensor | None = None,
        pooled_projections: Tensor | None = None,
    ) -> list[Tensor]:
        """What steers the blocks at `timestep` [B] for classes [B] or texts [B, P].

        [B, C] of each width.
        """
        told = self.told(self.class_embedders, timestep, class_labels, pooled_projections)
        return stage_conditions(self.timestep_embedders, timestep, told)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        class_labels: Tensor | None = None,
        embedded: list[Tensor] | None = None,
        **text: Tensor,
    ) -> Tensor:
        """The prediction for `sample` [B, C, H, W] at `timestep` [B] for `class_labels` [B].

        H and W must be multiples of 4. Labels are 0..num_classes (null); None: all null. A timestep
        that is a number or a 0-d tensor is that of the whole batch. Gives [B, C or 2C, H, W].
        `embedded` is what `embed` gives for them, if it is known already. `text`: the tensors of
        `layers.text`, for a model of texts.
        """
        height, width = sample.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(f"DiCo needs a height and width divisible by 4, got {height}x{width}")
        told, words = self.read(text)
        if embedded is None:
            pooled = told.get("pooled_projections")
            embedded = self.embed(over_batch(timestep, sample), class_labels, pooled)

        encoded_1 = self.run_level(0, self.stem(sample), embedded[0], words)  # [B, C, H, W]
        # [B, 2C, H/2, W/2]
        encoded_2 = self.run_level(1, self.downs[0](encoded_1), embedded[1], words)
        # [B, 4C, H/4, W/4]
        middle = self.run_level(2, self.downs[1](encoded_2), embedded[2], words)
        decoded = self.fuses[0](torch.cat([self.ups[0](middle), encoded_2], dim=1))
        decoded = self.run_level(3, decoded, embedded[1], words)  # [B, 2C, H/2, W/2]
        decoded = self.fuses[1](torch.cat([self.ups[1](decoded), encoded_1], dim=1))
        # [B, 2C, H, W], so the condition of the second level fits, not that of the first
        decoded = self.run_level(4, decoded, embedded[1], words)
        return self.final_layer(decoded, embedded[1])
