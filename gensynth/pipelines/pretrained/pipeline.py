"""Prompt and seed -> picture, with a pipeline of diffusers inside."""

import functools
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from gensynth.conditions import Item
from gensynth.data.images import to_pil
from gensynth.errors import DivergedError, UsageError
from gensynth.lora.apply import Adapters
from gensynth.pipelines.contract import OnStep, Progress, Resolved, shown_in_turn
from gensynth.pipelines.pretrained import pictures
from gensynth.pipelines.pretrained.checking import check_settings, checked_size
from gensynth.pipelines.pretrained.families import (
    FAMILIES,
    guided_inside,
    own_size,
    takes_guidance,
)
from gensynth.pipelines.pretrained.options import LoadOptions
from gensynth.pipelines.pretrained.prompts import PipelinePrompts
from gensynth.pipelines.pretrained.scheduling import (
    check_walk,
    chosen_scheduler,
    chosen_steps,
    end_in,
    steps_range,
)
from gensynth.pipelines.pretrained.walking import Walks
from gensynth.samplers.contract import Sampler
from gensynth.seeding import picture_generator, whole_seed
from gensynth.settings import Settings
from gensynth.whole import listed

FEW_STEPS = 4  # of a network that has learnt to do without guidance: FLUX.1-schnell's


@dataclass(frozen=True)
class OwnLoop:
    """What walks in a pipeline of diffusers: its own loop, with this scheduler."""

    scheduler: Any


class PretrainedPipeline:
    """Pictures of what prompts say, drawn by a pipeline of diffusers.

    Args:
        inner: one whose class is in `FAMILIES`.
        options: how it was loaded.
        variant: of the weights, as it was asked for.

    Attributes:
        inner: diffusers' pipeline, to be changed by whoever knows it: LoRA, `linearize`, ...
    """

    lora: Adapters | None = None

    def __init__(self, inner: Any, options: LoadOptions | None = None, variant: str | None = None):
        self.inner, self.options, self.variant = inner, options or LoadOptions(), variant
        self.family = FAMILIES[type(inner).__name__]
        self.name = type(inner).__name__  # until `load` knows the name it was asked for
        self.condition = PipelinePrompts(inner, self.family)
        self._walks = Walks()

    @property
    def channels(self) -> int:
        return int(self.inner.vae.config.get("out_channels") or self.inner.vae.config.in_channels)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device(self.inner._execution_device)

    @property
    def network(self) -> Any:
        """What is asked in every step."""
        return getattr(self.inner, self.family.network)

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return cast(torch.dtype, self.network.dtype)

    def __call__(
        self,
        prompts: Sequence[str] | str,
        seeds: Sequence[int] | int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        negative: str | None = None,
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> list[Image.Image]:
        """One picture for each pair of prompt and seed; see `TextConditionalPipeline`."""
        seeds = listed(seeds, "seeds")
        prompts = [prompts] * len(seeds) if isinstance(prompts, str) else prompts
        how = Settings.of(steps=steps, guidance=guidance, negative=negative, **settings)
        return self.draw(listed(prompts, "prompts"), seeds, how, on_step)

    def resolve(self, settings: Settings | None = None) -> Resolved:
        """The settings with the pipeline's own in place of those left to it.

        Raises:
            UsageError: a value out of range, or a setting that this pipeline does not have.
        """
        given = settings or Settings()
        check_settings(self.family, self.network.config, given)
        own_scheduler = self._walks.own_scheduler(self.inner)
        scheduler = chosen_scheduler(own_scheduler, self.inner, self.family, given)
        if given.negative is not None:
            self.condition.item(given.negative)  # refuses what is no prompt
        guided = takes_guidance(self.family, self.network.config)
        own = self._default("guidance_scale") if guided else 1.0
        own_steps = self._default("num_inference_steps") if guided else FEW_STEPS
        steps = chosen_steps(self.family, scheduler, given, own_steps)
        check_walk(self.inner, scheduler, given, steps)
        parts = self.inner.vae.config, self.network.config
        complete = replace(
            given,
            steps=steps,
            guidance=own if given.guidance is None else given.guidance,
            size=checked_size(self.family, *parts, given.size or own_size(self.family, *parts)),
            scheduler=type(scheduler).__name__,
            scheduler_options=given.scheduler_options or None,
        )
        return Resolved(complete, cast(Sampler, OwnLoop(scheduler)))

    def steps_range(self, size: tuple[int, int]) -> tuple[int, int]:
        """The fewest and the most steps that its scheduler takes."""
        return steps_range(self.family, self._walks.own_scheduler(self.inner))

    def draw(
        self,
        items: Sequence[Item],
        seeds: Sequence[int] | int,
        settings: Settings | None = None,
        on_step: OnStep | None = None,
    ) -> list[Image.Image]:
        """One picture for each pair of prompt and seed.

        A picture depends on its prompt, its seed and the settings, not on the others in the batch.

        Args:
            items: prompts, [B].
            seeds: whole numbers, [B].
            on_step: called after every call of the network; an exception it raises ends the call.

        Raises:
            UsageError: prompts and seeds of unlike number, or a value out of range.
            DivergedError: numbers too large for the networks' format.
        """
        resolved = self.resolve(settings)
        items, seeds = listed(items, "prompts"), listed(seeds, "seeds")
        if len(items) != len(seeds) or not items:
            raise UsageError(f"{len(items)} prompts and {len(seeds)} seeds; give one of each.")
        items = [self.condition.item(item) for item in items]
        generators = [picture_generator(whole_seed(seed)) for seed in seeds]
        scheduler = cast(OwnLoop, resolved.sampler).scheduler
        watched = self._watched(scheduler, resolved, on_step)
        with self._walks.with_scheduler(self.inner, watched), torch.no_grad():
            latents = self.inner(
                latents=self._noise(resolved.size, generators),
                generator=generators,
                output_type="latent",
                **self._told(items, resolved),
                **self._how(resolved),
            )[0]
            image = latents
            if latents.isfinite().all():
                image = pictures.decoded(self.inner, self.family, latents, resolved.size)
            if not image.isfinite().all():
                raise self._diverged(resolved)
        return [to_pil(one) for one in pictures.pixels(self.inner, image)]

    def showcase(self, num: int, images: Tensor | None, on_step: OnStep) -> list[Image.Image]:
        """`num` pictures, all examples in turn, seeds 0, 1, ...; `images` are not needed."""
        return shown_in_turn(self, num, on_step)

    def optimize(self) -> list[str]:
        """Sentences that say what now makes drawing faster, and what does not and why."""
        return ["nothing to do: diffusers' attention is the quick one of torch already."]

    def facts(self) -> dict[str, Any]:
        """How it was loaded, as far as it changes pictures; `options.as_loaded` reads it."""
        facts: dict[str, Any] = {"dtype": str(self.dtype).removeprefix("torch.")}
        if self.options.vae_tiling:
            facts["vae_tiling"] = True
        return facts if self.variant is None else {**facts, "variant": self.variant}

    def _told(self, prompts: list[str], resolved: Resolved) -> dict[str, Any]:
        """What the call is told of prompts, and of what to lead away from, by its keywords."""
        positive = self.condition.encode(prompts)
        inside = guided_inside(self.network.config)
        if resolved.guidance == 1 or inside or not self.family.negatives:
            return {**positive, **self._silent()}
        text = resolved.settings.negative
        negative = self.condition.against(
            None if text is None else self.condition.item(text), positive
        )
        return {**positive, **negative, **self._silent()}

    def _silent(self) -> dict[str, Any]:
        """No words: they are encoded already. PixArt's default for the negative ones is a text."""
        return {"negative_prompt": None} if self.family.negatives else {}

    def _how(self, resolved: Resolved) -> dict[str, Any]:
        """The other keywords of the call."""
        settings, (height, width) = resolved.settings, resolved.size
        takes = inspect.signature(type(self.inner).__call__).parameters
        how: dict[str, Any] = {"height": height, "width": width, "return_dict": False}
        how |= {"num_inference_steps": resolved.steps, "guidance_scale": resolved.guidance}
        if settings.timesteps is not None:
            how["timesteps"] = list(settings.timesteps)
        if settings.eta is not None:
            how["eta"] = settings.eta
        return how | {k: v for k, v in (self.family.extra or {}).items() if k in takes}

    def _diverged(self, resolved: Resolved) -> DivergedError:
        """What to say of latents that are no numbers."""
        if self.dtype == torch.float32:
            instead = (
                "take another number of steps or another scheduler, or fetch the weights again"
            )
        else:
            instead = "load it with dtype=float32"
        return DivergedError(
            f"{self.name} gave numbers that are not finite with {resolved.steps} steps of "
            f"{resolved.settings.scheduler} in {self.dtype}; {instead}."
        )

    def _noise(self, size: tuple[int, int], generators: list[torch.Generator]) -> Tensor:
        """Standard normal numbers, a picture's from its own generator, as the network takes them.

        They are drawn in float32 on the CPU whatever the network computes in.
        """
        channels = self.network.config.in_channels // (4 if self.family.packed else 1)
        height, width = (side // self.inner.vae_scale_factor for side in size)
        noise = torch.cat(
            [torch.randn(1, channels, height, width, generator=one) for one in generators]
        )
        if self.family.packed:
            noise = self.inner._pack_latents(noise, len(noise), channels, height, width)
        return noise if self.family.precise else noise.to(self.dtype)

    def _watched(self, scheduler: Any, resolved: Resolved, on_step: OnStep | None) -> Any:
        """The scheduler, whose every step is told to `on_step` with a preview."""
        if on_step is None:
            return scheduler
        step, taken = scheduler.step, 0
        moved = self.options.offload != "none"
        show = pictures.sketch if moved else pictures.decode

        @functools.wraps(step)
        def told(said: Tensor, time: Any, sample: Tensor, *args: Any, **keywords: Any) -> Any:
            nonlocal taken
            found = step(said, time, sample, *args, **keywords)
            before, taken = taken, taken + 1

            def preview() -> Tensor:
                end = end_in(found, scheduler)
                if end is None:
                    end = pictures.expected(scheduler, before, said, time, sample)
                return show(self.inner, self.family, end, resolved.size)

            on_step(Progress(taken, len(scheduler.timesteps), preview))
            return found

        scheduler.step = told
        return scheduler

    def _default(self, keyword: str) -> Any:
        """What the pipeline's call takes unless told otherwise."""
        return inspect.signature(type(self.inner).__call__).parameters[keyword].default
