"""Every image of an experiment's data through its autoencoder once, instead of in every step."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import data as torch_data

from gensynth.config import Data, Experiment
from gensynth.data.announce import announced
from gensynth.data.batches import Unreadable
from gensynth.data.encoded import Codec, Encoding, EncodingWriter
from gensynth.data.images import UNREADABLE
from gensynth.data.sources import Source, open_source
from gensynth.data.training import Batch, prepare, streamed_label
from gensynth.data.workers import read_ahead
from gensynth.errors import CorruptError, DeviceMemoryError, OutputError, RefusedError, UsageError
from gensynth.experiments.build import build_autoencoder, reads_texts
from gensynth.files import new_folder
from gensynth.processes import processes
from gensynth.progress import progress_bar

BATCH = 32


def encode(experiment: Experiment, out: Path, batch_size: int = BATCH) -> Encoding:
    """Encodes the images of an experiment into the folder `out`, whole or absent.

    `data.source=encoded data.path=OUT` then trains from it. Of a VAE's posterior the mean is kept,
    where training on the fly draws a sample in every step. `batch_size` images go through the
    autoencoder together, which may change the rounding and nothing else.

    Raises:
        UsageError: the images are encoded already, differ in every epoch, or there are several
            processes.
        RefusedError: `out` holds something.
        InputError, CorruptError: data or autoencoder are missing or damaged.
        OutputError, DeviceMemoryError: with what to do.
    """
    if batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, got {batch_size}.")
    data = experiment.data
    if data.source == "encoded":
        raise UsageError(f"{data.path} is encoded already; give the data.source of the images.")
    if data.zoom:
        raise UsageError(
            "data.zoom draws new crops in every epoch, which cannot be encoded once; set "
            "data.zoom=null or train on the fly."
        )
    if processes().num_processes > 1:
        raise UsageError("gensynth encode is one process; start it without torchrun or accelerate.")
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise RefusedError(f"{out} exists and is not an empty folder; choose another --out.")
    source = announced(open_source(data, texts=reads_texts(experiment)), data)
    codec = build_autoencoder(experiment).to(processes().device)
    try:
        return encode_source(source, data, codec, out, experiment.autoencoder.path, batch_size)
    except torch.OutOfMemoryError as error:
        fewer = f"--batch-size {batch_size // 2}"
        advice = fewer if batch_size > 1 else "a smaller data.size, or another device"
        raise DeviceMemoryError(
            f"out of memory with --batch-size {batch_size}; try {advice}."
        ) from error


def encode_source(
    source: Source,
    data: Data,
    codec: Any,
    out: Path,
    path: str | None = None,
    batch_size: int = BATCH,
) -> Encoding:
    """Encodes the images of an open source; `path` is where `codec` came from.

    Raises:
        CorruptError: too many images cannot be decoded, or the latents are not finite.
        OutputError: the disk is full or not writable.
    """
    length = None if source.streamed else len(source.rows)
    unreadable = Unreadable(data.max_corrupt, length, source.name_of)
    warning, seen, classes = None, 0, None if source.captioned else source.classes
    try:
        with new_folder(out) as folder, progress_bar() as bar:
            task = bar.add_task("encoding", total=length)
            writer = EncodingWriter(folder, data, Codec.of(codec, path), classes)
            for batch in images_in_order(source, data, batch_size):
                if batch.images is not None:  # None: none of them could be read
                    # Mirrored latents are not those of the mirrored image, so both are kept.
                    flipped = encoded(codec, batch.images.flip(-1)) if data.flip else None
                    captions = batch.captions if source.captioned else None
                    told = captions or batch.labels.tolist()
                    writer.add(told, encoded(codec, batch.images), flipped)
                size = len(batch.labels) + len(batch.unreadable)
                seen += size
                warning = unreadable.add(batch.unreadable, seen) or warning
                bar.advance(task, size)
            encoding = writer.close(len(unreadable.rows))
            if warning:
                bar.console.print(warning, highlight=False, markup=False, soft_wrap=True)
    except OSError as error:
        raise OutputError(
            f"the encoding into {out} cannot go on: {error}. Nothing is left of it; free some "
            "space or mend the disk, and run the same command again."
        ) from error
    return encoding


@torch.no_grad()
def encoded(codec: Any, images: Tensor) -> Tensor:
    """Latents or tokens, on the CPU, of images uint8 [B, C, H, W]."""
    latents: Tensor = codec.encode(images.to(codec.device)).cpu()
    if latents.is_floating_point() and not torch.isfinite(latents).all():
        raise CorruptError("the autoencoder gives latents that are not finite.")
    return latents


def images_in_order(source: Source, data: Data, batch_size: int) -> Iterator[Batch]:
    """The images as they are trained on, not mirrored, in the order of the rows.

    Unreadable ones are missing from a batch and named by their rows; `images` is None in a batch
    that has no other.
    """
    if source.streamed:
        rows, first = iter(source.rows), 0
        while chunk := list(islice(rows, batch_size)):
            for row in chunk:
                streamed_label(row, len(source.classes))
            yield read_rows(chunk, range(first, first + len(chunk)), data)
            first += len(chunk)
    else:
        everything = range(len(source.rows))
        chunks = [list(everything[at : at + batch_size]) for at in everything[::batch_size]]
        images = RowImages(source, data)
        # Not pinned: the next batch is only wanted when this one is encoded.
        yield from read_ahead(images, data.workers, torch.device("cpu"), batch_sampler=chunks)


class RowImages(torch_data.Dataset):
    """Images by the numbers of their rows."""

    def __init__(self, source: Source, data: Data):
        self.source, self.data = source, data

    def __getitems__(self, numbers: list[int]) -> Batch:
        return read_rows([self.source.rows[number] for number in numbers], numbers, self.data)


def read_rows(rows: list[dict[str, Any]], numbers: list[int] | range, data: Data) -> Batch:
    """The readable images among `rows`, and the `numbers` of the others."""
    images, labels, unreadable, captions = [], [], [], []
    for number, row in zip(numbers, rows, strict=True):
        try:
            images.append(prepare(row, data))
        except UNREADABLE:
            unreadable.append(number)
            continue
        labels.append(row.get("label", 0))  # 0 in data without classes
        captions.append(row.get("text") or [])
    stacked = torch.stack(images) if images else None
    return Batch(stacked, torch.tensor(labels), unreadable, captions=captions)
