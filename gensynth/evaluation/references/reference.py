"""What samples are compared with: statistics, features and images of real pictures."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gensynth.data.files.image_set import ImageSet, open_images
from gensynth.data.files.npz import array_names
from gensynth.errors import RefusedError
from gensynth.evaluation.references.files import (
    Stored,
    holds_statistics,
    read_stored,
    write_stored,
)
from gensynth.evaluation.references.published import PUBLISHED, check_published, published_file
from gensynth.metrics.extractors import Extractor
from gensynth.metrics.extractors.weights import sha256_of
from gensynth.metrics.moments import Statistics


@dataclass
class Reference:
    """Real images as numbers.

    Attributes:
        name: what to call it.
        statistics: by the name of the feature.
        features: float arrays [N, D] of some of the images, likewise.
        images: some of the images, if the file holds them (ADM: for precision and recall).
        meta: what else is known. In files of ours: `name`, `fingerprint`, `count`, `size` (width
            and height) and `images_sha256` of the images, and of the extractor `extractor` (its
            name), `extractor_fingerprint`, `preprocessing`, `weights_sha256`. Of a published one:
            `published` (its name), and `verified` (whether its hash is the known one).
        sha256: of the file, in which its name and when it was made are too.
    """

    name: str
    statistics: dict[str, Statistics]
    features: dict[str, np.ndarray] = field(default_factory=dict)
    images: ImageSet | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None

    @property
    def images_sha256(self) -> str | None:
        """Of the pixels of all images it was made of; None for files that do not say.

        The same wherever the images lie and however the sums over them were rounded.
        """
        return self.meta.get("images_sha256")

    @property
    def statistics_sha256(self) -> str:
        """Of the means and covariances alone, or of the features where there are no moments.

        The same whatever the name, the kept features and the layout of the file. Statistics that
        are computed again with another number of threads may differ in the last bit, and so here.
        """
        arrays = {
            f"{part} {feature}": getattr(moments, part).cpu().numpy()
            for feature, moments in self.statistics.items()
            for part in ("mean", "covariance")
        }
        digest = hashlib.sha256()
        for name, values in sorted((arrays or self.features).items()):
            # with names and shapes: the same numbers cut otherwise are other statistics
            digest.update(f"{name} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values, "<f8").tobytes())
        return digest.hexdigest()

    def check(self, extractor: Extractor) -> None:
        """Whether features of an extractor may be compared with this.

        A file that does not say what made it is judged by the widths of its features.

        Raises:
            RefusedError: it is of another extractor.
        """
        own = {name: len(statistics.mean) for name, statistics in self.statistics.items()}
        own |= {name: rows.shape[1] for name, rows in self.features.items()}
        made_by = self.meta.get("extractor_fingerprint")
        named = self.meta.get("extractor", "another extractor")
        if made_by is not None and made_by != extractor.fingerprint:
            raise RefusedError(
                f"{self.name} was made with {named} ({made_by}), and cannot be compared with "
                f"features of {extractor.name} ({extractor.fingerprint}). Use the same extractor "
                "and weights, or make another: gensynth reference."
            )
        # A file of unknown origin may hold more than this extractor has; one of ours may not.
        unlike = [name for name, width in own.items() if extractor.dims.get(name) != width]
        if len(unlike) == len(own) or (made_by is not None and unlike):
            raise RefusedError(
                f"{self.name} holds {_widths(own)}, and {extractor.name} gives "
                f"{_widths(extractor.dims)}. Use the extractor it was made with, or make another: "
                "gensynth reference."
            )


def _widths(dims: dict[str, int]) -> str:
    return ", ".join(f"{name} of {width} values" for name, width in dims.items())


def is_reference(where: str) -> bool:
    """Whether `where` names a published reference or a file of statistics, and not images.

    Raises:
        InputError: an .npz that cannot be read.
    """
    return where in PUBLISHED or holds_statistics(Path(where))


def holds_images(where: str) -> bool:
    """Whether a file of statistics holds images beside them, as ADM's batches do."""
    path = Path(where)
    return path.suffix.lower() == ".npz" and path.is_file() and "arr_0" in array_names(path)


def read_reference(where: str | Path, extractor: Extractor | None = None) -> Reference:
    """A reference of a published name, or from a file in one of the layouts of `reference_files`.

    Args:
        extractor: the one it must be of.

    Raises:
        InputError: it is not there, damaged, or holds no statistics.
        RefusedError: a pickle that could run code, or a reference of another extractor.
        CorruptError: a file in the place of a published one is another.
    """
    name = str(where)
    published = name in PUBLISHED
    path = published_file(name) if published else Path(where)
    stored = read_stored(path)
    digest = sha256_of(path)
    # What a file says of itself here is no proof.
    for claim in ("published", "verified"):
        stored.meta.pop(claim, None)
    if published:
        stored.meta |= {"published": name, "verified": check_published(name, path, digest)}
    images = None
    if holds_images(str(path)):
        images = open_images(str(path))
    reference = Reference(
        stored.meta.get("name", name),
        stored.statistics,
        stored.features,
        images,
        stored.meta,
        digest,
    )
    if extractor is not None:
        reference.check(extractor)
    return reference


def write_reference(
    path: Path,
    statistics: dict[str, Statistics],
    features: dict[str, np.ndarray],
    meta: dict[str, Any],
) -> None:
    """Writes an .npz that `read_reference` and ADM's, EDM's and pytorch-fid's programs read.

    Raises:
        OutputError: the disk is full or the folder not writable.
    """
    write_stored(path, Stored(statistics, features, meta))
