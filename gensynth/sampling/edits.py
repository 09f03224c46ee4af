"""An editing job: an image file, a mask and seeds -> one picture, or a folder of variants."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gensynth.conditions import Item
from gensynth.data.colour import in_srgb
from gensynth.data.images import UNREADABLE, grid, open_frame
from gensynth.errors import InputError, UsageError
from gensynth.files import new_folder
from gensynth.pipelines.drawing import DrawingPipeline
from gensynth.pipelines.editing.canvas import Canvas
from gensynth.pipelines.editing.edit import Edit, Plan, draw, make_plan, most_different, structures
from gensynth.pipelines.loading import load, with_guide
from gensynth.preflight.editing import CANDIDATES, check_place
from gensynth.processes import processes
from gensynth.progress import progress_bar
from gensynth.sampling.generate import Picture, generate, reporting_memory
from gensynth.sampling.job import say_cut
from gensynth.sampling.outputs import recipe, reporting_write_errors, save_picture
from gensynth.settings import Settings

SHEET = "sheet.png"
TILE = 512  # most pixels of the longer side of a picture on the sheet
SMALL = 128  # pixels that small ones are enlarged to
RED = np.array([255, 0, 0])  # laid half over what is redrawn
SMALLER_PICTURE = "Try a smaller picture or canvas, a smaller model or another device"


@dataclass
class EditJob:
    """What to redraw.

    Args:
        model: name or folder of a model of tokens.
        image, mask: files. White in the mask is redrawn.
        num: how many variants.
        seed: of the first.
        similar: seeds seed, seed + 1, ... instead of those whose structures differ most.
        batch_size: pictures drawn together.
        changes: the further keywords of `pipelines.editing.Edit`.
        variant: of the weights, see `gensynth.load`.
    """

    model: str
    image: Path
    mask: Path | None = None
    num: int = 1
    seed: int = 0
    similar: bool = False
    batch_size: int = 16
    changes: dict[str, Any] = field(default_factory=dict)
    variant: str | None = None


def run(job: EditJob, out: Path) -> Path:
    """Draws an editing job and returns `out`: a picture, or a folder of them with a `sheet.png`.

    One variant with a name in .png or .webp is a file. A folder is there whole or not at all.

    Raises:
        UsageError, InputError, RefusedError, OutputError, DeviceMemoryError: with what to do.
    """
    as_file = check(job, out)
    (image, image_hash), (mask, mask_hash) = read(job.image), read(job.mask)
    assert image is not None
    pipeline = load(job.model, processes().device, job.variant)
    settings = with_guide(job.changes.get("settings", Settings()), processes().device)
    with reporting_memory(1, SMALLER_PICTURE):
        plan = make_plan(pipeline, Edit(image, mask=mask, **{**job.changes, "settings": settings}))
    say_cut(pipeline.condition, [] if plan.item is None else [plan.item])
    hashes = {"image_sha256": image_hash, "mask_sha256": mask_hash}
    drawn = variants(job, pipeline, plan)
    with reporting_write_errors(out):
        if as_file:
            out.parent.mkdir(parents=True, exist_ok=True)
            for picture, result in drawn:
                save_picture(result, out, edit_recipe(job, pipeline, plan, picture, hashes))
            return out
        with new_folder(out) as folder:
            tiles = first_tiles(in_srgb(image), plan.canvas)
            for picture, result in drawn:
                text = edit_recipe(job, pipeline, plan, picture, hashes)
                save_picture(result, folder / f"{picture.index:06d}.png", text)
                tiles.append(tile(plan.canvas.shown(result)))
            save_picture(grid(tiles), folder / SHEET, None)
    return out


def check(job: EditJob, out: Path) -> bool:
    """Whether `out` is a file, for a job that can be drawn into it.

    Raises:
        UsageError: a number out of range, several processes, or several variants for one file.
        RefusedError: `out` is there already.
    """
    if processes().num_processes > 1:
        raise UsageError("gensynth edit is one process; start it without torchrun or accelerate.")
    return check_place(job.num, job.seed, job.batch_size, out)


def read(path: Path | None) -> tuple[Image.Image | None, str | None]:
    """The first frame of an image file, upright, and 16 hex digits of its SHA-256; None for None.

    Raises:
        InputError: the file is missing or not a readable image.
    """
    if path is None:
        return None, None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        image = open_frame(content)
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not an image of a known kind. Give another file.") from error
    except UNREADABLE as error:
        raise InputError(
            f"{path} is not a readable image: {str(error).rstrip('.')}. Give another file."
        ) from error
    return image, hashlib.sha256(content).hexdigest()[:16]


def variants(
    job: EditJob, pipeline: DrawingPipeline, plan: Plan
) -> Iterator[tuple[Picture, Image.Image]]:
    """The results of a job in order, with a progress bar on stderr."""
    with progress_bar() as bar:
        task = bar.add_task("editing", total=job.num)
        seeds: Sequence[int] = range(job.seed, job.seed + job.num)
        if not job.similar:
            seeds = diverse_seeds(pipeline, plan, job.num, job.seed, batch_size=job.batch_size)

        def results(items: list[Item], seeds: list[int]) -> list[Image.Image]:
            return draw(pipeline, plan, seeds)

        for variant in generate(results, _pictures(plan, seeds), job.batch_size, SMALLER_PICTURE):
            yield variant
            bar.advance(task)


def diverse_seeds(
    pipeline: DrawingPipeline,
    plan: Plan,
    num: int,
    seed: int = 0,
    candidates: int | None = None,
    batch_size: int = 16,
) -> list[int]:
    """The seeds of `num` results that differ much from each other: `seed` and others after it.

    Structures first, texture later (arXiv 2103.10022, there with a hierarchical VQ-VAE): of each
    candidate seed half of the tokens are decided, the structures that lie farthest from each other
    are chosen, and only their seeds need be drawn to the end, each by itself as any seed is.

    Args:
        candidates: how many seeds to choose from, seed, seed + 1, ...; None: four times `num`.

    Raises:
        UsageError: fewer candidates than `num`, or all of them alike.
        DeviceMemoryError: a batch does not fit.
    """
    candidates = CANDIDATES * num if candidates is None else candidates
    if not 1 <= num <= candidates:
        raise UsageError(f"choose from 1 to {candidates} of {candidates} candidates, got {num}.")
    if num == 1:  # nothing to choose between: no candidates are drawn
        return [seed]

    def results(items: list[Item], seeds: list[int]) -> np.ndarray:
        return structures(pipeline, plan, seeds)

    pictures = _pictures(plan, range(seed, seed + candidates))
    drawn = generate(results, pictures, batch_size, SMALLER_PICTURE)
    rows = np.stack([row for _, row in drawn])
    if (rows == rows[0]).all():
        raise UsageError(
            "all variants would be alike: nothing is drawn at random with these options; ask for "
            "one variant, or leave greedy away."
        )
    return [seed + number for number in most_different(rows, num)]


def edit_recipe(
    job: EditJob,
    pipeline: DrawingPipeline,
    plan: Plan,
    picture: Picture,
    hashes: dict[str, str | None],
) -> dict[str, Any]:
    """Everything needed to draw a result again, beside the files that `hashes` are of."""
    named = recipe(pipeline, picture, plan.resolved.settings)
    kept = not plan.canvas.redrawn.all()
    outpaint = job.changes.get("outpaint")
    return named | {
        "size": [plan.canvas.picture.height, plan.canvas.picture.width],
        "edit": {
            "image": job.image.name,
            "mask": None if job.mask is None else job.mask.name,
            **hashes,
            "strength": plan.strength,
            "outpaint": outpaint and list(outpaint),
            "anchor": job.changes.get("anchor", "center") if outpaint else None,
            "edge": plan.edge if kept else None,  # in a variation nothing is blended
        },
    }


def first_tiles(flat: Image.Image, canvas: Canvas) -> list[Image.Image]:
    """The image where it lies on its canvas, and, if some is kept, what is redrawn in red."""
    top, left = canvas.corner
    original = Image.new("RGB", canvas.picture.size, "white")
    original.paste(flat, (left, top))
    if canvas.redrawn.all():
        return [tile(original)]
    pixels = np.asarray(original)
    marked = np.where(canvas.redrawn[..., None], (pixels + RED) // 2, pixels)
    return [tile(original), tile(Image.fromarray(marked.astype(np.uint8)))]


def tile(image: Image.Image) -> Image.Image:
    """The image for the sheet, scaled down if it is large and enlarged in squares if small."""
    if max(image.size) > TILE:
        return ImageOps.contain(image, (TILE, TILE))
    factor = max(1, SMALL // max(image.size))  # whole, so that all squares are equal
    enlarged = (factor * image.width, factor * image.height)
    return image.resize(enlarged, Image.Resampling.NEAREST)


def _pictures(plan: Plan, seeds: Sequence[int]) -> list[Picture]:
    return [Picture(index, plan.item, seed) for index, seed in enumerate(seeds)]
