"""A folder of pictures: which files, which classes, and what was left out. The one reader of ours.

Training, encoding and evaluation all see a folder through `read_folder`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gensynth.data.reading.captions import (
    TEXT_COLUMNS,
    UNUSED,
    captions_beside,
    captions_in_tables,
)
from gensynth.data.reading.contents import LeftOut
from gensynth.data.reading.endings import natural
from gensynth.data.reading.labels import LABEL_COLUMNS
from gensynth.data.reading.layout import (
    ALL,
    chosen_folders,
    class_folders,
    parsed_split,
    relative,
    split_folders,
)
from gensynth.data.reading.metadata import column_of, read_metadata
from gensynth.data.reading.walk import OTHER, TEXT, Walked, walk
from gensynth.errors import InputError, UsageError

ONE_KIND = "All are of one kind: to have classes, put the pictures into a folder for each."


@dataclass
class PictureFolder:
    """The pictures of a folder.

    Attributes:
        labels: what the folder says of each picture's class: a name, or a value of its tables;
            None if the pictures have no classes.
        captions: of each picture, at least one; None unless they were asked for.
        by_folders: whether the labels are names of folders.
        splits: the folders of a dataset's splits, if there are some.
        notes: sentences about how this was read.
    """

    folder: Path
    files: list[Path]
    labels: list[Any] | None = None
    captions: list[list[str]] | None = None
    by_folders: bool = False
    splits: list[str] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    notes: list[str] = field(default_factory=list)


def read_folder(
    folder: Path,
    split: str | None = None,
    level: int | None = None,
    classes: Sequence[str] = (),
    label_column: str | None = None,
    text_column: str | None = None,
    texts: bool = False,
    order: Callable[[Path], Any] = str,
) -> PictureFolder:
    """What is in a folder of pictures, its tables (`metadata.csv`, `metadata.jsonl`) included.

    Args:
        split: which split of a dataset, as `train` beside `val`, with slices as the hub
            writes them ("train[:10%]"); "all" for all. None: the user is asked.
        level: which folders are the classes, see `class_folders`.
        classes: names of classes that are known beforehand.
        label_column, text_column: of the tables.
        texts: captions are read, and no labels.
        order: key by which the files are sorted.

    Raises:
        InputError: nothing there, pictures that lie differently deep, a split that is not there, a
            damaged table or `.txt`, or a table that names a picture which is not there.
        UsageError: a choice that has to be made, a column that does not exist, or no captions.
    """
    walked = walk(folder)
    files = sorted(walked.files, key=order)
    found = PictureFolder(folder, files, left_out=walked.left_out)
    if walked.linked:
        found.notes.append(f"{walked.linked:,} of them through links that lead out of the folder.")
    usual = TEXT_COLUMNS if text_column is None else [text_column]
    tables = read_metadata(walked.metadata, found.left_out, usual)
    _check_there(tables, set(files))
    _choose_split(found, split, classes)
    if not found.files:
        return found
    if texts:
        column = column_of(tables, text_column, TEXT_COLUMNS, "text_column")
        _caption(found, tables, walked, column)
        return found
    column = column_of(tables, label_column, LABEL_COLUMNS, "label_column")
    if column is not None:
        _label_by_tables(found, tables, column)
    else:
        _label_by_folders(found, level)
    _note_captions(found, tables, walked.texts)
    return found


def read_files(files: Sequence[Path], level: int | None = None) -> PictureFolder:
    """Some picture files; the folders below the one that they all are in are their classes.

    Raises:
        InputError: they lie differently deep.
    """
    folder = Path(os.path.commonpath([str(file.parent) for file in files]))
    found = PictureFolder(folder, list(files))
    _label_by_folders(found, level)
    return found


def _check_there(tables: dict[Path, dict[str, Any]], files: set[Path]) -> None:
    missing = [picture for picture in tables if picture not in files]
    if missing:
        raise InputError(
            f"{missing[0]} is named by a metadata table, but there is no such picture "
            f"({len(missing):,} in all). Names are relative to the folder of the table; put the "
            "pictures there or delete their rows."
        )


def _choose_split(found: PictureFolder, split: str | None, classes: Sequence[str]) -> None:
    """Keeps what `split` names."""
    inside = relative(found.files, found.folder)
    found.splits = folders = split_folders(inside, classes)
    pieces: list[tuple[str | None, str]] = [(None, "")] if split is None else [*parsed_split(split)]
    kept: list[Path] = []
    used: list[str] = []
    for name, cut in pieces:
        if folders:
            mine = chosen_folders(str(found.folder), folders, name)
            some = [
                file for file, parts in zip(found.files, inside, strict=True) if parts[0] in mine
            ]
            used += [folder for folder in mine if folder not in used]
        elif name in (None, ALL, "train") or not found.files:
            some = found.files
        else:
            raise InputError(
                f"{found.folder} has no split {name!r} (data.split): there are no folders such as "
                f"{name} and train in it. Leave data.split out to take all of it."
            )
        kept += _cut(some, cut)
    if not folders:
        found.files = kept
        return
    for parts in inside:
        if parts[0] not in used:
            reason = f"in {parts[0]}/" if len(parts) > 1 else "beside the splits"
            found.left_out.add(reason, "/".join(parts))
    found.files = kept
    words = ", ".join(f"{name}/" for name in folders)
    found.notes.append(f"Split {'+'.join(used)} of {words} (data.split, or FOLDER:SPLIT).")


def _cut(files: list[Path], cut: str) -> list[Path]:
    """The slice of a list that "[:10%]" means, as `datasets` reads it."""
    if not cut:
        return files
    from datasets import ReadInstruction

    try:
        [part] = ReadInstruction.from_spec(f"x{cut}").to_absolute({"x": len(files)})
    except (ValueError, AssertionError) as error:
        raise UsageError(f"data.split: {cut} is no slice of {len(files):,} pictures.") from error
    return files[part.from_ : part.to]


def _label_by_tables(found: PictureFolder, tables: dict[Path, dict[str, Any]], column: str) -> None:
    """Labels of a column; pictures without one are left out."""
    labels, kept = [], []
    for file in found.files:
        value = tables.get(file, {}).get(column)
        if value is None or value == "":
            found.left_out.add(f"without a {column} in the metadata", _name(found, file))
        else:
            kept.append(file)
            labels.append(value)
    found.files, found.labels = kept, labels
    found.notes.append(f"Classes by the column {column} of the metadata.")


def _label_by_folders(found: PictureFolder, level: int | None) -> None:
    inside = relative(found.files, found.folder)
    if found.splits:
        inside = [pieces[1:] for pieces in inside]
    found.labels = class_folders(str(found.folder), inside, level)
    found.by_folders = found.labels is not None
    if found.labels is None and level is None:
        found.notes.append(ONE_KIND)


def _note_captions(
    found: PictureFolder, tables: dict[Path, dict[str, Any]], texts: Sequence[Path]
) -> None:
    captions = {name for row in tables.values() for name in row if name in TEXT_COLUMNS}
    beside = {file.with_suffix("") for file in found.files}
    if any(text.with_suffix("") in beside for text in texts):
        captions.add(TEXT)
    if captions:
        found.notes.append(
            f"Captions ({', '.join(sorted(captions))}) are not used; a run with "
            "condition.kind=text would."
        )
    _leave_out_texts(found, texts)


def _caption(
    found: PictureFolder, tables: dict[Path, dict[str, Any]], walked: Walked, column: str | None
) -> None:
    """Captions of a column of the tables, or else of `.txt` files of the pictures' names.

    Pictures without one are left out.
    """
    if column is not None:
        captions = captions_in_tables(found.files, tables, column)
        _leave_out_texts(found, walked.texts)
        found.notes.append(f"Captions by the column {column} of the metadata.")
    else:
        captions = captions_beside(found.files, walked.texts)
        pictures = {file.with_suffix("") for file in walked.files}
        alone = [text for text in walked.texts if text.with_suffix("") not in pictures]
        _leave_out_texts(found, alone)
        found.notes.append(f"Captions by the {TEXT} beside each.")
    if not any(captions):
        raise _without_captions(found.folder, tables, column)
    for file, some in zip(found.files, captions, strict=True):
        if not some:
            found.left_out.add("without a caption", _name(found, file))
    found.files = [file for file, some in zip(found.files, captions, strict=True) if some]
    found.captions = [some for some in captions if some]


def _without_captions(
    folder: Path, tables: dict[Path, dict[str, Any]], column: str | None
) -> UsageError:
    names = list(dict.fromkeys(name for row in tables.values() for name in row))
    if column is not None:
        why = f"the column {column} of their metadata is empty (it has {', '.join(names)})"
    else:
        here = "there is no metadata.csv or metadata.jsonl"
        if names:
            here = f"the metadata have no such column (its columns are {', '.join(names)})"
        why = f"no {TEXT} of the same name lies beside one, and {here}"
    return UsageError(
        f"the pictures in {folder} have no captions: {why}. Put a {TEXT} beside each, or set "
        f"data.text_column to a column of captions in a metadata.csv. {UNUSED}"
    )


def _leave_out_texts(found: PictureFolder, texts: Sequence[Path]) -> None:
    for text in texts:
        found.left_out.add(OTHER, _name(found, text))


def classes_of_folders(names: Sequence[str], given: Sequence[str] | None) -> list[str]:
    """Names of the classes by number, of folders with these names.

    Args:
        given: names in the order of their numbers: those of the folders, which may be more than
            there are folders, or as many others, which are given to the folders in their order.

    Raises:
        UsageError: they are neither.
    """
    found = sorted(set(names), key=natural)
    if given is None or (set(given) & set(found) == set() and len(given) == len(found)):
        return found
    other = [name for name in found if name not in given]
    if other:
        raise UsageError(
            f"data.classes leaves out the folder {other[0]!r}: name all {len(found)} folders, or "
            "leave data.classes out."
        )
    return list(given)


def _name(found: PictureFolder, file: Path) -> str:
    return "/".join(relative([file], found.folder)[0])
