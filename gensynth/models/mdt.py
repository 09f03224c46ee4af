"""MDTv2: a masked diffusion transformer (arXiv 2303.14389v2; sail-sg/MDT).

What is unusual:
- a U-shaped transformer: encoder blocks with long skips, then decoder blocks that each get the
  embedded input again;
- learned positions, added once more before the decoder, and a learned bias of the attention scores
  for each head and offset;
- while training, a second pass in which the encoder sees a part of the tokens only and a side block
  fills in the others (`kept`).
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
    over_batch,
    whole_crops,
)
from gensynth.models.layers.grid import Grid, checked_grid, grid_size
from gensynth.models.layers.mixers import create_mixer
from gensynth.models.layers.mixers.softmax import BiasedSoftmaxAttention, relative_index
from gensynth.models.layers.positions import Positions
from gensynth.models.layers.text import TextInput, Words
from gensynth.models.layers.transformer import (
    PatchEmbed,
    PatchOutput,
    TransformerBlock,
    init_transformer,
)
from gensynth.seeding import StepRandom

MASK_RATIO_SPREAD = 0.2  # the ratio of a step is drawn from [mask_ratio, mask_ratio + 0.2]


class MDTv2(ModelMixin, ConfigMixin, Backbone):
    """Noise, velocity or noise-and-variance prediction for class-conditional images or latents.

    Args:
        input_size: height and width (or both in one number) of the training samples. For samples
            of another size the learned positions are interpolated.
        patch_size: side of the squares of the sample that become tokens.
        in_channels: channels of `sample`.
        hidden_size, depth, num_heads, mlp_ratio: of the transformer.
        num_classes: number of classes. Label `num_classes` is the null label of guidance.
        null_label: whether the class table has the row of the null label.
        learn_sigma: whether the output has `2 * in_channels` channels: prediction, then variance.
        mask_ratio: smallest share of tokens left out in the masked pass of a training step; None
            for no masked pass.
        decode_layer: how many of the `depth` blocks are decoder blocks.
        mixer, window, down_factor, projection_dim, mixer_options: as in `DiT`; "softmax" has the
            learned bias.
        positions, position_range, size_conditioning, text: as in `DiT`; "sincos" is learned.
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
        mask_ratio: float | None = 0.3,
        decode_layer: int = 4,
        mixer: str = "softmax",
        window: int | None = None,
        down_factor: int | None = None,
        projection_dim: int | None = None,
        mixer_options: Mapping[str, Any] | None = None,
        positions: str = "sincos",
        position_range: int | None = None,
        size_conditioning: bool = False,
        text: Mapping[str, Any] | None = None,
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
        if not 0 <= decode_layer <= depth or (depth - decode_layer) % 2:
            raise ValueError(
                f"decode_layer must leave an even number of the {depth} blocks, got {decode_layer}"
            )
        if mask_ratio is not None and not 0 <= mask_ratio < 1 - MASK_RATIO_SPREAD:
            raise ValueError(f"mask_ratio must be from 0 to below 0.8, got {mask_ratio}")
        self.patch_size, self.mask_ratio = patch_size, mask_ratio
        self.size_multiple = patch_size * (down_factor or 1)
        tokens = grid_size(input_size, patch_size)
        options = {
            "window": window,
            "down_factor": down_factor,
            "projection_dim": projection_dim,
            **(mixer_options or {}),
        }
        self.biased = mixer == "softmax"
        if mask_ratio is not None and (down_factor or 1) > 1:
            raise ValueError(
                "down_factor above 1 pools tokens that a masked pass leaves out; set mask_ratio "
                "to null"
            )

        words_heads = num_heads if text is not None and text.get("cross") else None

        def block(skip: bool) -> TransformerBlock:
            if self.biased:
                own: nn.Module = BiasedSoftmaxAttention(hidden_size, num_heads, tokens)
            else:
                own = create_mixer(mixer, hidden_size, num_heads, **options)
            return TransformerBlock(hidden_size, own, mlp_ratio, skip, words_heads)

        head_dim = hidden_size // num_heads
        self.patch_embed = PatchEmbed(in_channels, patch_size, hidden_size)
        self.token_positions = Positions(
            positions, tokens, hidden_size, head_dim, True, position_range, mixer == "rala"
        )
        self.decoder_positions = Positions(
            positions, tokens, hidden_size, head_dim, True, position_range
        )
        self.timestep_embedder = TimestepEmbedder(hidden_size)
        self.class_embedder = None
        if text is None:
            self.class_embedder = nn.Embedding(num_classes + int(null_label), hidden_size)
        self.size_embedder = SizeEmbedder(hidden_size) if size_conditioning else None
        half = (depth - decode_layer) // 2
        self.encoder_in = nn.ModuleList(block(skip=False) for _ in range(half))
        self.encoder_out = nn.ModuleList(block(skip=True) for _ in range(half))
        self.decoder = nn.ModuleList(block(skip=True) for _ in range(decode_layer))
        self.side = block(skip=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        if mask_ratio is None:
            # nothing trains them, and several processes wait for what is trained
            self.side.requires_grad_(False)
            self.mask_token.requires_grad_(False)
        self.final_layer = PatchOutput(
            hidden_size, patch_size, in_channels * (2 if learn_sigma else 1)
        )
        self.act = nn.SiLU()
        self.gradient_checkpointing = False
        init_transformer(self)
        self.init_positions()
        # Last: its weights start as transformers' do.
        self.text_input = None if text is None else TextInput(text, [hidden_size], hidden_size)

    def init_positions(self) -> None:
        """Bias tables and the mask token start at N(0, 0.02)."""
        for module in self.modules():
            if isinstance(module, BiasedSoftmaxAttention):
                nn.init.trunc_normal_(module.bias_table, std=0.02)
        if self.mask_ratio is not None:
            nn.init.normal_(self.mask_token, std=0.02)

    def embed(
        self,
        timestep: Tensor,
        class_labels: Tensor | None = None,
        crops: Tensor | None = None,
        pooled_projections: Tensor | None = None,
    ) -> list[Tensor]:
        """As in `DiT`: one [B, hidden_size]."""
        told = self.told([self.class_embedder], timestep, class_labels, pooled_projections)
        condition = self.timestep_embedder(timestep) + told[0]
        if self.size_embedder is not None:
            condition = condition + self.size_embedder(crops)
        return [self.act(condition)]

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        class_labels: Tensor | None = None,
        position_ids: tuple[Tensor, Tensor] | None = None,
        crops: Tensor | None = None,
        kept: Tensor | None = None,
        embedded: list[Tensor] | None = None,
        **text: Tensor,
    ) -> Tensor:
        """The prediction for `sample` [B, C, H, W] at `timestep` [B] for `class_labels` [B].

        Args:
            timestep, class_labels, position_ids, crops, embedded, text: as in `DiT.forward`.
            kept: places [B, K] of the tokens the encoder sees; None: all, and no side block.

        Returns:
            [B, C or 2C, H, W].

        Raises:
            ValueError: H or W is not a multiple of `patch_size` (times `down_factor`).
        """
        height, width = checked_grid(sample, self.patch_size, self.size_multiple, "MDTv2")
        rows, columns = self.token_positions.along(height, width, sample.device, position_ids)
        relative = relative_index(height, width, sample.device) if self.biased else None
        grid = Grid(height, width, self.token_positions.tables(rows, columns), relative)
        tokens = self.patch_embed(sample)  # [B, N, C]
        table = self.token_positions.added(height, width, rows, columns)
        inputs = tokens if table is None else tokens + table.to(tokens.dtype)
        told, words = self.read(text)
        if embedded is None:
            crops = None if self.size_embedder is None else whole_crops(sample, crops)
            pooled = told.get("pooled_projections")
            embedded = self.embed(over_batch(timestep, sample), class_labels, crops, pooled)
        condition = embedded[0]

        tokens = self.encode(inputs, condition, grid, kept, words)  # [B, N or K, C]
        if kept is not None:  # the missing places hold the mask token
            empty = self.mask_token.to(tokens.dtype).expand_as(inputs)
            tokens = empty.scatter(1, kept[..., None].expand_as(tokens), tokens)  # [B, N, C]
        # Positions a second time: a mask token does not know its place.
        table = self.decoder_positions.added(height, width, rows, columns)
        if table is not None:
            tokens = tokens + table.to(tokens.dtype)
        if kept is not None:
            missing = torch.ones_like(tokens[..., 0], dtype=torch.bool).scatter(1, kept, False)
            filled = run_block(self, self.side, tokens, condition, grid, None, words)
            # only the missing places: what the encoder saw goes on as it is
            tokens = torch.where(missing[..., None], filled, tokens)
        for block in self.decoder:  # the embedded input is the long skip of every decoder block
            tokens = run_block(self, block, tokens, condition, grid, inputs, words)
        return self.final_layer(tokens, condition, grid)

    def encode(
        self,
        tokens: Tensor,
        condition: Tensor,
        grid: Grid,
        kept: Tensor | None,
        words: Words | None = None,
    ) -> Tensor:
        """The encoder on all tokens [B, N, C], or on the kept ones alone: [B, N or K, C]."""
        if kept is not None:
            grid = grid.only(kept)
            tokens = grid.only_kept(tokens)
        skips = []
        for block in self.encoder_in:
            tokens = run_block(self, block, tokens, condition, grid, None, words)
            skips.append(tokens)
        for block in self.encoder_out:
            # last in, first out: the U shape joins the outermost blocks
            tokens = run_block(self, block, tokens, condition, grid, skips.pop(), words)
        return tokens

    @property
    def varying_tokens(self) -> bool:
        return self.mask_ratio is not None

    def training_passes(
        self, random: StepRandom, height: int, width: int, crops: Tensor | None = None
    ) -> list[dict[str, Any]]:
        """Further keywords of the forward passes of a training step: all tokens, then a part."""
        rows, columns = height // self.patch_size, width // self.patch_size
        drawn = self.token_positions.draw(random, rows, columns)
        keywords: dict[str, Any] = {} if drawn is None else {"position_ids": drawn}
        if self.size_embedder is not None:
            keywords["crops"] = crops
        if self.mask_ratio is None:
            return [keywords]
        # Shared by all images and processes: another ratio for each would need padding.
        ratio = self.mask_ratio + MASK_RATIO_SPREAD * random.shared_uniform(1)
        kept = draw_kept(random.uniform(rows * columns), ratio)
        return [keywords, {"kept": kept, **keywords}]


def draw_kept(noise: Tensor, mask_ratio: Tensor) -> Tensor:
    """Places [B, K] of the tokens with the smallest of their `noise` [B, N]; K = N (1 - ratio)."""
    count = max(1, int(noise.shape[1] * (1 - mask_ratio)))
    return noise.argsort(dim=1)[:, :count]
