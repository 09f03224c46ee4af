"""One encoded image -> one uint8 array of the size a model is trained on."""

import contextlib
import io
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from gensynth.data.colour import in_srgb

# What Pillow raises for a file that is cut off, damaged, too large to be honest, or not an image.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    UnidentifiedImageError,
    Image.DecompressionBombError,
    RuntimeError,  # AVIF
)
PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
TIFF_BEGINS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MOST_RESIZED = 2**24  # pixels of a resized image, above which only a square of it is made


def decode(source: bytes | str, channels: int = 3, exif_rotate: bool = True) -> Image.Image:
    """The first frame of an image file as mode L (1 channel) or RGB (3 channels), in sRGB.

    Args:
        source: the file's bytes, or its path.
        channels: 1 or 3.
        exif_rotate: turn the image upright if its EXIF orientation says so.

    Raises:
        one of `UNREADABLE`: the file cannot be decoded completely.
    """
    image = in_srgb(open_frame(source, exif_rotate))
    return image.convert("L" if channels == 1 else "RGB")


def open_frame(source: bytes | str, exif_rotate: bool = True) -> Image.Image:
    """The first frame of an image file as it is stored, upright unless asked otherwise.

    Raises:
        one of `UNREADABLE`: the file cannot be decoded completely.
    """
    # Pillow opens lazily; `load` reads all of it, so that damage shows here and not later.
    image: Image.Image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    image.load()
    return upright(image) if exif_rotate else image


def open_header(path: Path | str) -> Image.Image:
    """An image file of any size for what it says of itself; its pixels are not read.

    Pillow's own `open` refuses pictures above 179 million pixels, which ours may have.

    Raises:
        one of `UNREADABLE`: the file is no picture.
    """
    with Path(path).open("rb") as stream:
        begin = stream.read(8)
    if begin == PNG_BEGINS:
        return PngImageFile(path)
    return TiffImageFile(path) if begin[:4] in TIFF_BEGINS else Image.open(path)


def upright(image: Image.Image) -> Image.Image:
    """The image as viewers show it, turned as its EXIF orientation says."""
    # A damaged EXIF block does not spoil the picture, only what it says about it.
    with contextlib.suppress(*UNREADABLE, struct.error, TypeError, KeyError):
        image = ImageOps.exif_transpose(image)
    return image


def resize_short_side(image: Image.Image, side: int) -> Image.Image:
    """The image with a short side of `side` pixels, exactly as ADM resizes it.

    Halved with BOX while the short side is at least twice `side`, then BICUBIC
    (openai/guided-diffusion, image_datasets.py, center_crop_arr).
    """
    image = _halved(image, side)
    return image.resize(_resized(image, side), Image.Resampling.BICUBIC)


def _halved(image: Image.Image, side: int) -> Image.Image:
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    return image


def _resized(image: Image.Image, side: int) -> tuple[int, int]:
    scale = side / min(image.size)  # from 0.5 on; small images are enlarged, as ADM does
    return round(image.width * scale), round(image.height * scale)


def _square(
    image: Image.Image, resized: tuple[int, int], left: int, top: int, size: int
) -> Image.Image:
    """The square of `size` pixels at `left`, `top` of an image brought to the size `resized`."""
    if resized[0] * resized[1] <= MOST_RESIZED:
        whole = image.resize(resized, Image.Resampling.BICUBIC)
        return whole.crop((left, top, left + size, top + size))
    # A sliver: the same pixels, but for rounding, without the gigabytes around them.
    across, down = image.width / resized[0], image.height / resized[1]
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """The central square at `size` pixels, exactly as ADM makes it."""
    image = _halved(image, size)
    width, height = resized = _resized(image, size)
    return _square(image, resized, (width - size) // 2, (height - size) // 2, size)


class Crop(NamedTuple):
    """Where a square was cut: size of the resized image, and the square's corner, in pixels."""

    height: int
    width: int
    top: int
    left: int


def zoomed_crop(
    image: Image.Image, size: int, zoom: float, down: float, across: float
) -> tuple[Image.Image, Crop]:
    """A square of `size` pixels of the image resized to a short side of `size * zoom`.

    Args:
        zoom: at least 1.
        down, across: where between the first and the last possible place, in [0, 1).
    """
    image = _halved(image, round(size * zoom))
    width, height = resized = _resized(image, round(size * zoom))
    # + 1 places, each equally likely, since down and across are below 1
    top = int(down * (height - size + 1))
    left = int(across * (width - size + 1))
    return _square(image, resized, left, top, size), Crop(height, width, top, left)


def pad_square(image: Image.Image, size: int) -> Image.Image:
    """The image in the middle of a black square of `size` pixels, scaled down only if larger."""
    if max(image.size) > size:
        image = _contained(image, size)
    square = Image.new(image.mode, (size, size))
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square


def _contained(image: Image.Image, size: int) -> Image.Image:
    """The image with a long side of `size` pixels; a sliver keeps one pixel of its other side."""
    if size * min(image.size) < max(image.size):
        line = [max(1, side * size // max(image.size)) for side in image.size]
        return image.resize((line[0], line[1]), Image.Resampling.BICUBIC)
    return ImageOps.contain(image, (size, size), Image.Resampling.BICUBIC)


def fit(image: Image.Image, size: int, how: str) -> Image.Image:
    """The image as a square of `size` pixels: `how` is "crop" (ADM) or "pad"."""
    return center_crop(image, size) if how == "crop" else pad_square(image, size)


def to_tensor(image: Image.Image) -> Tensor:
    """uint8 [C, H, W] with C = 1 for mode L and 3 for RGB."""
    pixels = np.asarray(image)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return torch.from_numpy(np.array(pixels, order="C"))  # a copy: Pillow keeps its own read-only


def to_pil(pixels: Tensor) -> Image.Image:
    """The picture of a uint8 tensor [1 or 3, H, W]."""
    array = pixels.cpu().numpy()
    return Image.fromarray(array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0))


def grid(images: list[Image.Image], columns: int | None = None, gap: int = 2) -> Image.Image:
    """Pictures of one size side by side on white, in a near square unless `columns` is given."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(image, (gap + column * (width + gap), gap + row * (height + gap)))
    return sheet


def labelled_grid(
    rows: dict[str, list[Image.Image]], zoom: int = 2, gap: int = 2, text_width: int = 96
) -> Image.Image:
    """One row of pictures for each name, the name in front of it; small pictures enlarged."""
    width, height = next(iter(rows.values()))[0].size
    width, height = width * zoom, height * zoom
    columns = max(map(len, rows.values()))
    sheet = Image.new(
        "RGB", (text_width + columns * (width + gap), len(rows) * (height + gap) + gap), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, (name, images) in enumerate(rows.items()):
        top = gap + row * (height + gap)
        draw.text((6, top + height // 2), name, fill="black", font=font, anchor="lm")
        for column, image in enumerate(images):
            enlarged = image.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (text_width + column * (width + gap), top))
    return sheet


def captioned_grid(
    pictures: Sequence[tuple[str, Image.Image]], columns: int, zoom: int = 2, gap: int = 4
) -> Image.Image:
    """Pictures of one size on white, enlarged, each with its name underneath."""
    width, height = (side * zoom for side in pictures[0][1].size)
    below = 18  # pixels, of a line of text
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new(
        "RGB", (columns * (width + gap) + gap, rows * (height + below + gap) + gap), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for index, (name, image) in enumerate(pictures):
        row, column = divmod(index, columns)
        left, top = gap + column * (width + gap), gap + row * (height + below + gap)
        enlarged = image.resize((width, height), Image.Resampling.BICUBIC)
        sheet.paste(enlarged, (left, top))
        while len(name) > 1 and draw.textlength(name, font=font) > width:
            name = name.removesuffix("…")[:-1] + "…"
        draw.text((left + width // 2, top + height), name, fill="black", font=font, anchor="ma")
    return sheet
