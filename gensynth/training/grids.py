"""Grids of samples drawn while a model trains."""

from pathlib import Path
from typing import Any

from torch import Tensor

from gensynth.data.images import grid
from gensynth.pipelines.walk import Progress
from gensynth.training.faults import StopRequest


class _Abandoned(Exception):
    pass


def draw_grid(
    pipeline: Any, num: int, images: Tensor | None, path: Path, stop: StopRequest
) -> None:
    """Writes `num` pictures that show what a pipeline has learned; gives up if the run should stop.

    `images` [B, C, H, W] are some of those that it is trained on.
    """

    def watch(_progress: Progress) -> None:
        if stop.name is not None:
            raise _Abandoned

    try:
        pictures = pipeline.showcase(num, images, watch)
    except _Abandoned:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    grid(pictures, min(10, num)).save(path)
