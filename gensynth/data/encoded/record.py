"""What is known of images that were encoded: the file `encoded.json` beside their Parquet files."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from gensynth.config import Data
from gensynth.errors import CorruptError, InputError, UsageError

RECORD = "encoded.json"
StoredType = Literal["uint16", "int32", "float32"]
AGAIN = "Encode the images again: gensynth encode."


class Codec(BaseModel):
    """Which codec made the latents; `path` is only for people to read.

    Attributes:
        fingerprint: of the codebook alone.
        encoder: of all that decides which tokens an image gets; None where there are none, and in
            records from before it was noted.
    """

    model_config = ConfigDict(strict=True)
    kind: str
    path: str | None
    patch: int
    fingerprint: str | None
    codebook_size: int | None
    encoder: str | None = None

    @classmethod
    def of(cls, codec: Any, path: str | None = None) -> "Codec":
        """The codec as an autoencoder's attributes describe it."""
        return cls(
            kind=codec.kind,
            path=path,
            patch=codec.patch,
            fingerprint=codec.fingerprint(),
            codebook_size=codec.codebook_size,
            encoder=codec.encoder_fingerprint(),
        )


class Encoding(BaseModel):
    """The content of `encoded.json`. `shape` is [C, h, w] of latents or [h, w] of tokens."""

    model_config = ConfigDict(strict=True)
    version: Literal[1] = Field(1, alias="schema")
    codec: Codec
    split: str
    size: int
    channels: int
    fit: Literal["crop", "pad"]
    dtype: StoredType
    shape: list[int]
    count: int
    unreadable: int
    gensynth: str

    @property
    def stored(self) -> np.dtype[Any]:
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape)) * self.stored.itemsize

    def tensor(self, content: bytes | None) -> Tensor:
        """float32 latents or int64 tokens of one image.

        Raises:
            CorruptError: the bytes are not those of one image.
        """
        if content is None or len(content) != self.row_bytes:
            length = "none" if content is None else len(content)
            raise CorruptError(
                f"an encoded image should have {self.row_bytes} bytes, one has {length}. {AGAIN}"
            )
        # little-endian in the file, whatever this machine is; `astype` copies into its own order
        array = np.frombuffer(content, self.stored)
        kind = np.float32 if self.dtype == "float32" else np.int64
        return torch.from_numpy(array.astype(kind)).reshape(self.shape)


def read_encoding(data: Data) -> Encoding:
    """The record of `data.path`, if the other keys of the section agree with it.

    Raises:
        InputError: there is no record, or a later version wrote it.
        CorruptError: it is damaged.
        UsageError: another size or split, other channels or another fit were encoded.
    """
    path = Path(data.path or "") / RECORD
    try:
        encoding = Encoding.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"there is no {path}; gensynth encode makes such folders.") from error
    except ValidationError as error:
        if any(problem["loc"] == ("schema",) for problem in error.errors()):
            raise InputError(f"{path} is not of a version this gensynth reads. {AGAIN}") from error
        raise CorruptError(f"{path} is damaged. {AGAIN}") from error
    for key in ("size", "channels", "fit", "split"):
        given, recorded = getattr(data, key), getattr(encoding, key)
        if given != recorded:
            raise UsageError(
                f"data.{key} is {given}, but {data.path} was encoded with {recorded}; "
                f"set data.{key}={recorded} or encode again."
            )
    return encoding


def shards(data: Data) -> list[Path]:
    """The Parquet files of `data.path`, in order; `read_encoding` refuses any other folder."""
    read_encoding(data)
    files = sorted(Path(data.path or "").glob("data/*.parquet"))
    if not files:
        raise CorruptError(f"{data.path} has lost its Parquet files. {AGAIN}")
    return files
