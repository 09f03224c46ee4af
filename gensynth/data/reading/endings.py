"""Which files are pictures by their names, and an order in which 2 comes before 10."""

import re
from pathlib import Path

from PIL import features

# Every usual ending that Pillow reads as one picture, whatever the case; what else it opens
# (videos, icons, vector graphics) is seldom meant.
USUAL = (
    ".png",
    ".apng",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".webp",
    ".bmp",
    ".dib",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
    ".tga",
)
OF_A_LIBRARY = {".avif": "avif", ".jp2": "jpg_2000", ".j2k": "jpg_2000", ".jpx": "jpg_2000"}
ENDINGS = (*USUAL, *(ending for ending, name in OF_A_LIBRARY.items() if features.check(name)))
OVERVIEW = "grid.png"  # what `gensynth sample` adds to its pictures


def is_picture(file: Path) -> bool:
    """Whether a file is a picture by its ending."""
    return file.suffix.lower() in ENDINGS


def natural(path: Path | str) -> tuple[list[int | str], str]:
    """A key that sorts 2.png before 10.png."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], str(path)
