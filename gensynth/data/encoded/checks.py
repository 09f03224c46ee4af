"""Whether encoded images are whole, and those that a run wants."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gensynth.config import Data
from gensynth.data.encoded.record import AGAIN, Codec, Encoding, read_encoding, shards
from gensynth.errors import CorruptError, UsageError
from gensynth.processes import processes

TOLD = ("label", "text")  # columns that are no images


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

    Of an encoding that does not tell which encoder made its tokens only the codebook is compared,
    and a warning on stderr says so.

    Raises:
        UsageError: another codec made it.
        CorruptError: it has tokens outside the codebook.
    """
    encoding = read_encoding(data)
    recorded, own = encoding.codec, Codec.of(codec)
    for key in ("kind", "patch", "codebook_size", "fingerprint", "encoder"):
        was, now = getattr(recorded, key), getattr(own, key)
        if key == "encoder" and was is None and now is not None:
            _say_unknown_encoder(data)
        elif was != now and not (key in ("fingerprint", "encoder") and now is None):
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


def _say_unknown_encoder(data: Data) -> None:
    if processes().is_main_process:
        print(
            f"warning: {data.path} does not tell which encoder made its tokens, so only the "
            "codebook was compared; if the tokenizer was trained since, encode again with "
            "gensynth encode.",
            file=sys.stderr,
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
