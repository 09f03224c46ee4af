"""What is known of a model by its name, before its class is imported."""

import math
import sys
from dataclasses import dataclass
from typing import Any

from gensynth.errors import UsageError
from gensynth.models.presets import PRESETS, proper_name
from gensynth.system import outline

MOST_SIDE = 2**20  # pixels; beyond it numbers of elements no longer fit those of torch
MOST_PIXELS = 2**28  # of a picture, 3 GiB in float32; Pillow opens fewer
TAKES = ("class_labels",)  # `Backbone.takes`, unless a model says otherwise
# Tensors of a text (`layers.text`), which models with a keyword `text` take too.
TEXT = (
    *("input_ids", "attention_mask"),
    *("encoder_hidden_states", "encoder_attention_mask", "pooled_projections"),
)


@dataclass(frozen=True)
class Known:
    """
    Attributes:
        keywords: of the constructor.
        works_on: "latents", "tokens" or "pixels".
        draws: whether it makes pictures; tokenizers do not.
        takes: tensors of a condition.
    """

    keywords: list[str]
    works_on: str
    draws: bool
    takes: tuple[str, ...]


def model_names() -> list[str]:
    """The names of all models, of your own too."""
    return list(_imported() or PRESETS)


def known(name: str) -> Known:
    """
    Raises:
        UsageError: no model has this name; the message says which are known.
    """
    imported = _imported()
    if imported:  # a plugin has brought torch with it, and maybe a model
        from gensynth.models.named import constructor_keywords

        own = imported[proper_name(name, imported)][0]
        keywords = constructor_keywords(name)
        takes = (*getattr(own, "takes", TAKES), *_of_text(keywords))
        return Known(keywords, own.works_on, getattr(own, "draws", True), takes)
    preset = PRESETS[proper_name(name)]
    place = preset.module, preset.class_name
    keywords = outline.constructor(*place)
    return Known(
        keywords,
        outline.attribute(*place, "works_on", "latents"),
        outline.attribute(*place, "draws", True),
        (*outline.attribute(*place, "takes", TAKES), *_of_text(keywords)),
    )


def _of_text(keywords: list[str]) -> tuple[str, ...]:
    return TEXT if "text" in keywords else ()


def impossible_size(height: int, width: int, multiple: int) -> UsageError:
    """What to say of a size in pixels whose sides are no multiples; it names the nearest."""
    nearest = [max(multiple, round(side / multiple) * multiple) for side in (height, width)]
    return UsageError(
        f"size {height}x{width} is not possible: each side must be a multiple of "
        f"{multiple}. Nearest: {nearest[0]}x{nearest[1]}."
    )


def check_area(height: int, width: int) -> None:
    """
    Raises:
        UsageError: a picture of so many pixels cannot be drawn, nor opened where it was.
    """
    if max(height, width) > MOST_SIDE:
        raise UsageError(f"size {height}x{width}: a side may have {MOST_SIDE:,} pixels at most.")
    if height * width > MOST_PIXELS:
        side = math.isqrt(MOST_PIXELS)
        raise UsageError(
            f"size {height}x{width} is too large: as colours alone in float32 it takes "
            f"{12 * height * width / 2**30:,.0f} GiB of memory, and drawing it many times that. "
            f"A picture may have {MOST_PIXELS:,} pixels, such as {side}x{side}."
        )


def _imported() -> dict[str, Any] | None:
    """The table of models, if something has imported it."""
    named = sys.modules.get("gensynth.models.named")
    return None if named is None else named.MODELS
