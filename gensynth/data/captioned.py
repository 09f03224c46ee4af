"""Sources of pictures with captions, for models that are told texts."""

from typing import Any

from datasets import Dataset, IterableDataset

from gensynth.config import Data
from gensynth.data.encoded import check_rows
from gensynth.data.reading.captions import UNUSED, captions_of
from gensynth.data.reading.contents import LeftOut
from gensynth.data.rows import CaptionedRows
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


def _captioned(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {**row, "text": captions_of(row["text"], name)}


def _has_captions(row: dict[str, Any]) -> bool:
    return bool(row["text"])
