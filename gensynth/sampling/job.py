"""A sampling job: a model, labels and seeds -> a folder, by any number of processes."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gensynth.data.files.image_set import OVERVIEW, open_images
from gensynth.data.images import grid, to_pil
from gensynth.errors import UsageError
from gensynth.pipelines.class_conditional import ClassConditionalPipeline, Settings
from gensynth.pipelines.loading import INDEX, load, resolve
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
    # Keywords of the pipeline's call, without those left to the model.
    settings: dict[str, Any]
    batch_size: int = 16
    kind: str = "png"
    metadata: bool = True
    guide: str | None = None  # a second model, for autoguidance


def run(job: Job, out: Path | None = None, optimize: bool = False) -> Path:
    """Draws what is missing of a job and returns its folder.

    Started by torchrun, each process draws its share. The pictures are the same for any number of
    processes and any batch size, up to one grey level of rounding, and so they are with `optimize`,
    which draws faster and says on stderr how.

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
    settings = dict(job.settings)
    if job.guide is not None:
        settings["guide"] = load(job.guide, device=state.device)
    resolved = pipeline.resolve(**settings)  # refuses what cannot be drawn
    if optimize:
        make_faster(job, pipeline, settings.get("guide"))
    labels = (
        list(range(len(pipeline.classes)))
        if job.labels is None
        else parse_labels(job.labels, pipeline)
    )
    pictures = plan(labels, job.num, job.seed)
    fingerprint = describe(job, resolved, labels)
    if out is None:
        digest = hashlib.sha256(repr(sorted(fingerprint.items())).encode()).hexdigest()[:8]
        out = Path("samples") / f"{Path(job.model).name}-{digest}"
    shape = (job.num, *resolved.size, pipeline.autoencoder.channels)
    with state.main_process_first():
        folder = SampleFolder(out, fingerprint, job.kind, shape, state.process_index)
    share = pictures[state.process_index :: state.num_processes]
    missing = [picture for picture in share if picture.index not in folder.done]
    draw(job, pipeline, settings, missing, folder, already=len(share) - len(missing))
    folder.close()
    state.wait_for_everyone()
    if state.is_main_process:
        folder.finish([picture.label for picture in pictures])
        write_overview(folder, job, len(pipeline.classes))
    state.wait_for_everyone()
    return out


def make_faster(
    job: Job, pipeline: ClassConditionalPipeline, guide: ClassConditionalPipeline | None
) -> None:
    """Optimizes the pipelines of a job; stderr says what that did."""
    sentences = {job.model: pipeline.optimize()}
    if job.guide is not None and guide is not None:
        sentences[job.guide] = guide.optimize()
    if processes().is_main_process:
        for name, said in sentences.items():
            print(*(f"{name}: {sentence}" for sentence in said), sep="\n", file=sys.stderr)


def describe(job: Job, resolved: Settings, labels: list[int]) -> dict[str, Any]:
    """The settings that decide what the pictures of a folder look like."""
    described: dict[str, Any] = {
        "model": fingerprint_of(job.model),
        "labels": labels,
        "seed": job.seed,
        "format": job.kind,
        "steps": resolved.steps,
        "guidance": resolved.guidance,
        "scheduler": type(resolved.scheduler).__name__,
        "size": list(resolved.size),
    }
    # Only where they are used, so that folders without them can still be completed.
    if job.settings.get("scheduler_options"):
        described["scheduler_options"] = job.settings["scheduler_options"]
    if resolved.guidance_interval is not None:
        described["guidance_interval"] = list(resolved.guidance_interval)
    if job.guide is not None:
        described["guide"] = fingerprint_of(job.guide)
    # A folder of pictures can be continued to a larger number; an array has its size.
    return {**described, "num": job.num} if job.kind == "npz" else described


def fingerprint_of(model: str) -> str:
    """A hash of the settings and weights of all parts of a model."""
    digest = hashlib.sha256()
    folder = resolve(model)
    parts = [file for kind in ("json", "safetensors") for file in folder.glob(f"*/*.{kind}")]
    for part in [folder / INDEX, *sorted(parts)]:
        with part.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def draw(
    job: Job,
    pipeline: ClassConditionalPipeline,
    settings: dict[str, Any],
    missing: list[Any],
    folder: SampleFolder,
    already: int,
) -> None:
    """Draws and stores the missing pictures of this process, with a progress bar on stderr."""
    with progress_bar() as bar:
        task = bar.add_task("sampling", total=already + len(missing), completed=already)
        for picture, image in generate(pipeline, missing, job.batch_size, **settings):
            text = None
            if job.metadata:
                text = recipe(job.model, pipeline, picture, settings, job.guide)
            folder.write(picture, image, text)
            bar.advance(task)


def write_overview(folder: SampleFolder, job: Job, num_classes: int) -> None:
    """`grid.png` with the first pictures of the job."""
    images = open_images(str(folder.folder))
    shown = [to_pil(images.read(index)) for index in range(min(GRID, job.num))]
    sheet = grid(shown, columns=min(10, num_classes, len(shown)))
    save_picture(sheet, folder.folder / OVERVIEW, None)
