"""DiT: a class-conditional diffusion transformer (arXiv 2212.09748; facebookresearch/DiT).

SiT (arXiv 2401.08740; willisma/SiT) is the same network, whose variance channels are made and
thrown away. What is ours: the token mixer, the positions and the size are arguments.
"""

from collections.abc import Mapping, Sequence
from typing import Any

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
from gensynth.models.layers.positions import Positions
from gensynth.models.layers.text import TextInput, words_width
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
        window, down_factor: of mixer "local". projection_dim: of mixers "linear", "linfusion".
        mixer_options: further keywords of a mixer.
        positions: "sincos", "rope" or "none".
        position_range: positions are drawn at random from 0 to this while training (RPE-2D).
        size_conditioning: whether the model is told the size and crop of each image.
        text: for texts instead of classes, see `layers.text.TextInput`; with `cross` the blocks are
            PixArt-alpha's, whose tokens look at the words between mixer and feed-forward.
        shared_modulation: whether one layer makes the modulation of all blocks, and each has a
            table to add to it (adaLN-single, PixArt-alpha).
        interpolation_scale: with a number, positions of any size are spread over those of
            `input_size`, and divided by it (PixArt); None: they go on beyond them (DiT).
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
        text: Mapping[str, Any] | None = None,
        shared_modulation: bool = False,
        interpolation_scale: float | None = None,
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
            interpolation_scale=interpolation_scale,
        )
        self.timestep_embedder = TimestepEmbedder(hidden_size)
        self.class_embedder = None
        if text is None:
            self.class_embedder = nn.Embedding(num_classes + int(null_label), hidden_size)
        self.size_embedder = SizeEmbedder(hidden_size) if size_conditioning else None
        self.modulate_all = None
        if shared_modulation:
            self.modulate_all = nn.Linear(hidden_size, 6 * hidden_size)
        words_heads = None if words_width(text) is None else num_heads
        self.blocks = nn.ModuleList(
            TransformerBlock(
                hidden_size,
                create_mixer(mixer, hidden_size, num_heads, **options),
                mlp_ratio,
                words_heads=words_heads,
                shared_modulation=shared_modulation,
            )
            for _ in range(depth)
        )
        out_channels = in_channels * (2 if learn_sigma else 1)
        self.final_layer = PatchOutput(hidden_size, patch_size, out_channels, shared_modulation)
        self.act = nn.SiLU()
        self.gradient_checkpointing = False
        init_transformer(self)
        if self.modulate_all is not None:
            nn.init.normal_(self.modulate_all.weight, std=0.02)  # as PixArt-alpha's code
        # Last: its weights start as transformers' do.
        self.text_input = None if text is None else TextInput(text, [hidden_size], hidden_size)

    def embed(
        self,
        timestep: Tensor,
        class_labels: Tensor | None = None,
        crops: Tensor | None = None,
        pooled_projections: Tensor | None = None,
    ) -> list[Tensor]:
        """What steers the blocks at `timestep` [B] for classes [B] or texts [B, P].

        `crops` [B, 4] are needed with `size_conditioning`. One [B, hidden_size]; with
        `shared_modulation` the modulation [B, 6 * hidden_size], then what the last layer takes.
        """
        told = self.told([self.class_embedder], timestep, class_labels, pooled_projections)
        condition = self.timestep_embedder(timestep) + told[0]
        if self.size_embedder is not None:
            condition = condition + self.size_embedder(crops)
        # adaLN's SiLU, taken once: in the official code each block repeats it on the same vector
        steering = self.act(condition)
        if self.modulate_all is None:
            return [steering]
        return [self.modulate_all(steering), condition]

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        class_labels: Tensor | None = None,
        position_ids: tuple[Tensor, Tensor] | None = None,
        crops: Tensor | None = None,
        embedded: list[Tensor] | None = None,
        **text: Tensor,
    ) -> Tensor:
        """The prediction for `sample` [B, C, H, W] at `timestep` [B] for `class_labels` [B].

        Args:
            position_ids: positions of the rows and columns of tokens, in rising order; for
                `position_range`.
            crops: [B, 4] height, width, top and left of each image; for `size_conditioning`. None:
                the whole sample.
            class_labels: None: the null label for all.
            timestep: a number or a 0-d tensor is that of the whole batch.
            embedded: what `embed` gives for the other arguments, if it is known.
            text: the tensors of `layers.text`, for a model of texts.

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
        told, words = self.read(text)
        if embedded is None:
            crops = None if self.size_embedder is None else whole_crops(sample, crops)
            pooled = told.get("pooled_projections")
            embedded = self.embed(over_batch(timestep, sample), class_labels, crops, pooled)
        for block in self.blocks:  # the condition [B, C or 6C] is one for all
            tokens = run_block(self, block, tokens, embedded[0], grid, None, words)
        output = self.final_layer(tokens, embedded[-1], grid)  # [B, C or 2C, H, W]
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
