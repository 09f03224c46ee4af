"""A sampling job: a model, what to show and seeds -> a folder, by any number of processes."""

import hashlib
import math
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from gensynth.conditions import Condition, Item
from gensynth.data.files.image_set import OVERVIEW, open_images
from gensynth.data.images import grid, to_pil
from gensynth.files import json_in
from gensynth.lora.folder import Wanted
from gensynth.pipelines.contract import Pipeline, Resolved
from gensynth.pipelines.drawing import DrawingPipeline
from gensynth.pipelines.finding import INDEX, parts_folder, pretrained_class, resolve
from gensynth.pipelines.highres.decoding import bands_of, is_large
from gensynth.pipelines.loading import load, with_guide
from gensynth.pipelines.pretrained.fetching import loaded_files
from gensynth.pipelines.pretrained.options import LoadOptions
from gensynth.pipelines.pretrained.pipeline import PretrainedPipeline
from gensynth.preflight.drawing import check_numbers, check_told
from gensynth.processes import processes
from gensynth.progress import progress_bar
from gensynth.sampling.generate import generate, plan, smaller
from gensynth.sampling.outputs import SampleFolder, facts_of, recipe, save_picture
from gensynth.sampling.stages import StageFolder
from gensynth.settings import Settings

STREAMED = ("png", "tif")  # formats that are written row by row
STAGES = "stages"  # folder of what pictures in work have come to
GRID = 100  # most pictures on the overview
MOST_NOTES = 10  # prompts whose lost words are named


@dataclass
class Job:
    """What to draw.

    Args:
        shown: the classes that the pictures show in turn, as a person types them: "0-9", "Bag,3".
        variant: of the weights, see `gensynth.load`.
        prompts: what they show in turn in words, instead. Without both: everything in turn.
        lora: adapters of the model.
        options: of loading a pipeline of diffusers.
    """

    model: str
    shown: str | None
    num: int
    seed: int
    settings: Settings = field(default_factory=Settings)
    batch_size: int = 16
    kind: str = "png"
    metadata: bool = True
    variant: str | None = None
    prompts: Sequence[str] = ()
    lora: Sequence[Wanted] = ()
    options: LoadOptions = field(default_factory=LoadOptions)

    def items(self, condition: Condition) -> list[Item]:
        """What is shown in turn.

        Raises:
            UsageError: the model cannot be told so.
        """
        if self.prompts:
            return condition.prompted(self.prompts)
        return condition.every() if self.shown is None else condition.parse(self.shown)


def run(job: Job, out: Path | None = None, optimize: bool = False) -> Path:
    """Draws what is missing of a job and returns its folder.

    Started by torchrun, each process draws its share. The pictures are the same for any number of
    processes and any batch size, up to one grey level of rounding, and so they are with `optimize`,
    which draws faster and says on stderr how.

    Raises:
        UsageError, InputError, RefusedError, OutputError, DeviceMemoryError: with what to do.
    """
    check_numbers(job.num, job.seed, job.batch_size, job.kind)
    check_told(job.shown, job.prompts)
    state = processes()
    pipeline = load(job.model, state.device, job.variant, job.lora, **job.options.given())
    settings = with_guide(job.settings, state.device)
    resolved = pipeline.resolve(settings)  # refuses what cannot be drawn
    if state.is_main_process:
        say_unusual(pipeline, resolved)
    if optimize:
        make_faster(pipeline, settings.guide)
    condition = pipeline.condition
    items = job.items(condition)
    if state.is_main_process:
        say_cut(condition, [*items[: job.num], *filter(None, [resolved.settings.negative])])
    pictures = plan(items, job.num, job.seed)
    fingerprint = describe(job, pipeline, resolved, items)
    if out is None:
        digest = hashlib.sha256(repr(sorted(fingerprint.items())).encode()).hexdigest()[:8]
        out = Path("samples") / f"{Path(job.model).name}-{digest}"
    shape = (job.num, *resolved.size, pipeline.channels)
    with state.main_process_first():  # one process makes the folder, the others find it
        folder = SampleFolder(out, fingerprint, job.kind, shape, state.process_index)
    share = pictures[state.process_index :: state.num_processes]  # dealt out in turn
    missing = [picture for picture in share if picture.index not in folder.done]
    with closing(folder):
        draw(job, pipeline, settings, missing, folder, already=len(share) - len(missing))
    state.wait_for_everyone()  # every manifest is complete
    if state.is_main_process:
        folder.finish([condition.number(picture.item) for picture in pictures])
        write_overview(folder, job, len(condition.choices()) or GRID, resolved.size)
    state.wait_for_everyone()
    return out


def say_unusual(pipeline: Pipeline, resolved: Resolved) -> None:
    """Says on stderr that pictures are of another size than those the model was trained on."""
    if isinstance(pipeline, PretrainedPipeline):
        _say_far(pipeline, resolved)
    if not isinstance(pipeline, DrawingPipeline):
        return  # a model of your own, which need not know
    trained = pipeline.config.size
    if resolved.size != (trained, trained) and resolved.settings.strategy is None:
        height, width = resolved.size
        larger = height * width > trained**2 and resolved.sampler.midway
        print(
            f"note: {pipeline.name} was trained on {trained}x{trained} pixels; at {height}x{width} "
            "its pictures are likely to be worse. "
            + ("Add --strategy progressive, or leave" if larger else "Leave")
            + " out --size for its own.",
            file=sys.stderr,
        )


def _say_far(pipeline: PretrainedPipeline, resolved: Resolved) -> None:
    """Says it of twice or half the pixels: most pretrained models know sizes around their own."""
    own = pipeline.resolve().size
    if not 0.5 < math.prod(resolved.size) / math.prod(own) < 2:
        print(
            f"note: {pipeline.name} draws {own[0]}x{own[1]} pixels of itself; at "
            f"{resolved.size[0]}x{resolved.size[1]} its pictures are likely to be worse.",
            file=sys.stderr,
        )


def say_cut(condition: Condition, items: Sequence[Item]) -> None:
    """Says on stderr what of the prompts is not read."""
    notes = condition.notes(items)
    for note in notes[:MOST_NOTES]:
        print(f"warning: {note}", file=sys.stderr)
    if len(notes) > MOST_NOTES:
        print(f"warning: {len(notes) - MOST_NOTES} more prompts are cut.", file=sys.stderr)


def make_faster(*pipelines: Pipeline | None) -> None:
    """Optimizes the pipelines of a job; stderr says what that did."""
    for pipeline in filter(None, pipelines):
        sentences = pipeline.optimize()
        if processes().is_main_process:
            print(*(f"{pipeline.name}: {said}" for said in sentences), sep="\n", file=sys.stderr)


def describe(
    job: Job, pipeline: Pipeline, resolved: Resolved, items: Sequence[Item]
) -> dict[str, Any]:
    """The settings that decide what the pictures of a folder look like."""
    described: dict[str, Any] = {
        "model": fingerprint_of(job.model, job.variant),
        **pipeline.condition.job(items),
        "seed": job.seed,
        "format": job.kind,
        **resolved.settings.to_json(),
        **facts_of(pipeline),
    }
    if job.variant is not None:
        described["variant"] = job.variant
    if job.settings.guide is not None:
        described["guide"] = fingerprint_of(job.settings.guide)
    # A folder of pictures can be continued to a larger number; an array has its size.
    return {**described, "num": job.num} if job.kind == "npz" else described


def fingerprint_of(model: str, variant: str | None = None) -> str:
    """A hash of the settings and weights of all parts of a model.

    Of a pipeline of diffusers, whose folder has other things too, it is of what is loaded.

    Args:
        variant: of the weights of a pipeline of diffusers.
    """
    digest = hashlib.sha256()
    folder, own = parts_folder(model), resolve(model)
    index = json_in(folder / INDEX)
    if pretrained_class(index) is not None:
        parts = loaded_files(folder, index, variant)
    else:
        parts = [file for kind in ("json", "safetensors") for file in folder.glob(f"*/*.{kind}")]
    if own != folder:  # linear attention for the pipeline in `folder`
        parts = [*parts, own / INDEX, *own.glob("*.safetensors")]
    for part in [folder / INDEX, *sorted(parts)]:  # sorted: glob promises no order
        with part.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def draw(
    job: Job,
    pipeline: Pipeline,
    settings: Settings,
    missing: list[Any],
    folder: SampleFolder,
    already: int,
) -> None:
    """Draws and stores the missing pictures of this process, with a progress bar on stderr."""

    stages = StageFolder(folder.folder / STAGES)
    complete = pipeline.resolve(settings).settings
    kept = None if complete.strategy is None else stages
    assert isinstance(complete.size, tuple), "see resolve"
    streamed = job.kind in STREAMED and is_large(complete.size)

    def drawn(items: list[Item], seeds: list[int]) -> Iterable[Any]:
        if not isinstance(pipeline, DrawingPipeline):
            return pipeline.draw(items, seeds, settings)
        if streamed:  # its pixels are never all in memory
            return pipeline.latents(items, seeds, settings, kept=kept).split(1)
        return pipeline.draw(items, seeds, settings, kept=kept)

    with progress_bar() as bar:
        task = bar.add_task("sampling", total=already + len(missing), completed=already)
        # Large pictures and those of several stages take long: each is written when it is done.
        together = 1 if streamed or kept else job.batch_size
        for picture, found in generate(drawn, missing, together, smaller(pipeline)):
            known = recipe(pipeline, picture, complete) if job.metadata else None
            if isinstance(found, Tensor):
                assert isinstance(pipeline, DrawingPipeline), "whose latents these are"
                folder.write_bands(picture, bands_of(pipeline.autoencoder, found), known)
            else:
                folder.write(picture, found, known)
            stages.drop(picture.seed)
            bar.advance(task)


def write_overview(folder: SampleFolder, job: Job, num_items: int, size: tuple[int, int]) -> None:
    """`grid.png` with the first pictures of the job, unless they are large: it would be huge."""
    if is_large(size):
        return
    images = open_images(str(folder.folder))
    shown = [to_pil(images.read(index)) for index in range(min(GRID, job.num))]
    sheet = grid(shown, columns=min(10, num_items, len(shown)))
    save_picture(sheet, folder.folder / OVERVIEW, None)
