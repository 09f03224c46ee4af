"""Sources of pictures with captions, for models that are told texts."""

from typing import Any

from datasets import Dataset, IterableDataset

from gensynth.config import Data
from gensynth.data.encoded import check_rows
from gensynth.data.opening import found_folder, found_samples, found_tars, table_of_files
from gensynth.data.reading.captions import UNUSED, captions_of
from gensynth.data.reading.contents import LeftOut
from gensynth.data.reading.tars import Columns, said_in
from gensynth.data.rows import CaptionedRows, TarRows, stream_of_files, stream_of_tars
from gensynth.data.source import ONE_CLASS, Source
from gensynth.data.tables import load_rows, load_table
from gensynth.errors import UsageError


def open_captioned(data: Data) -> Source:
    """The pictures of a section with their captions; those without are left out.

    Raises:
        GensynthError: as `gensynth.data.sources.open_source`.
    """
    if data.source == "encoded":
        rows = load_rows(data)
        check_rows(rows, data, texts=True)
        return Source(rows, ONE_CLASS, captioned=True)
    if data.source == "imagefolder":
        return _of_folder(data)
    if data.source == "webdataset":
        return _of_tars(data)
    return _of_table(load_table(data, texts=True)[0], data.text_column or "the text column")


def _of_table(rows: Dataset | IterableDataset, name: str) -> Source:
    if isinstance(rows, IterableDataset):
        rows = rows.map(_captioned, fn_kwargs={"name": name}).filter(_has_captions)
        return Source(rows, ONE_CLASS, captioned=True)
    left_out = LeftOut()
    captioned = CaptionedRows(rows, name, left_out)
    if not len(captioned):
        raise UsageError(f"not one of the pictures has a caption. Set data.text_column. {UNUSED}")
    return Source(captioned, ONE_CLASS, left_out, captioned=True)


def _of_folder(data: Data) -> Source:
    found = found_folder(data, texts=True)
    rows: Dataset | IterableDataset = table_of_files(found.files, captions=found.captions)
    if data.streaming:
        # tuples, as for labels: lists would be shuffled whole
        told = tuple(found.captions or ())
        files = {"files": tuple(map(str, found.files)), "told": told, "name": "text"}
        rows = IterableDataset.from_generator(stream_of_files, gen_kwargs=files)
    return Source(rows, ONE_CLASS, found.left_out, found.notes, found.files, captioned=True)


def _of_tars(data: Data) -> Source:
    place, files = data.path or "", found_tars(data)
    columns = Columns(data.image_column, text=data.text_column, texts=True)
    if data.streaming:
        arguments = {"archives": files, "columns": columns, "labels": None}
        rows = IterableDataset.from_generator(stream_of_tars, gen_kwargs=arguments)
        return Source(rows, ONE_CLASS, captioned=True)
    left_out = LeftOut()
    samples = found_samples(files, columns, left_out, place)
    kept = [(at, sample) for at, sample in samples if sample.captions]
    if not kept:
        raise UsageError(
            f"the pictures in the tars at {place} have no captions: their samples have "
            f"{', '.join(said_in(files[0]))}. Captions are in a {' or '.join(columns.said)}, or "
            f"under such a key of a .json; set data.text_column to another. {UNUSED}"
        )
    for _, sample in samples:
        if not sample.captions:
            left_out.add("without a caption", sample.picture.name)
    rows = TarRows(files, kept, captioned=True)
    return Source(rows, ONE_CLASS, left_out, files=files, captioned=True)


def _captioned(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {**row, "text": captions_of(row["text"], name)}


def _has_captions(row: dict[str, Any]) -> bool:
    return bool(row["text"])
