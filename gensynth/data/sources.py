"""Any source of labelled pictures as rows by number, or a stream, with the names of the classes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import datasets
from datasets import Dataset, IterableDataset

from gensynth.config import Data
from gensynth.data.captioned import open_captioned
from gensynth.data.encoded import check_rows
from gensynth.data.opening import found_folder, found_samples, found_tars, table_of_files
from gensynth.data.reading.contents import LeftOut
from gensynth.data.reading.folder import PictureFolder, classes_of_folders
from gensynth.data.reading.labels import Labels
from gensynth.data.reading.tars import Columns
from gensynth.data.rows import LabelledRows, TarRows, stream_of_files, stream_of_tars
from gensynth.data.source import ONE_CLASS, Source
from gensynth.data.tables import BUNDLED, load_rows, load_table
from gensynth.errors import RefusedError, UsageError

__all__ = ["BUNDLED", "Source", "open_source"]


def open_source(data: Data, begun_with: Sequence[str] | None = None, texts: bool = False) -> Source:
    """The pictures that a `data:` section names. They stay encoded.

    Args:
        begun_with: the names of classes with which a run began that is to go on.
        texts: captions are read, and no labels.

    Raises:
        InputError: nothing there, or a file that cannot be read.
        OutputError: a cache that cannot be written.
        UsageError: no image column, no captions, labels that are no classes, class names that are
            neither stored nor given, or images encoded for other settings.
        CorruptError: encoded images are damaged.
        RefusedError: other classes than those the run began with.
    """
    if texts:
        return open_captioned(data)
    if data.source == "imagefolder":
        source = _open_folder(data)
    elif data.source == "webdataset":
        source = _open_tars(data)
    elif data.source == "encoded":
        rows = load_rows(data)
        check_rows(rows, data)
        source = _of_table(rows, True, data.classes)
    else:
        source = _of_table(*load_table(data), data.classes)
    if begun_with is None or source.classes == list(begun_with):
        return source
    return _numbered_as(source, list(begun_with))


# Tables


def _of_table(
    rows: Dataset | IterableDataset, labelled: bool, named: Sequence[str] | None
) -> Source:
    if not labelled:
        return Source(rows, ONE_CLASS)
    feature = (rows.features or {}).get("label")
    if feature is not None and not isinstance(feature, datasets.Value | datasets.ClassLabel):
        example: Any = next((row["label"] for row in rows if row["label"] is not None), [])
        Labels([example])  # raises: a column of lists
    given = named or getattr(feature, "names", None)
    whole = isinstance(feature, datasets.ClassLabel) or "int" in getattr(feature, "dtype", "")
    if isinstance(rows, IterableDataset):
        labels = Labels(None, given)
        # a worker checks each whole number anyway
        rows = rows if whole else rows.map(_numbered, fn_kwargs={"labels": labels})
        return Source(rows, labels.classes)
    values = rows.unique("label")
    labels = Labels(values, given)
    if whole and all(value is not None and labels.number(value) == value for value in values):
        return Source(rows, labels.classes)
    left_out = LeftOut()
    kept, numbers = _numbers(rows["label"][:], labels, left_out, "row {}".format)
    return Source(LabelledRows(rows, kept, numbers), labels.classes, left_out)


def _numbered(row: dict[str, Any], labels: Labels) -> dict[str, Any]:
    number = labels.number(row["label"])
    if number is None:
        raise UsageError("a row of the stream has no label. Set data.label_column.")
    return {**row, "label": number}


def _numbers(
    values: Sequence[Any], labels: Labels, left_out: LeftOut, name_of: Callable[[int], str]
) -> tuple[list[int], list[int]]:
    """Which rows have a label, and the numbers of their classes."""
    kept, numbers = [], []
    for row, value in enumerate(values):
        number = labels.number(value)
        if number is None:
            left_out.add("without a label", name_of(row))
        else:
            kept.append(row)
            numbers.append(number)
    if not kept:
        raise UsageError("not one of the pictures has a label. Set data.label_column.")
    return kept, numbers


# Folders


def _open_folder(data: Data) -> Source:
    found = found_folder(data)
    classes, numbers = _folder_classes(found, data.classes)
    rows: Dataset | IterableDataset = table_of_files(found.files, numbers)
    if data.streaming:
        # Tuples: lists would be shuffled whole, and earlier runs saw another order.
        names = tuple(str(file) for file in found.files)
        of_files = {"files": names, "told": tuple(numbers or [0] * len(names))}
        rows = IterableDataset.from_generator(stream_of_files, gen_kwargs=of_files)
    return Source(rows, classes, found.left_out, found.notes, found.files)


def _folder_classes(
    found: PictureFolder, given: list[str] | None
) -> tuple[list[str], list[int] | None]:
    """The names of classes, and the class of each picture; None if there are no classes."""
    if found.labels is None:
        return ONE_CLASS, None
    if not found.by_folders:
        labels = Labels(found.labels, given, where="the metadata")
        kept, numbers = _numbers(
            found.labels, labels, found.left_out, lambda row: str(found.files[row])
        )
        found.files = [found.files[row] for row in kept]
        return labels.classes, numbers
    order = classes_of_folders(found.labels, given)
    number = {name: at for at, name in enumerate(order)}
    # as many names as folders, and none of theirs: other words for them, in their order
    return given or order, [number[name] for name in found.labels]


# Tars


def _open_tars(data: Data) -> Source:
    place, files = data.path or "", found_tars(data)
    columns = Columns(data.image_column, data.label_column)
    if data.streaming:
        labels = Labels(None, data.classes)
        arguments = {"archives": files, "columns": columns, "labels": labels}
        rows = IterableDataset.from_generator(stream_of_tars, gen_kwargs=arguments)
        return Source(rows, labels.classes)
    left_out = LeftOut()
    found = found_samples(files, columns, left_out, place)
    if all(sample.label is None for _, sample in found):
        if data.label_column is not None:
            raise UsageError(
                f"data.label_column {data.label_column!r} is neither a member nor a key of the "
                f".json of a sample at {place}."
            )
        return Source(TarRows(files, found, None), ONE_CLASS, left_out, files=files)
    values = [sample.label for _, sample in found]
    labels = Labels(values, data.classes, where=place)
    kept, numbers = _numbers(values, labels, left_out, lambda row: found[row][1].picture.name)
    labelled = TarRows(files, [found[row] for row in kept], numbers)
    return Source(labelled, labels.classes, left_out, files=files)


# Runs that go on


def _numbered_as(source: Source, names: list[str]) -> Source:
    """A source with the numbers of classes that a run began with.

    Raises:
        RefusedError: other classes.
    """
    other = [name for name in source.classes if name not in names]
    labels = source.labels()
    fixed = isinstance(source.rows, Dataset) and "image" not in source.rows.column_names
    if other or labels is None or fixed or len(set(names)) < len(names):
        raise RefusedError(
            f"this run began with {len(names)} classes ({', '.join(names[:12])}), but the data now "
            f"have {len(source.classes)} ({', '.join(source.classes[:12])}). Give it the data it "
            "began with, or begin another: output=DIR."
        )
    number = [names.index(name) for name in source.classes]
    moved = [number[label] for label in labels]
    return replace(
        source,
        rows=LabelledRows(source.rows, range(len(moved)), moved),
        classes=names,
        notes=[*source.notes, "The classes have the numbers with which the run began."],
    )
