"""`gensynth reference`."""

import sys
from pathlib import Path
from typing import Any

import typer

from gensynth.errors import RefusedError, UsageError
from gensynth.models.known import check_area
from gensynth.system.disk import check_writable
from gensynth.system.temporary import remove_leftovers


def register(app: typer.Typer) -> None:
    app.command("reference")(reference)


def reference(
    data: str = typer.Argument(
        None, help="Real images: folder, .npz, .tar, .parquet, hub:OWNER/NAME, emoji, fashion_mnist"
    ),
    out: Path = typer.Option(None, "--out", "-o", help="File to write, .npz."),
    name: str = typer.Option(None, "--name", help="What to call it. [default: DATA]"),
    num: int = typer.Option(None, "--num", "-n", help="Images to use. [default: all]"),
    size: int = typer.Option(None, "--size", help="Bring the images to squares of this size."),
    fit: str = typer.Option("crop", "--fit", help="How: crop or pad."),
    class_level: int = typer.Option(
        None,
        "--class-level",
        help="Level of folders that are the classes; 0 for none. [default: the first]",
    ),
    extractor: str = typer.Option(
        None,
        "--extractor",
        help="Feature space. [default: lite0-64; inception-2015 with --weights]",
    ),
    weights: Path = typer.Option(None, "--weights", help="File or folder of its weights."),
    batch_size: int = typer.Option(64, "--batch-size", "-b", help="Images taken together."),
    workers: int = typer.Option(0, "--workers", help="Processes that decode, for each process."),
    published: str = typer.Option(
        None, "--published", help="Find and check a published one instead, such as imagenet256."
    ),
    download: bool = typer.Option(False, "--download", help="Fetch weights, or a published file."),
) -> None:
    """Make statistics of real images, to compare samples with.

    gensynth reference photos --size 256 --out photos.npz

    gensynth evaluate drawn --reference photos.npz

    gensynth reference --published imagenet256 looks for ADM's reference batch, checks it, and says
    where to put it by hand.
    """
    if published is not None:
        if data is not None or out is not None:
            raise UsageError("--published takes neither DATA nor --out; it has a place of its own.")
        check(published, download)
        return
    if data is None or out is None:
        raise UsageError("give DATA, the real images, and --out FILE.npz; or --published NAME.")
    if out.suffix != ".npz":
        raise UsageError(f"--out must end in .npz, got {out}.")
    if out.exists():
        raise RefusedError(f"{out} is there already; choose another --out or delete it.")
    check_writable(out.parent)
    if batch_size < 1 or workers < 0 or (num is not None and num < 2):
        raise UsageError("--batch-size must be at least 1, --workers 0 and --num 2.")
    if size is not None:
        check_area(size, size)
    from gensynth.preflight.measuring import check_images, check_space

    check_images(data)
    check_space(extractor, weights, download)
    remove_leftovers()
    from gensynth.evaluation.evaluate import OFFLINE, PUBLISHED, Fit, open_pictures
    from gensynth.metrics.extractors import open_extractor
    from gensynth.processes import processes

    images = open_pictures(data, Fit(size, fit, class_level))
    print(f"images: {images.summary}", file=sys.stderr)
    space = extractor or (OFFLINE if weights is None else PUBLISHED)
    network = open_extractor(space, weights, processes().device, download=download)
    make(images, network, num, batch_size, workers, name or data, out)


def make(
    images: Any,
    extractor: Any,
    num: int | None,
    batch_size: int,
    workers: int,
    name: str,
    out: Path,
) -> None:
    """Writes the statistics of images, with a progress bar, and says what to do with them."""
    from gensynth.evaluation.measuring.features import Effort
    from gensynth.evaluation.measuring.measure import make_reference
    from gensynth.evaluation.references.reference import write_reference
    from gensynth.progress import progress_bar

    with progress_bar() as bar:
        total = images.length if num is None else min(num, images.length)
        task = bar.add_task("extracting", total=total)
        effort = Effort(batch_size, workers, lambda count: bar.advance(task, count))
        made = make_reference(images, extractor, num, effort)
    if made is None:  # not the main process
        return
    write_reference(out, made.statistics, made.features, made.meta | {"name": name})
    if num is not None and made.meta["count"] < num:
        print(f"warning: {num:,} images were asked for", file=sys.stderr)
    print(f"{out}: {made.meta['count']:,} images of {name} as {extractor.name} sees them")
    print(f"Try: gensynth evaluate SAMPLES --reference {out} --extractor {extractor.name}")


def check(name: str, download: bool) -> None:
    """Prints where a published reference is, and what is known of it."""
    from gensynth.evaluation.references.published import published_file
    from gensynth.evaluation.references.reference import read_reference

    path = published_file(name, download)
    found = read_reference(name)
    print(f"{name}: {path}")
    for feature, statistics in found.statistics.items():
        print(f"  {feature}: mean and covariance of {len(statistics.mean)} values")
    if found.images is not None:
        print(f"  {found.images.length:,} images")
    known = "as published" if found.meta["verified"] else "of which no published value is known"
    print(f"  SHA-256 {found.sha256}, {known}")
