"""Grids of samples drawn while a model trains."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from gensynth.data.images import grid
from gensynth.training.session.faults import Abandoned, StopRequest


def draw_grid(
    pipeline: Any, num: int, images: Tensor | None, path: Path, stop: StopRequest
) -> None:
    """Writes `num` pictures that show what a pipeline has learned; gives up if the run should stop.

    `images` [B, C, H, W] are some of those that it is trained on.
    """
    with suppress(Abandoned):
        pictures = pipeline.showcase(num, images, stop.watch)
        path.parent.mkdir(parents=True, exist_ok=True)
        grid(pictures, min(10, num)).save(path)
