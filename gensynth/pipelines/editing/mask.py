"""What a mask means: white, or painted on a transparent layer, where a picture is redrawn."""

import numpy as np
from PIL import Image

from gensynth.data.colour import flatten, has_alpha
from gensynth.errors import UsageError


def redrawn_by(mask: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Where a mask is white (128 and above): bool [H, W] for an image of `size` (width, height).

    Of a mask with transparency, as drawing programs make of a layer, the part that is at least half
    as opaque as its most opaque pixel counts as white, whatever its colour: a brush may be half
    transparent. Where the transparency is the same everywhere, the colours count.

    Raises:
        UsageError: the mask has another size than the image.
    """
    if mask.size != size:
        raise UsageError(
            f"the mask is {mask.height}x{mask.width} and the image {size[1]}x{size[0]} (height x "
            "width); give a mask of the image's size."
        )
    if has_alpha(mask):
        layer = mask.convert("RGBA")
        alpha = np.asarray(layer.getchannel("A")).astype(int)  # twice a uint8 would wrap around
        if alpha.min() < alpha.max() or not alpha.any():
            return 2 * alpha > max(1, alpha.max())
        mask = layer.convert("RGB")  # without laying it over white, which would make black grey
    return np.asarray(flatten(mask).convert("L")) >= 128


def nothing_masked(mask: Image.Image) -> UsageError:
    """What to say of a mask that keeps everything."""
    if has_alpha(mask) and mask.convert("RGBA").getchannel("A").getextrema()[1] == 0:
        return UsageError(
            "nothing to redraw: the mask is transparent everywhere (opacity 0). Paint on it where "
            "to redraw, or give a mask that is white there."
        )
    return UsageError(
        "nothing to redraw: the mask has no pixel of 128 or above; its brightest is "
        f"{np.asarray(flatten(mask).convert('L')).max()}. White is 255."
    )
