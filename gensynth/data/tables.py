"""Parquet files, datasets of the hub and the bundled sets, through Hugging Face's `datasets`."""

import errno
import glob
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, IterableDataset

from gensynth.config import Data
from gensynth.data.encoded import shards
from gensynth.data.reading.captions import TEXT_COLUMNS, UNUSED
from gensynth.data.reading.labels import LABEL_COLUMNS
from gensynth.data.reading.places import files_ending, files_of_split, matching
from gensynth.errors import GensynthError, InputError, OutputError, UsageError
from gensynth.system import hub

BUNDLED = Path(__file__).parent / "bundled"
BUNDLED_SETS = {"fashion_mnist": BUNDLED, "emoji": BUNDLED / "emoji"}
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp")
OF_PICTURES = ("binary", "large_binary", "string", "large_string", "null")  # files, or their paths
FULL = (errno.ENOSPC, errno.EDQUOT)


def load_table(data: Data, texts: bool = False) -> tuple[Dataset | IterableDataset, bool]:
    """The rows of a section with columns `image`, encoded, and `label`; whether there is a label.

    With `texts` the column `text`, of captions as they are stored, instead of `label`.

    Raises:
        InputError: nothing there, or a file that cannot be read.
        OutputError: the cache of `datasets` cannot be written.
        UsageError: no image column, no captions, or labels of a kind that no class has.
    """
    rows = load_rows(data)
    columns = rows.column_names
    if columns is None:  # a stream knows them only once a row was read
        columns = list(next(iter(rows), {}))
    image = _column(data.image_column, IMAGE_COLUMNS, columns, "image_column")
    if image is None:
        raise UsageError(
            f"data has no image column: it has {', '.join(columns)}. Set data.image_column."
        )
    _check_holds_pictures(image, (rows.features or {}).get(image))
    told = _text_column(data, columns) if texts else _label_column(data, columns)
    rows = rows.select_columns([image, told] if told else [image])
    # Bytes, not pictures: decoding is done by the workers, by `data.images` alone.
    rows = rows.cast_column(image, datasets.Image(decode=False))
    if image != "image":
        rows = rows.rename_column(image, "image")
    name = "text" if texts else "label"
    if told not in (None, name):
        rows = rows.rename_column(told, name)
    return rows, told is not None


def load_rows(data: Data) -> Dataset | IterableDataset:
    """The rows of a section with the columns they are stored with."""
    options: dict[str, Any] = {"split": data.split, "streaming": data.streaming}
    path, name = data.path or "", "parquet"
    if data.source == "hub":
        name = path
        if not Path(path).exists():
            hub.check_data(path)
    elif data.source in BUNDLED_SETS:
        split = data.split.partition("[")[0]  # train[:500] is a part of train
        file = BUNDLED_SETS[data.source] / f"{split}.parquet"
        if not file.is_file():
            raise UsageError(f"{data.source} has the splits train and test, not {data.split!r}.")
        options["data_files"] = {split: _literal([file])}
    elif data.source == "encoded":
        options["split"] = "encoded"  # data.split may be a part of one
        options["data_files"] = {"encoded": _literal(shards(data))}
    else:
        files = files_ending(Path(path), ".parquet") if Path(path).is_dir() else matching(path)
        if not files:
            raise InputError(f"there are no {data.source} files at {path}.")
        options["data_files"] = {data.split: _literal(files_of_split(files, data.split))}
    return _loaded(name, options, f"{data.source} data{f' at {path}' if path else ''}")


def load_files(files: Sequence[Path], what: str) -> Dataset:
    """The rows of some Parquet files of ours; `what` names them in a message.

    Raises:
        InputError: a file that cannot be read.
        OutputError: the cache of `datasets` cannot be written.
    """
    options = {"split": "encoded", "data_files": {"encoded": _literal(files)}}
    return _loaded("parquet", options, what)


def _loaded(name: str, options: dict[str, Any], what: str) -> Any:
    try:
        return datasets.load_dataset(name, **options)
    except (
        datasets.exceptions.DatasetGenerationError,
        tarfile.TarError,
        OSError,
        ValueError,
        # of a description of columns that is none, in the file
        *(TypeError, AttributeError, LookupError, RecursionError, ArithmeticError),
    ) as error:
        cause = error.__cause__ or error
        raise _cache_trouble(cause) or InputError(
            f"cannot read {what}: {cause}. "
            "Check the path and data.split; a damaged file has to be fetched again."
        ) from error


def _check_holds_pictures(column: str, feature: Any) -> None:
    """
    Raises:
        UsageError: a column of numbers or the like.
    """
    if isinstance(feature, datasets.Value) and feature.dtype not in OF_PICTURES:
        raise UsageError(
            f"the column {column} holds {feature.dtype}, no pictures. Set data.image_column."
        )


def _label_column(data: Data, columns: list[str]) -> str | None:
    return _column(data.label_column, LABEL_COLUMNS, columns, "label_column")


def _text_column(data: Data, columns: list[str]) -> str:
    """
    Raises:
        UsageError: there are no captions.
    """
    found = _column(data.text_column, TEXT_COLUMNS, columns, "text_column")
    if found is None:
        raise UsageError(
            f"the data have no column of captions ({', '.join(TEXT_COLUMNS)}): they have "
            f"{', '.join(columns)}. Set data.text_column. {UNUSED}"
        )
    return found


def _literal(files: Sequence[Path]) -> list[str]:
    """Files by patterns that match nothing else: `datasets` takes every name for a pattern."""
    return [glob.escape(str(file)) for file in files]


def _cache_trouble(cause: BaseException) -> GensynthError | None:
    """What to say if `datasets` failed because of its own cache, and not of the data."""
    folder = Path(datasets.config.HF_DATASETS_CACHE)
    problem = cause.strerror if isinstance(cause, OSError) and cause.errno in FULL else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        problem = error.strerror or str(error)
    if problem is None:
        return None
    return OutputError(
        f"the cache of datasets, {folder}, cannot be written: {problem}. Set HF_HOME to a folder "
        "that can be, with space for a copy of the data."
    )


def _column(given: str | None, usual: tuple[str, ...], columns: list[str], key: str) -> str | None:
    if given is not None:
        if given not in columns:
            raise UsageError(f"data.{key} {given!r} is not one of {', '.join(columns)}.")
        return given
    lower = {name.lower(): name for name in reversed(columns)}  # `Image` is as good as `image`
    return next((lower[name] for name in usual if name in lower), None)
