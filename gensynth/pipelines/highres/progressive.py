"""From small to large: drawn in the model's own size, then enlarged and refined in stages.

An enlarged picture gets back some noise, and the model takes it away again at the new size (SDEdit,
arXiv 2108.01073), which makes edges and textures that fit the size; what is in the picture stays.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gensynth.conditions import Item
from gensynth.errors import UsageError
from gensynth.pipelines.contract import Composed, Resolved
from gensynth.pipelines.highres.contract import Kept, from_noise, ladder, one_by_one
from gensynth.pipelines.highres.decoding import latents_of, pixels_of
from gensynth.pipelines.model_call import guided_model
from gensynth.samplers.contract import Step, normal
from gensynth.seeding import derived_seed, picture_generator, whole_seed

UPSAMPLE = ("pixels", "latents")


@dataclass(frozen=True)
class Progressive:
    """Enlarged and refined in stages.

    Attributes:
        factor: how many times as long a side becomes in a stage, at most.
        strength: noise that a stage begins with, from 0 (none) to 1 (nothing is left).
        refine_steps: how many steps a stage takes.
        refine_guidance: guidance in a stage.
        upsample: where a picture is enlarged, in pixels or in latents (quicker, less sharp).
        colours: whether each stage keeps the colours of the one before, as coarse as they are
            there. Models know colours best at their own size.
    """

    factor: float = 2.0
    strength: float = 0.2
    refine_steps: int = 6
    refine_guidance: float = 1.0
    upsample: Literal["pixels", "latents"] = "pixels"
    colours: bool = True

    def __post_init__(self) -> None:
        fits = {
            "factor": (self.factor, 1.1 <= self.factor <= 16, "a number from 1.1 to 16"),
            "strength": (self.strength, 0 < self.strength <= 1, "a number above 0, up to 1"),
            "refine_steps": (self.refine_steps, 1 <= self.refine_steps <= 1000, "from 1 to 1000"),
            "refine_guidance": (
                self.refine_guidance,
                0 <= self.refine_guidance < 1000,
                "a number from 0 (1 is none)",
            ),
            "upsample": (
                self.upsample,
                self.upsample in ("pixels", "latents"),
                "pixels or latents",
            ),
        }
        for name, (value, good, what) in fits.items():
            if not good:
                raise UsageError(f"the strategy's {name} must be {what}, got {value!r}.")

    def check(self, pipeline: Composed, resolved: Resolved) -> None:
        if pipeline.model.works_on == "tokens":
            raise UsageError(
                "this model draws tokens, to which no noise can be added; draw in another "
                "strategy, such as direct."
            )
        if not resolved.sampler.midway or resolved.settings.fixes_steps:
            name = type(resolved.sampler.scheduler).__name__
            raise UsageError(
                f"the strategy progressive begins walks in their middle, and {name} "
                + ("with given timesteps " if resolved.sampler.midway else "")
                + "does not; leave the scheduler and timesteps to the model, or name another "
                "scheduler (gensynth models lists them)."
            )
        self.refining(pipeline, resolved, resolved.size)

    def sizes(self, pipeline: Composed, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Height and width in pixels of every stage, the first of which is drawn from noise."""
        multiple = pipeline.model.size_multiple * pipeline.autoencoder.patch
        return ladder(pipeline.config.size, size, multiple, self.factor)

    def refining(self, pipeline: Composed, resolved: Resolved, size: tuple[int, int]) -> Resolved:
        """The settings of a stage: a walk of which only its last steps are taken."""
        steps = max(self.refine_steps, round(self.refine_steps / self.strength))
        how = resolved.settings.but(steps=steps, guidance=self.refine_guidance, size=size)
        if self.refine_guidance == 1:  # nothing to lead away from
            how = how.but(negative=None, guide=None)
        return pipeline.resolve(how.but(strategy=None, strategy_options=None))

    def walk(
        self,
        pipeline: Composed,
        items: Sequence[Item],
        seeds: Sequence[int],
        resolved: Resolved,
        kept: Kept | None,
    ) -> Iterator[Step]:
        sizes = self.sizes(pipeline, resolved.size)
        plain = resolved.settings.but(size=sizes[0], strategy=None, strategy_options=None)
        yield from self.climb(
            pipeline,
            items,
            seeds,
            resolved,
            sizes,
            resolved.steps,
            lambda: from_noise(pipeline, items, seeds, pipeline.resolve(plain)),
            kept,
        )

    def climb(
        self,
        pipeline: Composed,
        items: Sequence[Item],
        seeds: Sequence[int],
        resolved: Resolved,
        sizes: Sequence[tuple[int, int]],
        first_steps: int,
        first: Callable[[], Iterator[Step]],
        kept: Kept | None,
    ) -> Iterator[Step]:
        """The steps of all stages that are not kept; `first` takes those of the first."""
        counts = [first_steps, *[self.refine_steps] * (len(sizes) - 1)]
        done, before = 0, torch.empty(0)
        for stage, (size, count) in enumerate(zip(sizes, counts, strict=True)):
            found = None if kept is None else together(kept, seeds, stage)
            if found is not None:
                done, before = done + count, found.to(pipeline.model.device)
                yield Step(done, sum(counts), before, partial(itself, before))
                continue
            if stage == 0:
                steps = first()
            else:
                steps = self.refine(pipeline, items, seeds, resolved, before, stage, size)
            for step in steps:
                done, before = done + 1, step.sample
                yield Step(done, sum(counts), before, step.estimate)
            if kept is not None:
                for seed, one in zip(seeds, before, strict=True):
                    kept.put(seed, stage, one)

    def refine(
        self,
        pipeline: Composed,
        items: Sequence[Item],
        seeds: Sequence[int],
        resolved: Resolved,
        latents: Tensor,
        stage: int,
        size: tuple[int, int],
    ) -> Iterator[Step]:
        """The steps of a stage, from the latents of the one before."""
        codec = pipeline.autoencoder
        if self.upsample == "latents":
            shape = codec.latent_shape(*size)[-2:]
            large = F.interpolate(latents, size=shape, mode="bicubic")
        else:
            large = in_turn(lambda one: encoded(codec, pixels_of(codec, one), size), latents)
        how = self.refining(pipeline, resolved, size)
        # Numbers of this stage alone, so that a picture goes on from it as if it had drawn it.
        generators = [
            picture_generator(derived_seed(whole_seed(seed), "stage", stage)) for seed in seeds
        ]
        conditions = pipeline.condition.encode(items, pipeline.model.device)
        predict, conditions = guided_model(pipeline, how, conditions)
        noise = normal(large.shape[1:], generators, large.device)
        done = how.steps - self.refine_steps
        midway = pipeline.resolve(how.settings).sampler.noised(large, noise, how.steps, done)
        steps = how.sampler.walk(
            one_by_one(predict), midway, how.steps, conditions, generators, done
        )
        for number, step in enumerate(steps, 1):
            if number == self.refine_steps and self.colours:
                pairs = zip(step.sample.split(1), latents.split(1), strict=True)
                found = torch.cat([coloured(codec, *pair) for pair in pairs])
                step = Step(step.index, step.steps, found, partial(itself, found))
            yield step


def in_turn(change: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
    """What becomes of each row [1, ...], in the memory of one."""
    return torch.cat([change(one) for one in latents.split(1)])


def encoded(codec: Any, pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Latents of a picture, uint8 [1, C, H, W], in another size."""
    large = F.interpolate(pixels.float(), size=size, mode="bicubic", antialias=True)
    return latents_of(codec, large.round_().clamp_(0, 255).to(torch.uint8))


def coloured(codec: Any, latents: Tensor, coarse: Tensor) -> Tensor:
    """Latents [1, C, h, w] of a picture with the colours of `coarse`, a smaller one of the same.

    In pixels, where colours are the same at every size: what of the picture is as coarse as the
    smaller one is taken from that.
    """
    pixels, model = pixels_of(codec, latents), pixels_of(codec, coarse).float()
    size = model.shape[-2:]
    missing = model - F.interpolate(pixels.float(), size=size, mode="area")
    missing = F.interpolate(missing, size=pixels.shape[-2:], mode="bicubic")
    return latents_of(codec, missing.add_(pixels).round_().clamp_(0, 255).to(torch.uint8))


def itself(latents: Tensor) -> Tensor:
    """The estimate of a step after which nothing is left to estimate."""
    return latents


def together(kept: Kept, seeds: Sequence[int], stage: int) -> Tensor | None:
    """What is kept of a stage of all pictures, [B, C, h, w]; None if one is missing."""
    found = [kept.get(seed, stage) for seed in seeds]
    if any(one is None for one in found):
        return None
    return torch.stack([one for one in found if one is not None])
