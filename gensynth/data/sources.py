"""Any source of labelled images as a Hugging Face dataset with columns `image` and `label`."""

import tarfile
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, IterableDataset

from gensynth.config import Data
from gensynth.data.encoded import check_rows, shards
from gensynth.errors import InputError, UsageError

BUNDLED = Path(__file__).parent / "bundled"
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = ("label", "labels", "cls", "class", "fine_label")
# How the hub's files say in their names which split they are of.
SPLITS = ("train", "test", "val")


@dataclass
class Source:
    """A dataset whose rows are {"image": {"bytes", "path"}, "label": int}, and its class names.

    Rows of source encoded are {"latents": bytes, "label": int}, see `gensynth.data.encoded`.
    """

    rows: Dataset | IterableDataset
    classes: list[str]

    @property
    def streamed(self) -> bool:
        return isinstance(self.rows, IterableDataset)

    def name_of(self, row: int) -> str:
        """How to find an image again: its file, or its row."""
        if not self.streamed:
            path = (self.rows[row].get("image") or {}).get("path")
            if path and Path(path).is_file():
                return str(path)
        return f"row {row}"


def open_source(data: Data) -> Source:
    """The dataset that a `data:` section names. Images stay encoded.

    Raises:
        InputError: nothing there, or a file that cannot be read.
        UsageError: no image column, class names that are neither stored nor given, or images
            encoded for other settings.
        CorruptError: encoded images are damaged.
    """
    rows = _load(data)
    if data.source == "encoded":
        check_rows(rows, data)
        return Source(rows, _fitting(rows, data.classes or rows.features["label"].names))
    columns = rows.column_names
    if columns is None:  # a stream knows them only once a row was read
        columns = list(next(iter(rows), {}))
    image = _column(data.image_column, IMAGE_COLUMNS, columns, "image_column")
    if image is None:
        raise UsageError(
            f"data has no image column: it has {', '.join(columns)}. Set data.image_column."
        )
    label = _column(data.label_column, LABEL_COLUMNS, columns, "label_column")
    features = rows.features or {}
    classes = data.classes or getattr(features.get(label), "names", None)
    rows = rows.select_columns([image, label] if label else [image])
    # Bytes, not pictures: decoding is done by the workers, by `data.images` alone.
    rows = rows.cast_column(image, datasets.Image(decode=False))
    if image != "image":
        rows = rows.rename_column(image, "image")
    if label is None:
        return Source(rows, ["image"])
    if label != "label":
        rows = rows.rename_column(label, "label")
    if classes is None and isinstance(rows, IterableDataset):
        raise UsageError("this stream does not carry class names. Set data.classes.")
    if isinstance(rows, Dataset):
        classes = _fitting(rows, classes)
    return Source(rows, list(classes or []))


def _load(data: Data) -> Dataset | IterableDataset:
    options: dict[str, Any] = {"split": data.split, "streaming": data.streaming}
    path = data.path or ""
    if data.source == "hub":
        name: str | None = path
    elif data.source == "fashion_mnist":
        name, options["data_files"] = (
            "parquet",
            {data.split: str(BUNDLED / f"{data.split}.parquet")},
        )
        if not Path(options["data_files"][data.split]).is_file():
            raise UsageError(f"fashion_mnist has the splits train and test, not {data.split!r}.")
    elif data.source == "encoded":
        name, options["split"] = "parquet", "encoded"  # data.split may be a part of one
        options["data_files"] = {"encoded": [str(file) for file in shards(data)]}
    elif data.source == "imagefolder":
        if not Path(path).is_dir():
            raise InputError(f"there is no image folder {path}.")
        name, options["data_dir"] = "imagefolder", path
    else:
        files = sorted(glob(path))
        if Path(path).is_dir():
            ending = "parquet" if data.source == "parquet" else "tar"
            files = sorted(str(file) for file in Path(path).glob(f"*.{ending}"))
        if not files:
            raise InputError(f"there are no {data.source} files at {path}.")
        name, options["data_files"] = data.source, {data.split: _of_split(files, data.split)}
    try:
        return datasets.load_dataset(name, **options)
    except (
        datasets.exceptions.DatasetGenerationError,
        tarfile.TarError,
        OSError,
        ValueError,
    ) as error:
        cause = error.__cause__ or error
        raise InputError(
            f"cannot read {data.source} data{f' at {path}' if path else ''}: {cause}. "
            "Check the path and data.split; a damaged file has to be fetched again."
        ) from error


def _of_split(files: list[str], split: str) -> list[str]:
    """The files of a split, if some file names say to which they belong; otherwise all.

    Raises:
        UsageError: no file is of that split.
    """
    named = {
        file: next((s for s in SPLITS if s in Path(file).stem.lower()), None) for file in files
    }
    if not any(named.values()):
        return files
    wanted = next((s for s in SPLITS if s in split.lower()), split)
    chosen = [file for file, found in named.items() if found == wanted]
    if not chosen:
        found = ", ".join(sorted({name for name in named.values() if name}))
        raise UsageError(f"by their names the files are of {found}, none of data.split {split}.")
    return chosen


def _column(given: str | None, usual: tuple[str, ...], columns: list[str], key: str) -> str | None:
    if given is not None:
        if given not in columns:
            raise UsageError(f"data.{key} {given!r} is not one of {', '.join(columns)}.")
        return given
    return next((name for name in usual if name in columns), None)


def _fitting(rows: Dataset, classes: list[str] | None) -> list[str]:
    """Names for all labels of the rows: those given, or else their numbers."""
    highest = _highest_label(rows)
    classes = classes or [str(number) for number in range(highest + 1)]
    if highest >= len(classes):
        raise UsageError(
            f"the data have label {highest}, but there are only {len(classes)} classes: "
            f"{', '.join(classes[:12])}."
        )
    return list(classes)


def _highest_label(rows: Dataset) -> int:
    labels = rows.unique("label")
    if not all(isinstance(label, int) and label >= 0 for label in labels):
        wrong = next(label for label in labels if not isinstance(label, int) or label < 0)
        raise UsageError(
            f"the labels of classes must be whole numbers from 0, but there is {wrong!r}. "
            "Choose another data.label_column."
        )
    return max(labels)
