"""Text in a backbone: a summary of it in the modulation, its words through cross-attention.

The words have the names of diffusers: `encoder_hidden_states` [B, L, D], `encoder_attention_mask`
bool [B, L], true where there is a word, and `pooled_projections` [B, P], the summary. A model with
a text encoder of its own takes `input_ids` int64 [B, L] and `attention_mask` [B, L] instead.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from diffusers.models.embeddings import PixArtAlphaTextProjection
from torch import Tensor, nn

from gensynth.models.layers.casting import compute_dtype
from gensynth.models.layers.checks import check_whole
from gensynth.models.layers.grid import merge_heads, split_heads
from gensynth.ops.attention import attention
from gensynth.ops.precision import without_autocast

HEAD_WIDTH = 32  # of cross-attention where a model has no heads of its own
COARSE = (1, 2, 3)  # levels of an hourglass at half and at a quarter of the size
SETTINGS = ("width", "pooled_width", "length", "cross", "encoder")

MISSING = (
    "a model of texts needs encoder_hidden_states and pooled_projections, or input_ids with "
    "attention_mask where it has an encoder of its own"
)


class Words(NamedTuple):
    """What cross-attention looks at: a sequence [B, L, D], and where it has words, bool [B, L]."""

    sequence: Tensor
    mask: Tensor


class TextInput(nn.Module):
    """What a model of texts reads them with.

    Args:
        settings: `width` D and `length` L of the sequence; `pooled_width` P, 0 for a model whose
            modulation is not told the text; `cross`, whether the blocks look at the words;
            `encoder`, None if the text comes encoded, or else `vocab_size`, `layers` and `heads` of
            an encoder of the model's own, whose output is D = P wide.
        widths: of the vectors that steer the blocks.
        sequence_width: width the sequence is projected to (PixArt); None leaves it as it is.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        widths: Sequence[int],
        sequence_width: int | None = None,
    ):
        super().__init__()
        check_settings(settings)
        self.cross, self.num_widths = settings["cross"], len(widths)
        self.encoder = own_encoder(settings) if settings["encoder"] is not None else None
        pooled_width = settings["pooled_width"]
        self.pooled = nn.ModuleList(
            PixArtAlphaTextProjection(pooled_width, width, act_fn="silu")
            for width in (widths if pooled_width else ())
        )
        self.sequence = None
        if self.cross and sequence_width is not None:  # PixArt-alpha's, arXiv 2310.00426
            self.sequence = PixArtAlphaTextProjection(settings["width"], sequence_width)

    def encoded(self, conditions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The conditions with `input_ids` and `attention_mask` encoded, if they are among them."""
        others = dict(conditions)
        ids = others.pop("input_ids", None)
        if ids is None:
            return others
        if self.encoder is None:
            raise ValueError("the model has no text encoder; give encoder_hidden_states")
        mask = others.pop("attention_mask")
        # On a CPU in float32: its attention is transformers' own, see `ops.attention`.
        plain = without_autocast(mask) if mask.device.type == "cpu" else nullcontext()
        with plain:
            found = self.encoder(input_ids=ids, attention_mask=mask.long())
        return {
            **others,
            "encoder_hidden_states": found.last_hidden_state,
            "encoder_attention_mask": mask,
            "pooled_projections": found.pooler_output,
        }

    def steering(self, pooled: Tensor | None, timestep: Tensor) -> list[Tensor]:
        """What the summary [B, P] adds to each vector that steers: [B, C] of each width, or 0.

        Raises:
            ValueError: no text is there.
        """
        if not self.pooled:
            return [timestep.new_zeros(())] * self.num_widths
        if pooled is None:
            raise ValueError(MISSING)
        return [project(pooled.to(compute_dtype(project))) for project in self.pooled]

    def words(self, conditions: Mapping[str, Tensor], dtype: torch.dtype) -> Words | None:
        """What the blocks look at, in the type they compute in; None if they do not.

        Raises:
            ValueError: no text is there.
        """
        if not self.cross:
            return None
        if "encoder_hidden_states" not in conditions:
            raise ValueError(MISSING)
        sequence = conditions["encoder_hidden_states"].to(dtype)
        mask = conditions.get("encoder_attention_mask")
        if mask is None:
            mask = torch.ones(sequence.shape[:2], dtype=torch.bool, device=sequence.device)
        return Words(sequence if self.sequence is None else self.sequence(sequence), mask.bool())


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raises ValueError for settings that are missing, unknown or out of range."""
    if sorted(settings) != sorted(SETTINGS):
        raise ValueError(f"text must have {', '.join(SETTINGS)}, got {', '.join(settings)}")
    check_whole(text_width=settings["width"], text_length=settings["length"])
    if not settings["cross"] and not settings["pooled_width"]:
        raise ValueError("text with neither cross nor a pooled_width would not be seen")


def words_width(text: Mapping[str, Any] | None) -> int | None:
    """How wide the words are that the blocks of a model with this `text` see; None: they do not.

    Raises:
        ValueError: settings that are missing, unknown or out of range.
    """
    if text is None:
        return None
    check_settings(text)
    return text["width"] if text["cross"] else None


def own_encoder(settings: Mapping[str, Any]) -> nn.Module:
    """A small CLIP text encoder with random weights (arXiv 2103.00020; transformers' model)."""
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = settings["encoder"]
    check_whole(vocab_size=sizes["vocab_size"], layers=sizes["layers"], heads=sizes["heads"])
    config = CLIPTextConfig(
        vocab_size=sizes["vocab_size"],
        hidden_size=settings["width"],
        intermediate_size=4 * settings["width"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        max_position_embeddings=settings["length"],
        pad_token_id=PAD,
        bos_token_id=BEGIN,
        eos_token_id=END,
    )
    return CLIPTextModel(config)


# The first tokens of the vocabulary of a model's own encoder. END is where CLIP reads the summary;
# it must not be 2, which transformers takes for a slip in old configurations.
PAD, BEGIN, END = 0, 1, 3


class CrossAttention(nn.Module):
    """Places of an image look at words. Starts at zero, so that a block begins as without it."""

    def __init__(self, width: int, words_width: int, num_heads: int | None = None):
        super().__init__()
        self.num_heads = num_heads or max(1, width // HEAD_WIDTH)
        inner = self.num_heads * (width // self.num_heads)
        self.to_q = nn.Linear(width, inner)
        self.to_k, self.to_v = nn.Linear(words_width, inner), nn.Linear(words_width, inner)
        self.to_out = nn.Linear(inner, width)

    def init_weights(self) -> None:
        nn.init.zeros_(self.to_out.weight)  # PixArt-alpha, section 2.3

    def forward(self, tokens: Tensor, words: Words) -> Tensor:
        """tokens [B, N, C] -> [B, N, C], to be added to them."""
        q, k, v = (
            split_heads(x, self.num_heads)
            for x in (self.to_q(tokens), self.to_k(words.sequence), self.to_v(words.sequence))
        )
        mask = words.mask[:, None, None, :]  # [B, 1, 1, L]
        return self.to_out(merge_heads(attention(q, k, v, mask)))

    def over_map(self, image: Tensor, words: Words) -> Tensor:
        """image [B, C, H, W] -> [B, C, H, W], to be added."""
        tokens = self(image.flatten(2).transpose(1, 2), words)
        return tokens.transpose(1, 2).unflatten(2, image.shape[2:])
