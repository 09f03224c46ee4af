"""Pictures and masks to edit."""

import numpy as np
from PIL import Image


def noise(width: int, height: int, mode: str = "L") -> Image.Image:
    """A picture in which no two neighbours are alike."""
    rng = np.random.default_rng(width * height)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (height, width), dtype=np.uint16))
    image = Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8))
    return image.convert("RGB").convert(mode) if mode in ("1", "P", "CMYK") else image.convert(mode)


def box(size: tuple[int, int], left: int, top: int, right: int, bottom: int) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, (left, top, right, bottom))
    return mask


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)
