"""DiC: a class-conditional diffusion ConvNet of 3x3 convolutions (arXiv 2501.00603).

What is unusual:
- a U-shaped hourglass of full 3x3 convolutions; the condition enters in the middle of a block;
- skips from every third encoder block only (`SKIP_STRIDE`);
- each level has its own timestep embedder and its own class table;
- in the published code the gates do not start at zero, because the loop that zeroes them looks for
  a name the blocks do not have; `zero_gate` does what was meant.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from gensynth.models.backbone import Backbone
from gensynth.models.layers.checkpointing import run_block
from gensynth.models.layers.checks import check_classes, check_levels, check_whole
from gensynth.models.layers.conditioning import (
    TimestepEmbedder,
    channel_norm,
    modulate,
    over_batch,
    stage_conditions,
)
from gensynth.models.layers.group_norms import check_width, group_norm
from gensynth.models.layers.resample import downsample, upsample
from gensynth.models.layers.text import COARSE, CrossAttention, TextInput, Words, words_width

SKIP_STRIDE = 3  # every third block of the encoder has a skip, and every third of the decoder


def check_depth(depth: Sequence[int]) -> None:
    """Raises ValueError unless there are five numbers of blocks, mirrored about the middle."""
    check_levels(depth)
    if depth[0] != depth[4] or depth[1] != depth[3]:
        raise ValueError(f"depth must be the same on both sides of its middle, got {depth!r}")


class DiCBlock(nn.Module):
    """Two 3x3 convolutions, each after norm and GELU; modulated in between, gated at the end."""

    def __init__(
        self, in_channels: int, channels: int, condition_size: int, words_width: int | None = None
    ):
        super().__init__()
        self.norm_in = group_norm(in_channels)
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.norm_out = group_norm(channels)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(condition_size, 3 * channels)
        self.shortcut = nn.Conv2d(in_channels, channels, 1) if in_channels != channels else None
        self.act = nn.GELU()
        self.cross = None if words_width is None else CrossAttention(channels, words_width)

    def forward(self, sample: Tensor, condition: Tensor, words: Words | None = None) -> Tensor:
        """sample [B, C_in, H, W], condition [B, D] after its SiLU -> [B, C, H, W]."""
        # dic_models.py orders them gate, scale, shift; DiT's order would mix up converted weights
        gate, scale, shift = self.modulation(condition).chunk(3, dim=1)  # each [B, C]
        hidden = self.conv_in(self.act(self.norm_in(sample)))
        hidden = self.conv_out(self.act(modulate(self.norm_out(hidden), shift, scale)))
        if self.shortcut is not None:  # a decoder block that takes a skip has C_in = 2 C
            sample = self.shortcut(sample)
        sample = torch.addcmul(sample, gate[:, :, None, None], hidden)
        if self.cross is not None and words is not None:  # ours: the paper has classes only
            sample = sample + self.cross.over_map(channel_norm(sample), words)
        return sample


class FinalLayer(nn.Module):
    """A 3x3 convolution, the modulated norm, and the 3x3 convolution to the output channels."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(channels, 2 * channels)
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, sample: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.modulation(condition).chunk(2, dim=1)
        return self.conv(modulate(channel_norm(self.conv_in(sample)), shift, scale))


def keeps_skip(index: int, depth: int) -> bool:
    """Whether the output of encoder block `index` of `depth` goes to the decoder."""
    # counted from the end: the decoder takes them in reverse, its first block the last one
    return (depth - 1 - index) % SKIP_STRIDE == 0


def takes_skip(index: int) -> bool:
    """Whether decoder block `index` takes an encoder's output beside its input."""
    return index % SKIP_STRIDE == 0


class DiC(ModelMixin, ConfigMixin, Backbone):
    """Noise, velocity or noise-and-variance prediction for class-conditional images or latents.

    Args:
        in_channels: channels of `sample`.
        hidden_size: width C of the first level; the levels run at C, 2C, 4C, 2C, C. Even, and such
            that norms of C, 2C and 4C channels divide into groups (see `check_width`).
        depth: number of blocks of the five levels; the same on both sides of the hourglass.
        num_classes: number of classes. Label `num_classes` is the null label of guidance.
        null_label: whether the class tables have the row of the null label.
        learn_sigma: whether the output has `2 * in_channels` channels: prediction, then variance.
        zero_gate: whether gates start at zero, so that a fresh block is the identity. The published
            models started without.
        text: for texts instead of classes, see `layers.text.TextInput`; the blocks of the two
            coarse sizes look at the words.
    """

    _supports_gradient_checkpointing = True
    _repeated_blocks = ("DiCBlock",)
    size_multiple = 4  # height and width are halved twice

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        hidden_size: int = 96,
        depth: Sequence[int] = (6, 6, 5, 6, 6),
        num_classes: int = 1000,
        null_label: bool = True,
        learn_sigma: bool = True,
        zero_gate: bool = False,
        text: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        check_whole(in_channels=in_channels)
        check_classes(num_classes, null_label)
        check_depth(depth)
        check_width(hidden_size, depth)
        width = [hidden_size, 2 * hidden_size, 4 * hidden_size]
        rows = num_classes + int(null_label)

        self.stem = nn.Conv2d(in_channels, width[0], 3, padding=1)
        self.timestep_embedders = nn.ModuleList(TimestepEmbedder(w) for w in width)
        self.class_embedders = nn.ModuleList(
            nn.Embedding(rows, w) for w in (width if text is None else ())
        )
        seen = words_width(text)
        self.levels = nn.ModuleList(
            nn.ModuleList(
                # a skip of the encoder has the same width, so the input is twice as wide
                DiCBlock(
                    w + w * (level > 2 and takes_skip(index)),
                    w,
                    w,
                    seen if level in COARSE else None,
                )
                for index in range(blocks)
            )
            for level, (w, blocks) in enumerate(
                zip([*width, width[1], width[0]], depth, strict=True)
            )
        )
        self.downs = nn.ModuleList([downsample(width[0]), downsample(width[1])])
        self.ups = nn.ModuleList([upsample(width[2]), upsample(width[1])])
        self.final_layer = FinalLayer(width[0], in_channels * (2 if learn_sigma else 1))
        self.gradient_checkpointing = False
        self.init_weights(zero_gate)
        # Last: its weights start as transformers' do.
        self.text_input = None if text is None else TextInput(text, width)

    def init_weights(self, zero_gate: bool) -> None:
        """Xavier for matrices and kernels, N(0, 0.02) for embeddings, zero for the output."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        # As one matrix [C_out, C_in * 9], as DiT starts its patch embedding; a convolution has more
        # outputs to spread over, hence another bound.
        nn.init.xavier_uniform_(self.stem.weight.flatten(1))
        for module in self.modules():
            if isinstance(module, TimestepEmbedder):
                module.init_weights()
            elif isinstance(module, DiCBlock) and zero_gate:
                nn.init.zeros_(module.modulation.weight)
            elif isinstance(module, CrossAttention):
                module.init_weights()
        # Biases are zero already, so a fresh model predicts zero.
        nn.init.zeros_(self.final_layer.modulation.weight)
        nn.init.zeros_(self.final_layer.conv.weight)

    def encode(
        self,
        level: int,
        sample: Tensor,
        condition: Tensor,
        words: Words | None,
        skips: list[Tensor],
    ) -> Tensor:
        """The blocks of an encoder level; what the decoder takes is appended to `skips`."""
        blocks = cast(nn.ModuleList, self.levels[level])
        for index, block in enumerate(blocks):
            sample = run_block(self, block, sample, condition, words)
            if keeps_skip(index, len(blocks)):
                skips.append(sample)
        return sample

    def decode(
        self,
        level: int,
        sample: Tensor,
        condition: Tensor,
        words: Words | None,
        skips: list[Tensor],
    ) -> Tensor:
        """The blocks of a decoder level, which take `skips` from its end."""
        for index, block in enumerate(cast(nn.ModuleList, self.levels[level])):
            if takes_skip(index):
                sample = torch.cat([sample, skips.pop()], dim=1)
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
            raise ValueError(f"DiC needs a height and width divisible by 4, got {height}x{width}")
        told, words = self.read(text)
        if embedded is None:
            pooled = told.get("pooled_projections")
            embedded = self.embed(over_batch(timestep, sample), class_labels, pooled)

        # One list for both levels: the decoder pops what the encoder appended, deepest first.
        skips: list[Tensor] = []
        # [B, C, H, W] -> [B, 2C, H/2, W/2] -> [B, 4C, H/4, W/4] and back
        hidden = self.encode(0, self.stem(sample), embedded[0], words, skips)
        hidden = self.encode(1, self.downs[0](hidden), embedded[1], words, skips)
        hidden = self.downs[1](hidden)
        for block in cast(nn.ModuleList, self.levels[2]):
            hidden = run_block(self, block, hidden, embedded[2], words)
        hidden = self.decode(3, self.ups[0](hidden), embedded[1], words, skips)
        hidden = self.decode(4, self.ups[1](hidden), embedded[0], words, skips)
        return self.final_layer(hidden, embedded[0])
