"""Images that were encoded once: Parquet files in the hub's layout, and `encoded.json`.

A row is `latents`, with flips also `mirrored` (the latents of the mirrored image), and `label`, or
`text`, a list of captions. An image is the little-endian bytes of one array; dtype and shape are in
`encoded.json`, which is written last. Floats are kept as float32, so that nothing is lost against
encoding in every step; tokens as uint16, or int32 where the codebook has more than 65,536 codes.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.utils import data as torch_data

from gensynth import __version__
from gensynth.config import Data
from gensynth.data.reading.captions import chosen_caption
from gensynth.data.training import Batch, mirrored, order
from gensynth.errors import CorruptError, InputError, UsageError
from gensynth.files import write_text

RECORD = "encoded.json"
StoredType = Literal["uint16", "int32", "float32"]
SHARD_BYTES = 2**28  # of latents in one file
TOLD = ("label", "text")  # columns that are no images
AGAIN = "Encode the images again: gensynth encode."


class Codec(BaseModel):
    """Which codec made the latents; `path` is only for people to read."""

    model_config = ConfigDict(strict=True)
    kind: str
    path: str | None
    patch: int
    fingerprint: str | None
    codebook_size: int | None

    @classmethod
    def of(cls, codec: Any, path: str | None = None) -> "Codec":
        """The codec as an autoencoder's attributes describe it."""
        return cls(
            kind=codec.kind,
            path=path,
            patch=codec.patch,
            fingerprint=codec.fingerprint(),
            codebook_size=codec.codebook_size,
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


class EncodingWriter:
    """Fills a folder with the shards of an encoding, and last with its record.

    Args:
        folder: there, and empty.
        data: the section the images were read with.
        classes: names of the labels; None for images with captions.
        shard_bytes: about how large a shard may get.
    """

    def __init__(
        self,
        folder: Path,
        data: Data,
        codec: Codec,
        classes: list[str] | None,
        shard_bytes: int = SHARD_BYTES,
    ):
        self.folder, self.data, self.codec, self.shard_bytes = folder, data, codec, shard_bytes
        columns = ["latents", "mirrored"] if data.flip else ["latents"]
        features: dict[str, Any] = {name: datasets.Value("binary") for name in columns}
        if classes is None:
            features["text"] = datasets.List(datasets.Value("string"))
        else:
            features["label"] = datasets.ClassLabel(names=classes)
        self.told = "text" if classes is None else "label"
        self.schema = datasets.Features(features).arrow_schema  # with the hub's metadata
        self.columns: dict[str, list[Any]] = {name: [] for name in features}
        self.dtype: StoredType = "float32"  # until something else is added
        self.shape: list[int] = []
        self.count = self.pending = 0
        self.shards: list[Path] = []
        (folder / "data").mkdir()

    def add(
        self, told: list[int] | list[list[str]], latents: Tensor, flipped: Tensor | None = None
    ) -> None:
        """Latents float [B, C, h, w] or tokens int [B, h, w]; `flipped`: of the mirrored images.

        `told` are the labels, or all captions, of each image.
        """
        many = (self.codec.codebook_size or 2**31) > 2**16
        self.dtype = "float32" if latents.is_floating_point() else "int32" if many else "uint16"
        self.shape = list(latents.shape[1:])
        for name, tensor in (("latents", latents), ("mirrored", flipped)):
            if tensor is not None:
                array = tensor.cpu().numpy().astype(np.dtype(self.dtype).newbyteorder("<"))
                self.columns[name] += [row.tobytes() for row in array]
                self.pending += array.nbytes
        self.columns[self.told] += told
        self.count += len(told)
        if self.pending >= self.shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Writes what is pending as one more shard."""
        path = self.folder / "data" / f"{len(self.shards)}.parquet"
        pq.write_table(pa.table(self.columns, schema=self.schema), path, use_dictionary=[self.told])
        self.shards.append(path)
        self.columns = {name: [] for name in self.columns}
        self.pending = 0

    def close(self, unreadable: int) -> Encoding:
        """Gives the shards their names and writes the record; `unreadable` images were left out.

        Raises:
            CorruptError: not one image was added.
        """
        if not self.count:
            raise CorruptError("not one image of the data can be decoded.")
        if self.pending:
            self.flush()
        prefix = re.split(r"\W", self.data.split)[0] or "train"  # "train[:10%]" is of train
        for number, path in enumerate(self.shards):
            # the hub's naming, in which the number of shards is known at the end only
            name = f"{prefix}-{number:05d}-of-{len(self.shards):05d}.parquet"
            path.rename(path.with_name(name))
        encoding = Encoding(
            schema=1,
            codec=self.codec,
            split=self.data.split,
            size=self.data.size,
            channels=self.data.channels,
            fit=self.data.fit,
            dtype=self.dtype,
            shape=self.shape,
            count=self.count,
            unreadable=unreadable,
            gensynth=__version__,
        )
        write_text(self.folder / RECORD, encoding.model_dump_json(by_alias=True, indent=1) + "\n")
        return encoding


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


def check_rows(rows: datasets.Dataset, data: Data, texts: bool = False) -> None:
    """Whether the rows are those of the record, mirrored ones included if they are wanted.

    Raises:
        CorruptError: rows or columns are missing.
        UsageError: `data.flip`, but the images were encoded without, or `texts` without captions,
            or the reverse.
    """
    encoding = read_encoding(data)
    columns = set(rows.column_names)
    here, there = ("text", "label") if texts else ("label", "text")
    if there in columns and here not in columns:
        was, kind = ("classes", "text") if texts else ("captions", "classes")
        raise UsageError(
            f"{data.path} was encoded with {was} and without {'captions' if texts else 'classes'}; "
            f"set condition.kind={'classes' if texts else 'text'}, or encode again with "
            f"condition.kind={kind}."
        )
    if not {"latents", here} <= columns or len(rows) != encoding.count:
        raise CorruptError(
            f"{data.path} should have {encoding.count} rows of latents and "
            f"{'captions' if texts else 'labels'}, but has {len(rows)} of "
            f"{', '.join(rows.column_names)}. {AGAIN}"
        )
    if data.flip and "mirrored" not in rows.column_names:
        raise UsageError(
            f"{data.path} was encoded without mirrored images; set data.flip=false, or encode "
            "again with data.flip=true."
        )


def check_encoding(data: Data, codec: Any) -> None:
    """Whether the encoding of a section is one that `codec` made.

    Raises:
        UsageError: another codec made it.
        CorruptError: it has tokens outside the codebook.
    """
    encoding = read_encoding(data)
    recorded, own = encoding.codec, Codec.of(codec)
    for key in ("kind", "patch", "codebook_size", "fingerprint"):
        was, now = getattr(recorded, key), getattr(own, key)
        if was != now and not (key == "fingerprint" and now is None):
            made = f" of {recorded.path}" if recorded.path else ""
            raise UsageError(
                f"{data.path} was encoded with another autoencoder{made}: its {key} is {was}, that "
                f"of this run is {now}. Use the same autoencoder or encode again."
            )
    if own.codebook_size is not None and encoding.dtype != "float32":
        for path in shards(data):
            for tokens in _tokens(path, encoding):
                if tokens.min() < 0 or tokens.max() >= own.codebook_size:
                    raise CorruptError(
                        f"{path} has a token outside the codebook of {own.codebook_size}. {AGAIN}"
                    )


def _tokens(path: Path, encoding: Encoding) -> Iterator[np.ndarray]:
    """All tokens of a file, many rows at once, without a copy."""
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if name not in TOLD]
            for batch in file.iter_batches(2**14, columns=names):
                for column in batch.columns:
                    # Rows of one length lie in the buffer without gaps, so it is one array.
                    lengths = pc.unique(pc.binary_length(column)).to_pylist()
                    if lengths != [encoding.row_bytes]:
                        raise CorruptError(f"{path} has rows of a wrong length. {AGAIN}")
                    assert column.offset == 0  # as read from a file
                    yield np.frombuffer(column.buffers()[2], encoding.stored)
    except (OSError, ValueError) as error:
        raise CorruptError(f"{path} cannot be read: {error}. {AGAIN}") from error


class EncodedImages(torch_data.Dataset):
    """Encoded images by position: the order, coins and labels of `TrainingImages`."""

    def __init__(self, rows: datasets.Dataset, data: Data, seed: int):
        self.rows, self.flip, self.seed = rows, data.flip, seed
        self.encoding = read_encoding(data)

    def __getitems__(self, positions: list[int]) -> Batch:
        length = len(self.rows)
        places = [divmod(position, length) for position in positions]
        # one indexed read of the whole batch, instead of one for each image
        rows = self.rows[[int(order(self.seed, epoch, length)[at]) for epoch, at in places]]
        latents = [
            self.encoding.tensor(rows[self.column(position)][number])
            for number, position in enumerate(positions)
        ]
        texts = None
        if "text" in rows:
            texts = [
                chosen_caption(captions, self.seed, position)
                for captions, position in zip(rows["text"], positions, strict=True)
            ]
        labels = torch.tensor(rows.get("label", [0] * len(positions)))
        return Batch(None, labels, [], latents=torch.stack(latents), texts=texts)

    def column(self, position: int) -> str:
        return "mirrored" if self.flip and mirrored(self.seed, position) else "latents"
