"""A finished picture, enlarged and refined in stages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from PIL import Image

from gensynth.conditions import Item
from gensynth.data.images import to_pil, to_tensor, upright
from gensynth.errors import UsageError
from gensynth.pipelines.contract import Composed, OnStep, Progress, Resolved
from gensynth.pipelines.highres.contract import Kept, ladder
from gensynth.pipelines.highres.decoding import pixels_of
from gensynth.pipelines.highres.progressive import Progressive, encoded, itself
from gensynth.pipelines.highres.strategies import strategy_of
from gensynth.samplers.contract import Step
from gensynth.settings import Settings

NAME = "progressive"  # the strategy that begins with a picture


@dataclass(frozen=True)
class Upscaling:
    """What to enlarge.

    Args:
        image: of any mode; transparency counts as laid over white.
        shown: what it shows, as a person says it to the model.
        size: height and width in pixels of the result; None: `times` as long.
        times: how many times as long its sides become, up to what the model's squares allow.
        settings: as in a call of the pipeline, whose steps and guidance are the strategy's
            `refine_steps` and `refine_guidance`; the strategy is progressive.
    """

    image: Image.Image
    shown: Any
    size: tuple[int, int] | None = None
    times: float = 4.0
    settings: Settings = field(default_factory=Settings)


@torch.inference_mode()
def upscale(
    pipeline: Composed,
    wanted: Upscaling,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    kept: Kept | None = None,
) -> list[Image.Image]:
    """One result for each seed.

    Raises:
        UsageError: a size that is not larger, or a model that cannot begin with a picture.
    """
    decode = partial(pixels_of, pipeline.autoencoder)
    item, resolved = pipeline.condition.item(wanted.shown), resolve(pipeline, wanted)
    for step in walk(pipeline, wanted, [item] * len(seeds), seeds, resolved, kept):
        if on_step is not None:
            on_step(Progress.of(step, decode))
    return [to_pil(pixels) for pixels in decode(step.sample)]


def resolve(pipeline: Composed, wanted: Upscaling) -> Resolved:
    """The settings of a result, with its size.

    Raises:
        UsageError: a size that is not larger, or a model that cannot begin with a picture.
    """
    image, settings = upright(wanted.image), wanted.settings
    if settings.strategy not in (None, NAME):
        raise UsageError(
            f"a picture is enlarged by the strategy {NAME}, not by {settings.strategy}; leave the "
            "strategy out."
        )
    size = wanted.size
    if size is None:
        if not wanted.times > 1:
            raise UsageError(f"a picture is enlarged more than 1 time, got {wanted.times:g}.")
        multiple = pipeline.model.size_multiple * pipeline.autoencoder.patch
        size = (
            max(1, round(image.height * wanted.times / multiple)) * multiple,
            max(1, round(image.width * wanted.times / multiple)) * multiple,
        )
    if size[0] * size[1] <= image.height * image.width:
        raise UsageError(
            f"{size[0]}x{size[1]} is not larger than the picture, which has {image.height}x"
            f"{image.width} pixels (height x width)."
        )
    return pipeline.resolve(settings.but(size=size, strategy=NAME))


def walk(
    pipeline: Composed,
    wanted: Upscaling,
    items: Sequence[Item],
    seeds: Sequence[int],
    resolved: Resolved,
    kept: Kept | None,
) -> Iterator[Step]:
    """The steps of all stages after the picture itself."""
    strategy = strategy_of(resolved.settings)
    assert isinstance(strategy, Progressive), "see resolve"
    image = upright(wanted.image).convert("L" if pipeline.autoencoder.channels == 1 else "RGB")
    multiple = pipeline.model.size_multiple * pipeline.autoencoder.patch
    own = (image.height * image.width) ** 0.5
    sizes = ladder(own, resolved.size, multiple, strategy.factor)

    def picture() -> Iterator[Step]:
        pixels = to_tensor(image)[None].to(pipeline.model.device)
        latents = encoded(pipeline.autoencoder, pixels, sizes[0]).expand(len(seeds), -1, -1, -1)
        yield Step(1, 1, latents, partial(itself, latents))

    return strategy.climb(pipeline, items, seeds, resolved, sizes, 1, picture, kept)
