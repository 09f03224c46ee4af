"""Features of images, by position, in small files: work that is shared, stopped and continued.

Any number of processes writes the files of one set of images; whoever reads them finds the features
in the order of the images. A number computed from them depends neither on who wrote which file nor
on how often the work was interrupted.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gensynth.errors import InputError, OutputError
from gensynth.files import replace_file
from gensynth.metrics.extractors import Extractor
from gensynth.processes import processes
from gensynth.system.disk import cache_folder

IMAGES_OF_A_FILE = 128
FILES_AT_A_TIME = 32  # read together: products of many rows are faster
ROUNDS = 2  # the second if another program has deleted some files meanwhile
UNUSED_DAYS = 7  # after which features are deleted
PIXELS = "pixels"  # beside the features: a hash of each image, int64
LAYOUT = 2  # of the files; to be raised when what is in them changes

Tick = Callable[[int], None]


@dataclass(frozen=True)
class Effort:
    """How the work is divided; the numbers do not depend on it.

    Attributes:
        batch_size: images that go through the extractor together.
        workers: processes that decode for each process.
        tick: called with numbers of images that are done.
        expect: called with the number of all images of a measurement, before the first is done.
        say: called with what the main process has to say.
    """

    batch_size: int = 64
    workers: int = 0
    tick: Tick = lambda count: None
    expect: Tick = lambda count: None
    say: Callable[[str], None] = lambda text: None


class Images(Protocol):
    """What is measured: images by index, all of one size.

    Attributes:
        fingerprint: other images, or the same brought to another size, have another one.
        lossy: stored as JPEG or the like.
        labels, classes: the class of an index and the names of classes, where they are known.
        texts: what each was drawn for or shows in words, where that is known.
    """

    name: str
    length: int
    fingerprint: str
    lossy: bool
    labels: Callable[[int], int] | None
    classes: list[str] | None

    @property
    def texts(self) -> Sequence[str] | None: ...

    def read(self, index: int) -> Tensor:
        """uint8 [1 or 3, H, W] of one image."""

    def batches(
        self, indices: Sequence[int], batch_size: int, workers: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Indices [B] and uint8 [B, 1 or 3, H, W], in the order of `indices`."""


class FeatureFiles:
    """The features of `count` images, in the order in which they were asked for."""

    def __init__(self, folder: Path, count: int):
        self.folder, self.count = folder, count

    @property
    def ranges(self) -> list[range]:
        """The positions of each file."""
        starts = range(0, self.count, IMAGES_OF_A_FILE)
        # small files: what an interrupted process loses is at most one of them
        return [range(start, min(start + IMAGES_OF_A_FILE, self.count)) for start in starts]

    def path(self, positions: range) -> Path:
        return self.folder / f"{positions.start:09d}-{positions.stop:09d}.safetensors"

    def missing(self) -> list[range]:
        """The positions that are not written yet."""
        return [positions for positions in self.ranges if not readable(self.path(positions))]

    def write(self, positions: range, features: dict[str, Tensor]) -> None:
        """Stores the features [len(positions), D] of one file.

        Raises:
            OutputError: the disk is full or the folder not writable.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # at once, whole or not at all: another process may read the folder meanwhile
            replace_file(self.path(positions), save(features))
        except OSError as error:
            raise OutputError(
                f"cannot write features to {self.folder}: {error.strerror or error}. Free some "
                "space or set GENSYNTH_CACHE to another folder; the same command then goes on."
            ) from error

    def read(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Positions [B] and features [B, D] of all images, in order, some thousands at a time."""
        for first in range(0, len(self.ranges), FILES_AT_A_TIME):
            parts = self.ranges[first : first + FILES_AT_A_TIME]
            features = torch.cat([self._load(positions, name) for positions in parts])
            yield torch.arange(parts[0].start, parts[-1].stop), features

    def _load(self, positions: range, name: str) -> Tensor:
        try:
            with safe_open(self.path(positions), "pt") as file:
                return file.get_tensor(name)
        except FileNotFoundError as error:
            raise InputError(
                f"features in {self.folder} are gone; another program must have deleted them. The "
                "same command again makes them."
            ) from error

    def all(self, name: str) -> Tensor:
        """The features [N, D] of all images."""
        return torch.cat([features for _, features in self.read(name)])

    def used(self) -> None:
        """Marks the files as needed now, so that `remove_unused` leaves them."""
        if self.folder.is_dir():
            os.utime(self.folder)  # its time of change is what `remove_unused` looks at

    def remove(self) -> None:
        """Deletes the files, so that the features have to be computed again."""
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_unused() -> None:
    """Deletes the features in the cache that have not been used for a week."""
    oldest = time.time() - UNUSED_DAYS * 24 * 3600
    for folder in cache_folder("features").glob("*"):
        if folder.is_dir() and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)


def readable(path: Path) -> bool:
    """Whether a file is there and whole."""
    try:
        with safe_open(path, "pt"):
            return True
    except (FileNotFoundError, SafetensorError):
        return False


def feature_files(images: Images, order: Sequence[int], extractor: Extractor) -> FeatureFiles:
    """Where the features of these images lie in the cache: one folder for each set and space."""
    whole = list(order) == list(range(images.length))
    chosen = "all" if whole else hashlib.sha256(np.asarray(order).tobytes()).hexdigest()
    # Everything that a feature depends on, so that a change of any of it finds another folder.
    key = [images.fingerprint, extractor.fingerprint, chosen, IMAGES_OF_A_FILE, LAYOUT]
    folder = cache_folder("features") / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
    return FeatureFiles(folder, len(order))


def extract(
    images: Images,
    order: Sequence[int],
    extractor: Extractor,
    effort: Effort,
) -> FeatureFiles:
    """Computes what is missing of the features of `images`, shared by all processes.

    Some are still missing if `images` end too early.

    Args:
        order: which images, by index; positions in the files are positions in `order`.

    Raises:
        InputError: an image cannot be read, or is of another size.
        OutputError: the cache cannot be written.
    """
    state = processes()
    files = feature_files(images, order, extractor)
    files.used()
    missing = agreed(files.missing())
    if state.is_main_process:
        effort.tick(files.count - sum(map(len, missing)))
    for _ in range(ROUNDS):
        if not missing:
            break
        # In turn, so that the parts differ by one file at most.
        mine = missing[state.process_index :: state.num_processes]
        write_features(images, order, extractor, effort, files, mine)
        state.wait_for_everyone()
        missing = agreed(files.missing())
    return files


def agreed(ranges: list[range]) -> list[range]:
    """The files the main process found missing; other programs may be writing some too."""
    [found] = broadcast_object_list([ranges])
    return found


def write_features(
    images: Images,
    order: Sequence[int],
    extractor: Extractor,
    effort: Effort,
    files: FeatureFiles,
    mine: list[range],
) -> None:
    """Computes and writes the files of these positions."""
    state = processes()
    indices = [order[position] for positions in mine for position in positions]
    # Batches and files have other lengths: features wait here until a file is full.
    waiting: dict[str, list[Tensor]] = {}
    left = iter(mine)
    current = next(left, None)
    for _, batch in images.batches(indices, effort.batch_size, effort.workers):
        for name, features in described(batch, extractor).items():
            waiting.setdefault(name, []).append(features)
        while current is not None and sum(map(len, waiting[PIXELS])) >= len(current):
            whole = {name: torch.cat(parts) for name, parts in waiting.items()}
            count = len(current)
            files.write(current, {name: x[:count].contiguous() for name, x in whole.items()})
            waiting = {name: [x[count:]] for name, x in whole.items()}
            # the main process counts for all, which work at about the same speed
            effort.tick(count * state.num_processes if state.is_main_process else 0)
            current = next(left, None)


def described(batch: Tensor, extractor: Extractor) -> dict[str, Tensor]:
    """Features of a batch of uint8 images [B, C, H, W], on the CPU, and a hash of each image.

    A grey image is the same whether it is stored with one channel or with three.
    """
    found = {name: features.cpu() for name, features in extractor(batch).items()}
    rgb = batch.expand(-1, 3, -1, -1)  # [B, 3, H, W]
    digests = [hashlib.blake2b(image.numpy().tobytes(), digest_size=8).digest() for image in rgb]
    found[PIXELS] = torch.from_numpy(np.frombuffer(b"".join(digests), dtype=np.int64).copy())
    return found


def size_of(images: Images) -> tuple[int, int]:
    """Width and height of the images of a set."""
    known = getattr(images, "size", None)  # of pictures that would have to be drawn
    if known is not None:
        return known
    _, height, width = images.read(0).shape
    return width, height


def pixels_sha256(files: FeatureFiles, sort: bool) -> str:
    """A hash of the pixels of all images; with `sort` the same in whatever order they are."""
    hashes = files.all(PIXELS)
    hashes = hashes.sort().values if sort else hashes
    return hashlib.sha256(hashes.numpy().astype("<i8").tobytes()).hexdigest()


def duplicates(files: FeatureFiles) -> int:
    """How many images are copies of an earlier one, pixel for pixel."""
    hashes = files.all(PIXELS)
    return len(hashes) - len(hashes.unique())


def selection(length: int, num: int | None, seed: int) -> Sequence[int]:
    """Indices of `num` of `length` images, the same ones every time; all of them in order if `num`
    is None or not smaller."""
    if num is None or num >= length:
        return range(length)
    return np.random.default_rng(seed).permutation(length)[: max(num, 0)].tolist()
