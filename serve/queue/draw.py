"""One job on the device: steps, previews and stored pictures."""

import io
import math
import re
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from gensynth.conditions import Item
from gensynth.data.images import to_pil
from gensynth.pipelines.contract import Progress
from gensynth.sampling.generate import generate
from gensynth.sampling.outputs import recipe, reporting_write_errors, save_picture
from gensynth_serve.queue.jobs import Job, Made, Preview, Warned

BATCH = 8  # pictures drawn together
PREVIEW_SECONDS = 0.2  # at least, between two previews: decoding takes time
PREVIEW_SIDE = 512  # pixels of all previews of a job side by side


class Cancelled(BaseException):
    """Ends the pipeline's call at the next step. Not an Exception: no handler may swallow it."""


def draw(job: Job, folder: Path, prepare: Callable[[], None]) -> None:
    """Draws and stores the pictures of a job, and reports each step and picture.

    `prepare` makes the folder anew if a cleaner of temporary files took it.

    Raises:
        Cancelled: the job was cancelled; at most one step later.
        GensynthError: out of memory, or a picture cannot be stored.
    """
    report, pipeline = StepReport(job), job.pipeline
    complete = pipeline.resolve(job.settings).settings
    items = [picture.item for picture in job.pictures]
    # In this thread, like all that is done with a tokenizer: it serves one at a time.
    if notes := pipeline.condition.notes([*items, *filter(None, [complete.negative])]):
        job.news.put(Warned(notes))

    def drawn(items: list[Item], seeds: list[int]) -> list[Image.Image]:
        return pipeline.draw(items, seeds, job.settings, report)

    for picture, image in generate(drawn, job.pictures, BATCH):
        # Under the names of this server, not where its models lie.
        served = {"model": job.order.model}
        if complete.guide is not None:
            served["guide"] = job.order.further["guide"]
        text = {**recipe(pipeline, picture, complete), **served}
        shown = pipeline.condition.name(picture.item)
        slug = re.sub(r"[^a-z0-9]+", "-", shown.lower()).strip("-")[:32] or "picture"
        path = folder / f"{job.id}-{picture.index}" / f"{slug}-seed-{picture.seed}.png"
        prepare()
        with reporting_write_errors(folder):
            path.parent.mkdir()
        save_picture(image, path, text)
        job.news.put(Made(picture.index, shown, path, text, jpeg(image, report.side)))


class StepReport:
    """Called after each step: ends a cancelled job, else tells how far it is, now and then."""

    def __init__(self, job: Job):
        self.job = job
        self.batches = math.ceil(len(job.pictures) / BATCH)
        self.side = PREVIEW_SIDE // math.ceil(math.sqrt(len(job.pictures)))
        self.started = time.monotonic()
        self.taken = 0
        self.last = -math.inf

    def __call__(self, progress: Progress) -> None:
        if self.job.cancelled.is_set():
            raise Cancelled
        batch = self.taken // progress.steps
        self.taken += 1
        now = time.monotonic()
        if now - self.last < PREVIEW_SECONDS:
            return
        total = self.batches * progress.steps
        rate = self.taken / max(now - self.started, 1e-6)  # steps a second
        self.job.news.put(
            Preview(
                step=progress.step,
                steps=progress.steps,
                first=batch * BATCH,
                jpegs=[jpeg(to_pil(pixels), self.side) for pixels in progress.preview()],
                share=self.taken / total,
                rate=rate,
                seconds_left=(total - self.taken) / rate,
            )
        )
        self.last = time.monotonic()  # not `now`: a slow preview would follow itself at once


def jpeg(image: Image.Image, side: int) -> bytes:
    """The image as JPEG, scaled down if it is larger than `side`."""
    if max(image.size) > side:
        image = image.copy()  # `thumbnail` works in place
        image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=70)
    return stream.getvalue()
