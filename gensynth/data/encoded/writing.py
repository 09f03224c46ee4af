"""How encoded images are written: shards in the hub's naming, and the record last."""

import re
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from gensynth import __version__
from gensynth.config import Data
from gensynth.data.encoded.record import RECORD, Codec, Encoding, StoredType
from gensynth.errors import CorruptError
from gensynth.files import write_text

SHARD_BYTES = 2**28  # of latents in one file


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
