"""MaskGIT's bidirectional transformer over image tokens, as in Halton-MaskGIT (arXiv 2503.17076).

What is unusual beside DiT (valeoai/Halton-MaskGIT, Network/transformer.py):
- tokens of a codebook instead of latents, one further token for "masked", and logits as output,
  from the token embeddings themselves (tied);
- RMS norms, also of queries and keys over the full width, SwiGLU, no biases in the blocks;
- the class is the only condition; register tokens follow the image's;
- `proj` 2 merges 2x2 tokens before the blocks and splits them after.
What is ours: the words of a text follow the image's tokens and the registers, as in LlamaGen
(arXiv 2406.06525), and the text's summary stands for the class.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from gensynth.conditions import Conditions
from gensynth.models.backbone import Backbone
from gensynth.models.layers.checkpointing import run_block
from gensynth.models.layers.checks import check_classes, check_whole
from gensynth.models.layers.grid import merge_heads, split_heads
from gensynth.models.layers.positions import Placed, resized_table
from gensynth.models.layers.text import TextInput, check_settings
from gensynth.ops.attention import attention
from gensynth.ops.plain import own_forward

EPS = 1e-5
INNER_MULTIPLE = 256  # the width of the feed-forward is rounded up to this


def rms_norm(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """[..., C] divided by its root mean square, in float32, then times `weight` [C]."""
    normed = F.rms_norm(x.float(), x.shape[-1:], eps=EPS).type_as(x)
    return normed if weight is None else weight * normed


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """[B, N, C] * (1 + scale [B, C]) + shift [B, C]."""
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


class Attention(nn.Module):
    """Softmax attention whose queries and keys are normalised over all heads together."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        inner = num_heads * (hidden_size // num_heads)  # 510 for 512 and 6 heads, as published
        self.to_q, self.to_k, self.to_v = (
            nn.Linear(hidden_size, inner, bias=False) for _ in range(3)
        )
        self.to_out = nn.Linear(inner, hidden_size, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens [B, N, C] -> [B, N, C]; `mask` bool [B, 1, 1, N] is false where none looks."""
        # [B, N, C] -> [B, N, inner] -> [B, H, N, D]; the norm comes before the split into heads
        v = self.to_v(tokens)
        q, k = (rms_norm(to(tokens)).type_as(v) for to in (self.to_q, self.to_k))
        q, k, v = (split_heads(x, self.num_heads) for x in (q, k, v))
        dropout = self.dropout if self.training else 0.0
        output = attention(q, k, v, mask, dropout)
        return F.dropout(self.to_out(merge_heads(output)), self.dropout, self.training)


class Block(nn.Module):
    """Attention and SwiGLU, each modulated and gated (adaLN-Zero)."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float, dropout: float):
        super().__init__()
        # SwiGLU has three matrices for two: 2/3 of the width keeps the number of weights.
        inner = -(-int(2 * round(hidden_size * mlp_ratio) / 3) // INNER_MULTIPLE) * INNER_MULTIPLE
        self.dropout = dropout
        self.norm_attention, self.norm_mlp = (
            nn.Parameter(torch.ones(hidden_size)) for _ in range(2)
        )
        self.attention = Attention(hidden_size, num_heads, dropout)
        self.mlp_gate = nn.Linear(hidden_size, inner, bias=False)
        self.mlp_in = nn.Linear(hidden_size, inner, bias=False)
        self.mlp_out = nn.Linear(inner, hidden_size, bias=False)
        self.modulation = nn.Linear(hidden_size, 6 * hidden_size)

    def forward(self, tokens: Tensor, condition: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens [B, N, C], condition [B, C] after its SiLU -> [B, N, C]."""
        shift_mix, scale_mix, gate_mix, shift_mlp, scale_mlp, gate_mlp = self.modulation(
            condition
        ).chunk(6, dim=1)
        hidden = modulate(rms_norm(tokens, self.norm_attention), shift_mix, scale_mix)
        tokens = torch.addcmul(tokens, gate_mix[:, None], self.attention(hidden, mask))
        hidden = modulate(rms_norm(tokens, self.norm_mlp), shift_mlp, scale_mlp)
        hidden = F.silu(self.mlp_gate(hidden)) * self.mlp_in(hidden)
        hidden = self.mlp_out(F.dropout(hidden, self.dropout, self.training))
        return torch.addcmul(tokens, gate_mlp[:, None], hidden)


class MaskGIT(ModelMixin, ConfigMixin, Placed, Backbone):
    """Logits of every token of a class-conditional image, of which some are masked.

    Args:
        input_size: height and width (or both in one number) in tokens of the training images. For
            other sizes the learned positions are interpolated.
        codebook_size: number of tokens. Token `codebook_size` means masked.
        hidden_size, depth, num_heads, mlp_ratio: of the transformer.
        num_classes: number of classes; the class table has one more row, for dropped labels.
        num_registers: learned tokens that belong to no place.
        proj: 2 merges squares of 2x2 tokens inside; 1 does not.
        dropout: while training, in attention and feed-forward.
        text: for texts instead of classes, see `layers.text.TextInput`; with `cross` the words are
            joined to the tokens. It needs a `pooled_width`: nothing else steers the blocks.
    """

    _supports_gradient_checkpointing = True
    _repeated_blocks = ("Block",)
    works_on = "tokens"
    placed = ("positions",)

    @register_to_config
    def __init__(
        self,
        input_size: int | Sequence[int] = 16,
        codebook_size: int = 16384,
        hidden_size: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        num_classes: int = 1000,
        num_registers: int = 1,
        proj: int = 1,
        dropout: float = 0.0,
        text: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        check_whole(
            codebook_size=codebook_size,
            hidden_size=hidden_size,
            depth=depth,
            num_heads=num_heads,
        )
        check_classes(num_classes, null_label=True)
        if proj not in (1, 2):
            raise ValueError(f"proj must be 1 or 2, got {proj!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, got {dropout!r}")
        if text is not None:
            check_settings(text)
            if not text["pooled_width"]:
                raise ValueError(
                    "MaskGIT is not told a time: its text needs a pooled_width, which steers its "
                    "blocks"
                )
        sides = [input_size, input_size] if isinstance(input_size, int) else list(input_size)
        self.size_multiple, self.mask_token = proj, codebook_size
        self.grid_size = (sides[0], sides[1])
        self.class_embedder = None
        if text is None:
            self.class_embedder = nn.Embedding(num_classes + 1, hidden_size)
        self.token_embedder = nn.Embedding(codebook_size + 1, hidden_size)
        self.positions = nn.Parameter(torch.empty(sides[0] * sides[1], hidden_size))
        self.merge = self.split = None
        if proj == 2:
            self.merge = nn.Conv2d(hidden_size, hidden_size, 2, stride=2, bias=False)
            self.split = nn.Conv2d(hidden_size, 4 * hidden_size, 1, bias=False)
        self.registers = None
        if num_registers:
            self.registers = nn.Parameter(torch.empty(num_registers, hidden_size))
        self.blocks = nn.ModuleList(
            Block(hidden_size, num_heads, mlp_ratio, dropout) for _ in range(depth)
        )
        self.final_norm_weight = nn.Parameter(torch.ones(hidden_size))
        self.final_norm_bias = nn.Parameter(torch.zeros(hidden_size))
        self.final_modulation = nn.Linear(hidden_size, 2 * hidden_size)
        self.head_bias = nn.Parameter(torch.zeros(codebook_size + 1))
        self.gradient_checkpointing = False
        self.init_weights()
        # Last: its weights start as transformers' do.
        self.text_input = None if text is None else TextInput(text, [hidden_size], hidden_size)

    def init_weights(self) -> None:
        """Xavier for matrices, N(0, 0.02) for embeddings, zero for the gates of the blocks."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.02)
        if self.registers is not None:
            nn.init.normal_(self.registers, std=0.02)
        for module in self.modules():
            if isinstance(module, Block):
                nn.init.zeros_(module.modulation.weight)

    def predict(
        self,
        sample: Tensor,
        time: Tensor,
        conditions: Conditions,
        embedded: list[Tensor] | None = None,
    ) -> Tensor:
        """Logits; a model of masked tokens is not told the time."""
        return self(sample, **conditions, embedded=embedded)

    def embed(
        self,
        timestep: Tensor,
        class_labels: Tensor | None = None,
        drop_label: Tensor | None = None,
        pooled_projections: Tensor | None = None,
    ) -> list[Tensor]:
        """What steers the blocks for classes [B] or texts [B, P]: one [B, hidden_size].

        `timestep` [B] only says how many there are.
        """
        if drop_label is not None and self.text_input is not None:
            raise ValueError("a text is dropped by giving the empty one, not by drop_label")
        if class_labels is not None and drop_label is not None:
            class_labels = class_labels.masked_fill(drop_label, self.config.num_classes)
        told = self.told([self.class_embedder], timestep, class_labels, pooled_projections)
        return [F.silu(told[0])]

    def forward(
        self,
        token_ids: Tensor,
        class_labels: Tensor | None = None,
        drop_label: Tensor | None = None,
        embedded: list[Tensor] | None = None,
        wanted: Tensor | None = None,
        **text: Tensor,
    ) -> Tensor:
        """Logits [B, h * w, codebook_size + 1] of tokens [B, h, w] for classes [B].

        Args:
            token_ids: int64, from 0 to `codebook_size` (masked); not checked, which would make a
                GPU wait.
            class_labels: int64 [B]; None: no class.
            drop_label: bool [B], where the class is not to be used.
            embedded: what `embed` gives for the other arguments, if it is known already.
            wanted: bool [B, h, w], the K places whose logits are wanted, [K, codebook_size + 1];
                None: all.
            text: the tensors of `layers.text`, for a model of texts.

        Raises:
            ValueError: h or w is not a multiple of `proj`.
        """
        height, width = token_ids.shape[1:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(
                f"MaskGIT needs a height and width divisible by {self.size_multiple}, "
                f"got {height}x{width} tokens"
            )
        told, words = self.read(text)
        if embedded is None:
            pooled = told.get("pooled_projections")
            embedded = self.embed(token_ids[:, 0, 0], class_labels, drop_label, pooled)
        condition = embedded[0]
        positions = resized_table(self.positions[None], self.grid_size, (height, width))
        tokens = self.token_embedder(token_ids.flatten(1)) + positions  # [B, h * w, C]
        if self.merge is not None:
            # [B, h * w / 4, C], so attention costs a sixteenth
            tokens = self.merge(as_image(tokens, height)).flatten(2).transpose(1, 2)
        count = tokens.shape[1]
        if self.registers is not None:
            tokens = torch.cat([tokens, self.registers.expand(len(tokens), -1, -1)], dim=1)
        mask = None
        if words is not None:
            own = words.mask.new_ones(tokens.shape[:2])
            mask = torch.cat([own, words.mask], dim=1)[:, None, None, :]  # [B, 1, 1, N]
            tokens = torch.cat([tokens, words.sequence], dim=1)
        for block in self.blocks:
            tokens = run_block(self, block, tokens, condition, mask)
        tokens = tokens[:, :count]  # without the registers and words, which have no logits
        if self.split is not None:
            image = self.split(as_image(tokens, height // 2))
            tokens = F.pixel_shuffle(image, 2).flatten(2).transpose(1, 2)  # [B, h * w, C]
        shift, scale = self.final_modulation(condition).chunk(2, dim=1)
        tokens = rms_norm(tokens, self.final_norm_weight) + self.final_norm_bias
        tokens = modulate(tokens, shift, scale)
        if wanted is not None:
            tokens = tokens[wanted.flatten(1)]  # [K, C]
        return F.linear(tokens, self.token_table(), self.head_bias)

    def resampled(self, table: Tensor, before: tuple[int, int]) -> Tensor:
        return resized_table(table[None], before, self.grid_size)[0]

    def token_table(self) -> Tensor:
        """The weights [codebook_size + 1, C] of the head: the embeddings of all tokens (tied)."""
        if own_forward(self.token_embedder, nn.Embedding):
            return self.token_embedder.weight
        # An adapter's share is part of what is tied, and stays so when it is merged.
        return self.token_embedder(torch.arange(self.mask_token + 1, device=self.device))


def as_image(tokens: Tensor, height: int) -> Tensor:
    """[B, h * w, C] -> [B, C, h, w]."""
    return tokens.transpose(1, 2).unflatten(2, (height, -1))
