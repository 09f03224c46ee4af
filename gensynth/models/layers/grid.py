"""The image that a sequence of tokens stands for."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gensynth.models.layers.checks import check_whole


class Grid(NamedTuple):
    """Tokens row by row, `height` x `width` of them, or the `kept` ones of these.

    Attributes:
        rotary: cosine and sine tables [1 or B, 1, N, head width] of rotary positions, or None.
        relative: index [N, N] into a table of relative position biases, or None.
        kept: places [B, K] of the tokens that are there, in their order; None: all are.
    """

    height: int
    width: int
    rotary: tuple[Tensor, Tensor] | None = None
    relative: Tensor | None = None
    kept: Tensor | None = None

    def only(self, kept: Tensor) -> "Grid":
        """The grid of the kept tokens [B, K], with the rotary tables of their places."""
        rotary = self.rotary
        if rotary is not None:
            head_dim = rotary[0].shape[-1]
            places = kept[:, None, :, None].expand(-1, -1, -1, head_dim)
            cosine, sine = (x.expand(len(kept), -1, -1, -1).gather(2, places) for x in rotary)
            rotary = (cosine, sine)
        return self._replace(rotary=rotary, kept=kept)

    def rotate(self, x: Tensor) -> Tensor:
        """[B, H, N, D] turned by its position (arXiv 2104.09864); as it is without tables."""
        if self.rotary is None:
            return x
        cosine, sine = self.rotary
        # the tables are float32, so a half precision is turned in float32 and rounded once
        return (x * cosine + quarter_turn(x) * sine).to(x.dtype)

    def to_image(self, tokens: Tensor) -> Tensor:
        """[B, N or K, C] -> [B, C, height, width], zero where a token is missing."""
        if self.kept is not None:
            places = self.kept[..., None].expand_as(tokens)
            empty = tokens.new_zeros(len(tokens), self.height * self.width, tokens.shape[2])
            tokens = empty.scatter(1, places, tokens)
        # a view: its memory is channels-last, which convolutions like
        return tokens.transpose(1, 2).unflatten(2, (self.height, self.width))

    def to_tokens(self, image: Tensor) -> Tensor:
        """[B, C, height, width] -> [B, N or K, C]."""
        tokens = image.flatten(2).transpose(1, 2)
        return self.only_kept(tokens)

    def only_kept(self, tokens: Tensor) -> Tensor:
        """[B, N, C] -> [B, K, C]; as it is if all are there."""
        if self.kept is None:
            return tokens
        return tokens.gather(1, self.kept[..., None].expand(-1, -1, tokens.shape[2]))


def quarter_turn(x: Tensor) -> Tensor:
    """Each pair (a, b) of neighbours in the last dimension becomes (-b, a)."""
    pairs = x.unflatten(-1, (-1, 2))
    return torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).flatten(-2)


def split_heads(tokens: Tensor, num_heads: int) -> Tensor:
    """[B, N, C] -> [B, H, N, C / H]."""
    return tokens.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(heads: Tensor) -> Tensor:
    """[B, H, N, D] -> [B, N, H * D]."""
    return heads.transpose(1, 2).flatten(2)


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
