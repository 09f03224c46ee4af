"""Captions that the text encoders of a pipeline of diffusers have read once.

Parquet files with a `text` and the bytes of each of its tensors, and `texts.json`, written last,
which says their names, shapes and types. Each caption is there once.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from gensynth.data.encoded.texts import AGAIN, RECORD, SHARD_BYTES, rows_of
from gensynth.errors import CorruptError, InputError, UsageError
from gensynth.files import write_text

BITS = torch.uint8  # bytes of any type


class PromptEncoder(Protocol):
    """What encodes prompts, see `gensynth.pipelines.pretrained.prompts`."""

    def encode(self, items: list[str], device: torch.device) -> dict[str, Tensor]: ...

    def fingerprint(self) -> str: ...


class Stored(BaseModel):
    """Shape of one tensor without its batch, and its type, "float32" say."""

    model_config = ConfigDict(strict=True)
    shape: list[int]
    dtype: str


class PromptRecord(BaseModel):
    """The content of `texts.json` here; 1 are those of a single encoder."""

    model_config = ConfigDict(strict=True)
    version: Literal[2] = Field(2, alias="schema")
    fingerprint: str
    tensors: dict[str, Stored]
    count: int


def write_prompts(
    folder: Path,
    texts: Iterable[str],
    encoder: PromptEncoder,
    device: torch.device,
    shard_bytes: int = SHARD_BYTES,
) -> PromptRecord:
    """Fills an empty folder with what an encoder makes of different texts.

    Raises:
        CorruptError: it makes numbers that are not finite.
    """
    rows: list[dict[str, str | bytes]] = []
    known: dict[str, Stored] = {}
    shards = count = pending = 0

    def flush() -> None:
        nonlocal shards, pending
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{shards:05d}.parquet")
        shards, pending = shards + 1, 0
        rows.clear()

    for text in texts:
        told = {name: tensor[0].cpu() for name, tensor in encoder.encode([text], device).items()}
        if not all(tensor.isfinite().all() for tensor in told.values()):
            raise CorruptError(f"the text encoders give numbers that are not finite for {text!r}.")
        known = {
            name: Stored(shape=list(tensor.shape), dtype=str(tensor.dtype).partition(".")[2])
            for name, tensor in told.items()
        }
        rows.append({"text": text, **{name: as_bytes(tensor) for name, tensor in told.items()}})
        count, pending = count + 1, pending + sum(tensor.nbytes for tensor in told.values())
        if pending >= shard_bytes:
            flush()
    if rows:
        flush()
    record = PromptRecord(schema=2, fingerprint=encoder.fingerprint(), tensors=known, count=count)
    write_text(folder / RECORD, record.model_dump_json(by_alias=True, indent=1) + "\n")
    return record


def as_bytes(tensor: Tensor) -> bytes:
    """The numbers of a tensor, bit for bit."""
    return tensor.contiguous().view(BITS).numpy().tobytes()


class EncodedPrompts:
    """What text encoders have made of some captions, from a folder that `write_prompts` filled.

    Raises:
        InputError: there is none.
        CorruptError: it is damaged.
        UsageError: other encoders made it.
    """

    def __init__(self, folder: Path, encoder: PromptEncoder):
        try:
            self.record = PromptRecord.model_validate_json((folder / RECORD).read_bytes())
        except OSError as error:
            missing = f"there is no {folder / RECORD}; gensynth encode --text makes it."
            raise InputError(missing) from error
        except ValidationError as error:
            raise CorruptError(
                f"{folder / RECORD} is damaged, or of a single text encoder. {AGAIN}"
            ) from error
        if self.record.fingerprint != encoder.fingerprint():
            raise UsageError(
                f"{folder} was encoded with other text encoders than the teacher's. {AGAIN}"
            )
        self.folder = folder
        self.rows = rows_of(folder, self.record.count, ["text", *self.record.tensors])
        self.numbers = {text: number for number, text in enumerate(self.rows["text"])}

    def get(self, text: str) -> dict[str, Tensor] | None:
        """The tensors [1, ...] of a text, on the CPU; None if it is not among them.

        Raises:
            CorruptError: bytes that are not those of one text.
        """
        number = self.numbers.get(text)
        if number is None:
            return None
        row = self.rows[number]
        found = {}
        for name, stored in self.record.tensors.items():
            flat = torch.frombuffer(bytearray(row[name]), dtype=getattr(torch, stored.dtype))
            if flat.numel() != torch.Size(stored.shape).numel():
                raise CorruptError(f"{self.folder} has a caption of a wrong length. {AGAIN}")
            found[name] = flat.view(1, *stored.shape)
        return found
