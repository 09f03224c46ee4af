"""DiT: a class-conditional diffusion transformer (arXiv 2212.09748; facebookresearch/DiT).

SiT (arXiv 2401.08740; willisma/SiT) is the same network, whose variance channels are made and
thrown away. What is ours: the token mixer, the positions and the size are arguments.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from gensynth.models.backbone import Backbone
from gensynth.models.layers.checkpointing import run_block
from gensynth.models.layers.checks import check_classes, check_ratio, check_whole
from gensynth.models.layers.conditioning import (
    SizeEmbedder,
    TimestepEmbedder,
    labels_or_null,
    over_batch,
)
from gensynth.models.layers.grid import Grid
from gensynth.models.layers.mixers import create_mixer
from gensynth.models.layers.positions import Positions
from gensynth.models.layers.transformer import (
    PatchEmbed,
    PatchOutput,
    TransformerBlock,
    init_transformer,
)
from gensynth.seeding import StepRandom


class DiT(ModelMixin, ConfigMixin, Backbone):
    """Noise, velocity or noise-and-variance prediction for class-conditional images or latents.

    Args:
        input_size: height and width (or both in one number) of the training samples. Samples of
            another size get positions computed, not learned.
        patch_size: side of the squares of the sample that become tokens.
        in_channels: channels of `sample`.
        hidden_size, depth, num_heads, mlp_ratio: of the transformer.
        num_classes: number of classes. Label `num_classes` is the null label of guidance.
        null_label: whether the class table has the row of the null label.
        learn_sigma: whether `2 * in_channels` channels are computed: prediction, then variance.
        discard_sigma: whether the variance channels are computed and not returned (SiT).
        mixer: a key of `mixers.MIXERS`.
        window, down_factor: of mixer "local". projection_dim: of mixer "linear".
        mixer_options: further keywords of a mixer.
        positions: "sincos", "rope" or "none".
        position_range: positions are drawn at random from 0 to this while training (RPE-2D).
        size_conditioning: whether the model is told the size and crop of each image.
    """

    _supports_gradient_checkpointing = True
    _repeated_blocks = ("TransformerBlock",)

    @register_to_config
    def __init__(
        self,
        input_size: int | Sequence[int] = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        num_classes: int = 1000,
        null_label: bool = True,
        learn_sigma: bool = True,
        discard_sigma: bool = False,
        mixer: str = "softmax",
        window: int | None = None,
        down_factor: int | None = None,
        projection_dim: int | None = None,
        mixer_options: Mapping[str, Any] | None = None,
        positions: str = "sincos",
        position_range: int | None = None,
        size_conditioning: bool = False,
    ):
        super().__init__()
        check_whole(
            patch_size=patch_size,
            in_channels=in_channels,
            hidden_size=hidden_size,
            depth=depth,
            num_heads=num_heads,
        )
        check_classes(num_classes, null_label)
        check_ratio(mlp_ratio=mlp_ratio)
        self.in_channels, self.patch_size = in_channels, patch_size
        self.size_multiple = patch_size * (down_factor or 1)
        self.returns_all = not discard_sigma
        options = {
            "window": window,
            "down_factor": down_factor,
            "projection_dim": projection_dim,
            **(mixer_options or {}),
        }
        self.patch_embed = PatchEmbed(in_channels, patch_size, hidden_size)
        self.token_positions = Positions(
            positions,
            grid_size(input_size, patch_size),
            hidden_size,
            hidden_size // num_heads,
            position_range=position_range,
            rotary=mixer == "rala",
        )
        self.timestep_embedder = TimestepEmbedder(hidden_size)
        self.class_embedder = nn.Embedding(num_classes + int(null_label), hidden_size)
        self.size_embedder = SizeEmbedder(hidden_size) if size_conditioning else None
        self.blocks = nn.ModuleList(
            TransformerBlock(
                hidden_size, create_mixer(mixer, hidden_size, num_heads, **options), mlp_ratio
            )
            for _ in range(depth)
        )
        out_channels = in_channels * (2 if learn_sigma else 1)
        self.final_layer = PatchOutput(hidden_size, patch_size, out_channels)
        self.act = nn.SiLU()
        self.gradient_checkpointing = False
        init_transformer(self)

    def embed(
        self, timestep: Tensor, class_labels: Tensor | None = None, crops: Tensor | None = None
    ) -> list[Tensor]:
        """What steers the blocks at `timestep` [B] for `class_labels` [B]: one [B, hidden_size].

        `crops` [B, 4] are needed with `size_conditioning`.
        """
        labels = labels_or_null(class_labels, timestep, self.config.num_classes)
        condition = self.timestep_embedder(timestep) + self.class_embedder(labels)
        if self.size_embedder is not None:
            condition = condition + self.size_embedder(crops)
        # adaLN's SiLU, taken once: in the official code each block repeats it on the same vector
        return [self.act(condition)]

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        class_labels: Tensor | None = None,
        position_ids: tuple[Tensor, Tensor] | None = None,
        crops: Tensor | None = None,
        embedded: list[Tensor] | None = None,
    ) -> Tensor:
        """The prediction for `sample` [B, C, H, W] at `timestep` [B] for `class_labels` [B].

        Args:
            position_ids: positions of the rows and columns of tokens, in rising order; for
                `position_range`.
            crops: [B, 4] height, width, top and left of each image; for `size_conditioning`. None:
                the whole sample.
            class_labels: None: the null label for all.
            timestep: a number or a 0-d tensor is that of the whole batch.
            embedded: what `embed` gives for `timestep`, `class_labels` and `crops`, if it is known.

        Returns:
            [B, C or 2C, H, W].

        Raises:
            ValueError: H or W is not a multiple of `patch_size` (times `down_factor`).
        """
        height, width = checked_grid(sample, self.patch_size, self.size_multiple, "DiT")
        rows, columns = self.token_positions.along(height, width, sample.device, position_ids)
        grid = Grid(height, width, self.token_positions.tables(rows, columns))
        tokens = self.patch_embed(sample)  # [B, N, C]
        table = self.token_positions.added(height, width, rows, columns)
        if table is not None:  # [1, N, C]; rotary positions are in `grid` instead
            tokens = tokens + table.to(tokens.dtype)
        if embedded is None:
            crops = None if self.size_embedder is None else whole_crops(sample, crops)
            embedded = self.embed(over_batch(timestep, sample), class_labels, crops)
        condition = embedded[0]  # [B, C], one for all blocks
        for block in self.blocks:
            tokens = run_block(self, block, tokens, condition, grid)
        output = self.final_layer(tokens, condition, grid)  # [B, C or 2C, H, W]
        return output if self.returns_all else output[:, : self.in_channels]

    def training_passes(
        self, random: StepRandom, height: int, width: int, crops: Tensor | None = None
    ) -> list[dict[str, Any]]:
        """Further keywords of the forward passes of one training step (one pass)."""
        drawn = self.token_positions.draw(
            random, height // self.patch_size, width // self.patch_size
        )
        keywords: dict[str, Any] = {} if drawn is None else {"position_ids": drawn}
        return [keywords if self.size_embedder is None else {**keywords, "crops": crops}]


def grid_size(input_size: int | Sequence[int], patch_size: int) -> tuple[int, int]:
    """Height and width in tokens.

    Raises:
        ValueError: the patch does not divide them.
    """
    sides = [input_size, input_size] if isinstance(input_size, int) else list(input_size)
    if len(sides) != 2:
        raise ValueError(f"input_size must be one number or a height and a width, got {sides}")
    height, width = sides
    check_whole(input_height=height, input_width=width)
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"input_size {height}x{width} is not a multiple of patch_size {patch_size}"
        )
    return height // patch_size, width // patch_size


def checked_grid(sample: Tensor, patch_size: int, size_multiple: int, name: str) -> tuple[int, int]:
    """Height and width in tokens of a sample.

    Raises:
        ValueError: the sample has another size than the model can take.
    """
    height, width = sample.shape[-2:]
    if height % size_multiple or width % size_multiple:
        raise ValueError(
            f"{name} needs a height and width divisible by {size_multiple}, got {height}x{width}"
        )
    return height // patch_size, width // patch_size


def whole_crops(sample: Tensor, crops: Tensor | None) -> Tensor:
    """`crops` [B, 4], or those of images that were not cropped."""
    if crops is not None:
        return crops
    whole = (*sample.shape[-2:], 0, 0)
    columns = [torch.full((len(sample),), float(side), device=sample.device) for side in whole]
    return torch.stack(columns, dim=1)
