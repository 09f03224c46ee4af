"""An upscaling job: a picture's file and what it shows -> a larger picture's file."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gensynth.conditions import Item
from gensynth.errors import UsageError
from gensynth.lora.folder import Wanted
from gensynth.pipelines.contract import Progress
from gensynth.pipelines.drawing import DrawingPipeline
from gensynth.pipelines.highres.upscale import Upscaling, resolve, upscale
from gensynth.pipelines.loading import load
from gensynth.processes import processes
from gensynth.progress import progress_bar
from gensynth.sampling.edits import read
from gensynth.sampling.generate import SMALLER_SIZE, Picture, reporting_memory
from gensynth.sampling.job import fingerprint_of, say_cut
from gensynth.sampling.outputs import recipe, reporting_write_errors, save_picture
from gensynth.sampling.stages import StageFolder
from gensynth.settings import Settings


@dataclass
class UpscaleJob:
    """What to enlarge.

    Args:
        model: name or folder.
        image: a file.
        shown: what it shows, as a person says it to the model; None: nothing in particular.
        growth: how many times as long, or height and width in pixels.
        seed: of the details.
        variant: of the weights, see `gensynth.load`.
        lora: adapters of the model.
    """

    model: str
    image: Path
    shown: str | None
    growth: float | tuple[int, int]
    seed: int = 0
    settings: Settings = field(default_factory=Settings)
    variant: str | None = None
    lora: Sequence[Wanted] = ()


def run(job: UpscaleJob, out: Path) -> Path:
    """Enlarges a picture into the file `out`, going on from the last finished stage.

    Raises:
        UsageError, InputError, OutputError, DeviceMemoryError: with what to do.
    """
    if processes().num_processes > 1:
        raise UsageError(
            "gensynth upscale is one process; start it without torchrun or accelerate."
        )
    image, image_hash = read(job.image)
    assert image is not None
    pipeline = load(job.model, processes().device, job.variant, job.lora)
    if not isinstance(pipeline, DrawingPipeline):
        raise UsageError(
            f"{pipeline.name} cannot begin with a picture here; give a model of gensynth."
        )
    size = job.growth if isinstance(job.growth, tuple) else None
    times = 1.0 if isinstance(job.growth, tuple) else job.growth
    wanted = Upscaling(image, shown_of(pipeline, job), size, times, job.settings)
    resolved = resolve(pipeline, wanted)
    say_cut(pipeline.condition, [wanted.shown])
    known = recipe(pipeline, Picture(0, wanted.shown, job.seed), resolved.settings)
    known["upscale"] = {"image": job.image.name, "image_sha256": image_hash}
    digest = hashlib.sha256(f"{known} {fingerprint_of(job.model, job.variant)}".encode())
    stages = StageFolder(out.with_name(f"{out.name}.stages-{digest.hexdigest()[:8]}"))
    with reporting_write_errors(out), reporting_memory(1, SMALLER_SIZE), progress_bar() as bar:
        out.parent.mkdir(parents=True, exist_ok=True)
        task = bar.add_task("upscaling", total=None)

        def shown(progress: Progress) -> None:
            bar.update(task, completed=progress.step, total=progress.steps)

        (result,) = upscale(pipeline, wanted, [job.seed], shown, stages)
        save_picture(result, out, known)
    stages.drop(job.seed)
    return out


def shown_of(pipeline: DrawingPipeline, job: UpscaleJob) -> Item:
    """What the picture shows, as an item of the model's condition.

    Raises:
        UsageError: the model has to be told, and was not; or it cannot be told this.
    """
    condition = pipeline.condition
    if job.shown is None and condition.reads == "texts":
        return condition.item("")
    if job.shown is None and condition.choices():
        raise UsageError(
            f"{pipeline.name} has to know what the picture shows; give --label "
            f"(gensynth classes --model {job.model} lists them)."
        )
    item: Any = condition.item(job.shown)
    return item
