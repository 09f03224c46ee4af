"""Grids of samples drawn while a model trains."""

from pathlib import Path

from gensynth.data.images import grid
from gensynth.pipelines.class_conditional import ClassConditionalPipeline, Progress
from gensynth.training.faults import StopRequest

BATCH = 50


class _Abandoned(Exception):
    pass


def draw_grid(pipeline: ClassConditionalPipeline, num: int, path: Path, stop: StopRequest) -> None:
    """Writes `num` pictures, classes in turn, seeds 0, 1, ...; gives up if the run should stop."""
    columns = min(10, num)
    classes = len(pipeline.classes)

    def watch(_progress: Progress) -> None:
        if stop.name is not None:
            raise _Abandoned

    images = []
    try:
        for first in range(0, num, BATCH):
            seeds = range(first, min(first + BATCH, num))
            images += pipeline([seed % classes for seed in seeds], seeds, on_step=watch)
    except _Abandoned:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    grid(images, columns).save(path)
