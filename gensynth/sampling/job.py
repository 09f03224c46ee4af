"""A sampling job: a model, labels and seeds -> a folder, by any number of processes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gensynth.data.images import grid, to_pil
from gensynth.errors import UsageError
from gensynth.evaluation.sources import OVERVIEW, open_images
from gensynth.loading import INDEX, load, resolve
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.processes import processes
from gensynth.progress import progress_bar
from gensynth.sampling.generate import generate, parse_labels, plan
from gensynth.sampling.outputs import FORMATS, SampleFolder, recipe, save_picture

GRID = 100  # most pictures on the overview


@dataclass
class Job:
    """What to draw. `labels` as in "0-9" or "Bag,3"; None: every class in turn."""

    model: str
    labels: str | None
    num: int
    seed: int
    settings: dict[str, Any]  # steps, guidance, size, scheduler; without those left to the model
    batch_size: int = 16
    kind: str = "png"
    metadata: bool = True


def run(job: Job, out: Path | None = None) -> Path:
    """Draws what is missing of a job and returns its folder.

    Started by torchrun, each process draws its share. The pictures are the same for any number of
    processes and any batch size, up to one grey level of rounding.

    Raises:
        UsageError, InputError, RefusedError, OutputError, DeviceMemoryError: with what to do.
    """
    if job.num < 1:
        raise UsageError(f"--num must be at least 1, got {job.num}.")
    if not 0 <= job.seed < 2**63 - job.num:
        raise UsageError(f"--seed must be a whole number from 0, got {job.seed}.")
    if job.batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, got {job.batch_size}.")
    if job.kind not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}, got {job.kind!r}.")
    state = processes()
    pipeline = load(job.model, device=state.device)
    labels = (
        list(range(len(pipeline.classes)))
        if job.labels is None
        else parse_labels(job.labels, pipeline)
    )
    pictures = plan(labels, job.num, job.seed)
    height, width = pipeline.resolve(**job.settings)[2]  # refuses what cannot be drawn
    fingerprint = describe(job, pipeline, labels)
    if out is None:
        digest = hashlib.sha256(repr(sorted(fingerprint.items())).encode()).hexdigest()[:8]
        out = Path("samples") / f"{Path(job.model).name}-{digest}"
    shape = (job.num, height, width, pipeline.autoencoder.channels)
    with state.main_process_first():
        folder = SampleFolder(out, fingerprint, job.kind, shape, state.process_index)
    share = pictures[state.process_index :: state.num_processes]
    missing = [picture for picture in share if picture.index not in folder.done]
    draw(job, pipeline, missing, folder, already=len(share) - len(missing))
    folder.close()
    state.wait_for_everyone()
    if state.is_main_process:
        folder.finish([picture.label for picture in pictures])
        write_overview(folder, job, len(pipeline.classes))
    state.wait_for_everyone()
    return out


def describe(job: Job, pipeline: ClassConditionalPipeline, labels: list[int]) -> dict[str, Any]:
    """The settings that decide what the pictures of a folder look like."""
    digest = hashlib.sha256()
    model = resolve(job.model)
    for part in [model / INDEX, *sorted((model / "model").glob("*.safetensors"))]:
        with part.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    steps, guidance, size, scheduler = pipeline.resolve(**job.settings)
    described = {
        "model": digest.hexdigest()[:16],
        "labels": labels,
        "seed": job.seed,
        "format": job.kind,
        "steps": steps,
        "guidance": guidance,
        "scheduler": type(scheduler).__name__,
        "size": list(size),
    }
    # A folder of pictures can be continued to a larger number; an array has its size.
    return {**described, "num": job.num} if job.kind == "npz" else described


def draw(
    job: Job,
    pipeline: ClassConditionalPipeline,
    missing: list[Any],
    folder: SampleFolder,
    already: int,
) -> None:
    """Draws and stores the missing pictures of this process, with a progress bar on stderr."""
    with progress_bar() as bar:
        task = bar.add_task("sampling", total=already + len(missing), completed=already)
        for picture, image in generate(pipeline, missing, job.batch_size, **job.settings):
            text = recipe(job.model, pipeline, picture, job.settings) if job.metadata else None
            folder.write(picture, image, text)
            bar.advance(task)


def write_overview(folder: SampleFolder, job: Job, num_classes: int) -> None:
    """`grid.png` with the first pictures of the job."""
    images = open_images(str(folder.folder))
    shown = [to_pil(images.read(index)) for index in range(min(GRID, job.num))]
    sheet = grid(shown, columns=min(10, num_classes, len(shown)))
    save_picture(sheet, folder.folder / OVERVIEW, None)
