"""Images to compare, from any kind of file, by number and as uint8 batches."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from PIL import UnidentifiedImageError
from torch import Tensor
from torch.utils import data as torch_data

from gensynth.config import Data
from gensynth.config.data import BUNDLED
from gensynth.data.files.npz import ArrayImages
from gensynth.data.files.pictures import Files, Pictures, Rows
from gensynth.data.files.tar import TarImages
from gensynth.data.images import UNREADABLE, fit, to_tensor
from gensynth.data.reading.endings import ENDINGS, OVERVIEW, is_picture, natural
from gensynth.data.reading.folder import read_files, read_folder
from gensynth.data.reading.places import SPLITS, files_ending, matching
from gensynth.data.workers import Patience, read_ahead
from gensynth.errors import InputError, UsageError

__all__ = ["OVERVIEW", "ImageSet", "open_images"]

# What is looked for in a folder, in this order, by its endings in upper or lower case, and in a
# folder inside; otherwise it is a folder of pictures.
SAMPLES = "samples.npz"
KINDS = ((".parquet", "."), (".parquet", "data"), (".tar", "."), (".tar.gz", "."), (".tgz", "."))
FASHION_SIZE = 32
PATIENCE = Patience(without="--workers 0, in a run data.workers=0, reads without them")


def without_captions() -> None:
    """Of images that have none."""


@dataclass
class ImageSet:
    """`length` images by number; they may be read in other processes.

    Attributes:
        name: what the user called them.
        read: number -> uint8 [1 or 3, H, W].
        fingerprint: the same as long as the same files are read in the same way: a hash of their
            names, sizes and times, and of the size the images are brought to.
        labels: number -> class; None where the source does not say.
        lossy: stored as JPEG or the like, which changes distances.
        classes: names of the labels, where the source knows them.
        name_of: number -> how to find the image.
        summary: what was read and what was left out, in words.
        captions: gives `captioned`; they are read when they are first asked for.
    """

    name: str
    length: int
    read: Callable[[int], Tensor]
    fingerprint: str
    labels: Callable[[int], int] | None = None
    lossy: bool = False
    classes: list[str] | None = None
    name_of: Callable[[int], str] = "image {}".format
    summary: str = ""
    captions: Callable[[], list[list[str]] | None] = without_captions

    @cached_property
    def captioned(self) -> list[list[str]] | None:
        """All that is said of each image in words; None if nothing is said of any."""
        return self.captions()

    @cached_property
    def texts(self) -> list[str] | None:
        """The first caption of each image, "" where there is none; None if no image has one."""
        found = self.captioned
        return None if found is None else [next(iter(some), "") for some in found]

    def batches(
        self, indices: Sequence[int], batch_size: int = 64, workers: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers int64 [B] and images uint8 [B, C, H, W], in the order of `indices`.

        Args:
            workers: processes that read ahead; 0 for none. In pinned memory if there is a GPU.

        Raises:
            InputError: an image cannot be read, or is not of the size of the first of the set.
        """
        if not len(indices):
            return
        starts = range(0, len(indices), batch_size)
        chunks = [list(indices[start : start + batch_size]) for start in starts]
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        batches: Any = read_ahead(_Stacked(self), workers, device, PATIENCE, batch_sampler=chunks)
        yield from batches


class _Stacked(torch_data.Dataset):
    """Images of a set as batches, all of the size of its first."""

    def __init__(self, images: ImageSet):
        self.images = images
        self.shape = images.read(0).shape

    def __getitems__(self, indices: list[int]) -> Any:
        batch = [self.images.read(index) for index in indices]
        for index, image in zip(indices, batch, strict=True):
            if image.shape != self.shape:
                name_of = self.images.name_of
                raise InputError(
                    f"the images of {self.images.name} differ in size: {name_of(0)} is "
                    f"{_size(self.shape)}, {name_of(index)} is {_size(image.shape)}. Bring them to "
                    "one size; --size N crops those of a reference."
                )
        return torch.tensor(indices), torch.stack(batch)


def _size(shape: torch.Size) -> str:
    return f"{shape[2]}x{shape[1]}"


def open_images(
    where: str,
    size: int | None = None,
    how: str = "crop",
    split: str | None = None,
    level: int | None = None,
) -> ImageSet:
    """The images a user means by `where`.

    Args:
        where: a folder of pictures; an .npz with `arr_0` uint8 [N, H, W, C]; a .tar, such as a
            WebDataset shard; a .parquet file; a folder of .tar or .parquet files; a pattern such as
            `shards/*.tar`; `hub:OWNER/NAME`; or `fashion_mnist` or `emoji`. Datasets take a split
            behind a colon, as in `fashion_mnist:test`.
        size: side in pixels of the square the images are brought to; None leaves them as they are
            (Fashion-MNIST: 32, padded, as the bundled model draws it).
        how: "crop": ADM's centre crop; "pad": on a black square.
        split: of a dataset, unless `where` names it.
        level: which folders around pictures are their classes, see `read_folder`.

    Raises:
        InputError: nothing there, or not readable.
        UsageError: a size, a split or a way to fit that does not exist.
    """
    if how not in ("crop", "pad") or (size is not None and size < 1):
        raise UsageError(
            f"images are brought to a size from 1 by crop or pad, not to {size} by {how}."
        )
    place, named_split = _without_split(where)
    pictures = _open(place, named_split or split, level)
    if not len(pictures):
        raise InputError(
            f"there are no pictures in {place} ({', '.join(ENDINGS)}): {pictures.summary}"
        )
    if place == "fashion_mnist":
        size, how = size or FASHION_SIZE, "pad"
    # The size belongs to the fingerprint: features of the same files at another size are others.
    form = "as they are, sRGB" if size is None else f"{size} {how}, sRGB"
    return ImageSet(
        where,
        len(pictures),
        partial(_read, pictures, size, how),
        hashlib.sha256(f"{pictures.stamp}\n{form}".encode()).hexdigest(),
        None if pictures.labels is None else pictures.labels.__getitem__,
        pictures.lossy,
        pictures.classes,
        pictures.name_of,
        pictures.summary,
        pictures.captions,
    )


def _read(pictures: Pictures, size: int | None, how: str, index: int) -> Tensor:
    try:
        image = pictures.image(index)
    except UNREADABLE as error:
        reason = "it is no image" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"{pictures.name_of(index)} cannot be read: {reason}.") from error
    return to_tensor(image if size is None else fit(image, size, how))


def _without_split(where: str) -> tuple[str, str | None]:
    """A place, and the split behind it if there is one."""
    found = re.fullmatch(r"(.+?):(\w+(?:\[[^\]]*\])?)", where)
    # "hub:" is no place with a split, and a name may have a colon of its own.
    if found is None or found[1] == "hub" or Path(where).exists():
        return where, None
    return found[1], found[2]


def _open(place: str, split: str | None, level: int | None) -> Pictures:
    if place in BUNDLED:
        # the images no bundled model was trained on
        channels = 1 if place == "fashion_mnist" else 3
        section = {"source": place, "split": split or "test", "channels": channels}
        return Rows(Data.model_validate(section))
    if place.startswith("hub:"):
        path = place.removeprefix("hub:")
        return Rows(Data(source="hub", path=path, split=split or "train"))
    files = _find(place)
    if not files:
        found = read_folder(Path(place), split, level, order=natural)
        if split is not None and not found.splits:
            raise UsageError(f"{place} has no splits; leave out {split}.")
        again = partial(read_folder, Path(place), split, level, order=natural, texts=True)
        return Files(found, again)
    kinds = {file.suffix.lower() for file in files}
    if kinds == {".parquet"}:
        path = str(files[0].parent) if Path(place).is_dir() else place
        return Rows(Data(source="parquet", path=path, split=split or _only_split(place, files)))
    if split is not None:
        raise UsageError(f"{place} has no splits; leave out {split}.")
    if kinds <= set(ENDINGS):
        return Files(read_files(files, level))
    if kinds <= {".tar", ".gz", ".tgz"}:
        return TarImages(files)
    if kinds == {".npz"} and len(files) == 1:
        return ArrayImages(files[0])
    raise InputError(
        f"{place} is none of the files that images are read from: one .npz, or any number of "
        f"one kind of .tar, .parquet or {', '.join(ENDINGS)}."
    )


def _find(place: str) -> list[Path]:
    """The files that a path or pattern means, of a folder those of one kind that is no picture.

    Raises:
        InputError: nothing there.
        UsageError: pictures and archives side by side.
    """
    folder = Path(place)
    if not folder.is_dir():
        files = matching(place)
        if not files:
            raise InputError(
                f"there are no images at {place!r}: give a folder, an .npz, .tar or .parquet file, "
                "hub:OWNER/NAME, emoji:test or fashion_mnist:test."
            )
        return sorted(files, key=natural)
    if (folder / SAMPLES).is_file():
        return [folder / SAMPLES]
    for ending, below in KINDS:
        inner = folder / below
        files = sorted(files_ending(inner, ending), key=natural) if inner.is_dir() else []
        if files and any(is_picture(file) and file.name != OVERVIEW for file in folder.iterdir()):
            raise UsageError(f"{place} holds both pictures and *{ending}. Give the latter by name.")
        if files:
            return files
    return []


def _only_split(place: str, files: list[Path]) -> str:
    """The split that Parquet files are of by their names, "train" if they do not say.

    Raises:
        UsageError: they are of several.
    """
    named = {split for file in files for split in SPLITS if split in file.stem.lower()}
    if len(named) > 1:
        raise UsageError(
            f"{place} has the splits {', '.join(sorted(named))}. Choose one: {place}:{min(named)}."
        )
    return next(iter(named), "train")
