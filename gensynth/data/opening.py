"""The files that a section names, before anything is made of their labels or captions."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import datasets
import pyarrow as pa
from datasets import Dataset

from gensynth.config import Data
from gensynth.data.reading.contents import LeftOut
from gensynth.data.reading.endings import ENDINGS
from gensynth.data.reading.folder import PictureFolder, read_folder
from gensynth.data.reading.places import files_ending, files_of_split, matching
from gensynth.data.reading.tars import Columns, Sample, samples_of
from gensynth.errors import InputError, UsageError


def found_folder(data: Data, texts: bool = False) -> PictureFolder:
    """What is in an image folder, with captions instead of labels if they are wanted.

    Raises:
        InputError: no pictures, or as `read_folder`.
        UsageError: a key that is not of folders, or as `read_folder`.
    """
    folder = Path(data.path or "")
    if not folder.is_dir():
        raise InputError(f"there is no image folder {folder}.")
    if data.image_column not in (None, "image"):
        raise UsageError("data.image_column is for tables; leave it out for an imagefolder.")
    found = read_folder(
        folder,
        data.split,
        data.class_level,
        data.classes or (),
        data.label_column,
        data.text_column,
        texts,
        # As text, as the runs of earlier versions saw them: they resume with the same pictures.
        order=str,
    )
    if not found.files:
        without = f" Left out: {found.left_out.words()}." if found.left_out else ""
        raise InputError(f"there are no pictures in {folder} ({', '.join(ENDINGS)}).{without}")
    return found


def table_of_files(
    files: Sequence[Path],
    labels: Sequence[int] | None = None,
    captions: Sequence[Sequence[str]] | None = None,
) -> Dataset:
    """Rows of picture files, with labels or captions if there are any.

    Raises:
        InputError: a name that is not in UTF-8.
    """
    paths = [str(file) for file in files]
    try:
        texts = pa.array(paths, pa.string())
    except UnicodeEncodeError as error:
        raise InputError(
            f"the name {error.object!r} is not in UTF-8; rename the file or its folder."
        ) from error
    empty = pa.nulls(len(paths), pa.binary())
    columns = {"image": pa.StructArray.from_arrays([empty, texts], ["bytes", "path"])}
    features = datasets.Features({"image": datasets.Image(decode=False)})
    if labels is not None:
        columns["label"] = pa.array(labels, pa.int64())
        features["label"] = datasets.Value("int64")
    if captions is not None:
        columns["text"] = pa.array(captions, pa.list_(pa.string()))
        features["text"] = datasets.List(datasets.Value("string"))
    # in memory: nothing is written to a cache
    table = datasets.table.InMemoryTable(pa.table(columns))
    digest = hashlib.sha256("\n".join(paths).encode()).hexdigest()
    return Dataset(table, info=datasets.DatasetInfo(features=features), fingerprint=digest)


def found_tars(data: Data) -> list[Path]:
    """The tars of a section's split.

    Raises:
        InputError: there are none.
        UsageError: none is of the split.
    """
    place = data.path or ""
    folder = Path(place)
    files = files_ending(folder, ".tar", ".tar.gz", ".tgz") if folder.is_dir() else matching(place)
    if not files:
        raise InputError(f"there are no webdataset files at {place}.")
    return files_of_split(files, data.split)


def found_samples(
    files: Sequence[Path], columns: Columns, left_out: LeftOut, place: str
) -> list[tuple[int, Sample]]:
    """The samples with pictures in some tars, each with the number of its tar.

    Raises:
        InputError: there are none, or a tar that cannot be read.
    """
    found: list[tuple[int, Sample]] = []
    for at, file in enumerate(files):
        found += [(at, sample) for sample in samples_of(file, columns, left_out)]
    if not found:
        raise InputError(f"there are no pictures in the tars at {place} ({', '.join(ENDINGS)}).")
    return found
