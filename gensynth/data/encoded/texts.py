"""Captions that a frozen text encoder has read once: Parquet files, and `texts.json` written last.

A row is a `text`, its `states` (float32 [words, D], without those of the padding, which no model
looks at), and its `pooled` (float32 [P]), little-endian bytes both. Each caption is there once.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from gensynth import __version__
from gensynth.data.tables import load_files
from gensynth.errors import CorruptError, InputError, UsageError
from gensynth.files import write_text

FOLDER, RECORD = "texts", "texts.json"
AGAIN = "Encode the captions again: gensynth encode --text."
SHARD_BYTES = 2**28
SCHEMA = pa.schema({"text": pa.string(), "states": pa.binary(), "pooled": pa.binary()})
STORED = np.dtype("<f4")


class TextEncoder(Protocol):
    """What encodes texts, see `gensynth.conditions.text_encoder`."""

    place: str

    @property
    def length(self) -> int: ...

    def encode(self, texts: list[str], device: torch.device) -> dict[str, Tensor]: ...

    def fingerprint(self) -> str: ...


class TextRecord(BaseModel):
    """The content of `texts.json`; `encoder` is only for people to read."""

    model_config = ConfigDict(strict=True)
    version: Literal[1] = Field(1, alias="schema")
    encoder: str
    fingerprint: str
    length: int
    width: int
    pooled_width: int
    count: int
    gensynth: str


def write_texts(
    folder: Path,
    texts: Iterable[str],
    encoder: TextEncoder,
    device: torch.device,
    shard_bytes: int = SHARD_BYTES,
) -> TextRecord:
    """Fills an empty folder with what an encoder makes of different texts.

    Raises:
        CorruptError: it makes numbers that are not finite.
    """
    rows: list[dict[str, Any]] = []
    shards = count = width = pooled_width = pending = 0

    def flush() -> None:
        nonlocal shards, pending
        table = pa.Table.from_pylist(rows, SCHEMA)
        pq.write_table(table, folder / f"{shards:05d}.parquet", use_dictionary=False)
        shards, pending = shards + 1, 0
        rows.clear()

    for text in texts:
        told = encoder.encode([text], device)
        words = int(told["encoder_attention_mask"].sum())
        # The padding follows the words, of which each text has one at least.
        assert words and told["encoder_attention_mask"][0, :words].all()
        states = told["encoder_hidden_states"][0, :words].cpu()
        pooled = told["pooled_projections"][0].cpu()
        if not (torch.isfinite(states).all() and torch.isfinite(pooled).all()):
            raise CorruptError(f"the text encoder {encoder.place!r} gives numbers not finite.")
        row = {"states": states.numpy(), "pooled": pooled.numpy()}
        rows.append({"text": text, **{k: v.astype(STORED).tobytes() for k, v in row.items()}})
        width, pooled_width = states.shape[-1], pooled.shape[-1]
        count, pending = count + 1, pending + states.nbytes + pooled.nbytes
        if pending >= shard_bytes:
            flush()
    if rows:
        flush()
    record = TextRecord(
        schema=1,
        encoder=encoder.place,
        fingerprint=encoder.fingerprint(),
        length=encoder.length,
        width=width,
        pooled_width=pooled_width,
        count=count,
        gensynth=__version__,
    )
    write_text(folder / RECORD, record.model_dump_json(by_alias=True, indent=1) + "\n")
    return record


class EncodedTexts:
    """What an encoder has made of some texts, from a folder that `write_texts` filled.

    Raises:
        InputError: there is none, or a later version wrote it.
        CorruptError: it is damaged.
        UsageError: another encoder made it, or for prompts of another length.
    """

    def __init__(self, folder: Path, encoder: TextEncoder):
        self.folder, self.record = folder, _read_record(folder)
        self._check(encoder)
        self.rows = rows_of(folder, self.record.count, SCHEMA.names)
        self.numbers = {text: number for number, text in enumerate(self.rows["text"])}

    def get(self, text: str) -> dict[str, Tensor] | None:
        """The tensors [1, ...] of a text, on the CPU; None if it is not among them.

        Raises:
            CorruptError: bytes that are not those of one text.
        """
        number = self.numbers.get(text)
        if number is None:
            return None
        row, record = self.rows[number], self.record
        states = np.frombuffer(row["states"] or b"", STORED).astype(np.float32)
        pooled = np.frombuffer(row["pooled"] or b"", STORED).astype(np.float32)
        words, rest = divmod(states.size, record.width)
        if rest or not 0 < words <= record.length or pooled.size != record.pooled_width:
            raise CorruptError(f"{self.folder} has a caption of a wrong length. {AGAIN}")
        padded = torch.zeros(1, record.length, record.width)
        padded[0, :words] = torch.from_numpy(states).view(words, record.width)
        return {
            "encoder_hidden_states": padded,
            "encoder_attention_mask": torch.arange(record.length)[None] < words,
            "pooled_projections": torch.from_numpy(pooled)[None],
        }

    def _check(self, encoder: TextEncoder) -> None:
        for key, now in (("length", encoder.length), ("fingerprint", encoder.fingerprint())):
            was = getattr(self.record, key)
            if was != now:
                raise UsageError(
                    f"{self.folder} was encoded with another text encoder "
                    f"({self.record.encoder}): its {key} is {was}, that of {encoder.place} is "
                    f"{now}. Use the same condition.encoder and condition.length, or encode again: "
                    "gensynth encode --text."
                )


def rows_of(folder: Path, count: int, columns: list[str]) -> Dataset:
    """The rows of a folder of encoded captions.

    Raises:
        CorruptError: they are damaged, or not as many or of other columns than its record says.
    """
    rows = load_files(sorted(folder.glob("*.parquet")), f"encoded captions at {folder}")
    if len(rows) != count or rows.column_names != columns:
        raise CorruptError(
            f"{folder} should have {count} encoded captions, but has {len(rows)}. {AGAIN}"
        )
    return rows


def _read_record(folder: Path) -> TextRecord:
    path = folder / RECORD
    try:
        return TextRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"there is no {path}; gensynth encode --text makes it.") from error
    except ValidationError as error:
        if any(problem["loc"] == ("schema",) for problem in error.errors()):
            raise InputError(f"{path} is not of a version this gensynth reads. {AGAIN}") from error
        raise CorruptError(f"{path} is damaged. {AGAIN}") from error
