"""Images to compare, from wherever they are, as uint8 batches."""

import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gensynth.config import Data
from gensynth.data.images import UNREADABLE, decode, fit, to_tensor
from gensynth.data.sources import open_source
from gensynth.data.training import prepare
from gensynth.errors import InputError, UsageError

OVERVIEW = "grid.png"  # what `gensynth sample` adds to its pictures
PICTURES = (".png", ".webp", ".jpg", ".jpeg", ".bmp")
BATCH = 64


@dataclass
class ImageSet:
    """`length` images; `read(index)` gives uint8 [1 or 3, H, W], all of one size."""

    name: str
    length: int
    read: Callable[[int], Tensor]

    def batches(self, indices: list[int]) -> Iterator[Tensor]:
        """uint8 [B, C, H, W] of the images with these numbers.

        Raises:
            InputError: an image cannot be decoded, or differs in size.
        """
        for first in range(0, len(indices), BATCH):
            images = [self.read(index) for index in indices[first : first + BATCH]]
            shapes = {tuple(image.shape) for image in images}
            if len(shapes) > 1:
                raise InputError(
                    f"the images of {self.name} differ in size: {sorted(shapes)[:3]}. Bring them "
                    "to one size; --size N crops those of a reference."
                )
            yield torch.stack(images)


def open_images(where: str, size: int | None = None, how: str = "crop") -> ImageSet:
    """The images a user means by `where`.

    Args:
        where: a folder of pictures, an `.npz` with `arr_0` [N, H, W, C], a Parquet file, or
            `fashion_mnist` with an optional split, as in `fashion_mnist:test`.
        size: side of the square the images are brought to; None leaves them as they are
            (Fashion-MNIST: 32, padded, as the bundled model draws it).
        how: "crop" or "pad".

    Raises:
        InputError: nothing there, or not readable.
    """
    name, _, split = where.partition(":")
    if name == "fashion_mnist":
        return _dataset(
            where,
            Data(split=split or "test", size=size or 32, channels=1, fit="pad"),
        )
    path = Path(where)
    if path.suffix == ".npz" and path.is_file():
        return _npz(path)
    if path.suffix == ".parquet" and path.is_file():
        if size is None:
            raise UsageError(f"{where} may hold images of any size; give --size N.")
        return _dataset(where, Data(source="parquet", path=where, size=size, fit=how))  # type: ignore[arg-type]
    if path.is_dir():
        return _folder(path, size, how)
    raise InputError(
        f"there are no images at {where!r}: give a folder, an .npz, a .parquet file or "
        "fashion_mnist:test."
    )


def _folder(path: Path, size: int | None, how: str) -> ImageSet:
    arrays = sorted(path.glob("samples.npz"))
    if arrays:
        return _npz(arrays[0])
    files = sorted((f for f in path.rglob("*") if f.suffix.lower() in PICTURES), key=_natural)
    files = [f for f in files if not f.name.startswith(".") and f.name != OVERVIEW]
    if not files:
        raise InputError(f"there are no pictures in {path} ({', '.join(PICTURES)}).")

    def read(index: int) -> Tensor:
        try:
            image = decode(str(files[index]))
        except UNREADABLE as error:
            raise InputError(f"{files[index]} cannot be read: {error}.") from error
        return to_tensor(image if size is None else fit(image, size, how))

    return ImageSet(str(path), len(files), read)


def _npz(path: Path) -> ImageSet:
    try:
        array = np.load(path, allow_pickle=False)["arr_0"]
    except (OSError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not an .npz with uint8 images in arr_0: {error}.") from error
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (1, 3):
        raise InputError(
            f"{path}: arr_0 must be uint8 [N, H, W, 1 or 3], got {array.dtype} {list(array.shape)}."
        )
    return ImageSet(
        str(path), len(array), lambda index: torch.from_numpy(array[index]).permute(2, 0, 1)
    )


def _dataset(name: str, data: Data) -> ImageSet:
    rows = open_source(data).rows

    def read(index: int) -> Tensor:
        try:
            return prepare(rows[index], data)
        except UNREADABLE as error:
            raise InputError(f"row {index} of {name} cannot be decoded: {error}.") from error

    return ImageSet(name, len(rows), read)


def _natural(path: Path) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]
