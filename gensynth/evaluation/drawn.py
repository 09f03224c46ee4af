"""Pictures of a model as images to measure: drawn when they are asked for, never stored."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from gensynth.conditions import Condition, Item
from gensynth.data.images import to_tensor
from gensynth.errors import UsageError
from gensynth.evaluation.protocols.protocols import LabelRule
from gensynth.lora.folder import Wanted
from gensynth.pipelines.contract import OnStep, Pipeline
from gensynth.pipelines.loading import load, with_guide
from gensynth.pipelines.pretrained.options import LoadOptions
from gensynth.pipelines.pretrained.pipeline import PretrainedPipeline
from gensynth.processes import processes
from gensynth.sampling.generate import Picture, generate, smaller
from gensynth.sampling.job import fingerprint_of
from gensynth.seeding import derived_seed
from gensynth.settings import Settings


@dataclass(frozen=True)
class AtHand:
    """A model that is in memory; other weights have another fingerprint."""

    name: str
    pipeline: Pipeline
    fingerprint: str

    @classmethod
    def loaded(
        cls,
        name: str,
        variant: str | None = None,
        lora: Sequence[Wanted] = (),
        options: LoadOptions | None = None,
    ) -> "AtHand":
        """The model of a name, folder or hub id with adapters, as for `gensynth.load`."""
        how = {} if options is None else options.given()
        pipeline = load(name, processes().device, variant, lora, **how)
        # Of gensynth's own models it is of all variants; the weights of a hub id are here by now.
        own = fingerprint_of(name, variant) + ("" if variant is None else f" {variant}")
        if isinstance(pipeline, PretrainedPipeline):
            own += json.dumps(pipeline.facts())
        if pipeline.lora is not None:
            own += json.dumps(pipeline.lora.facts())
        return cls(name, pipeline, own)


MOST_KEPT = 256 * 2**20  # bytes of pictures that are not drawn again when they are needed again


class DrawnImages:
    """Picture `index` of a model has seed `seed + index` and a label of its own.

    So a set of pictures is the same for any number of processes, any batch size and any order.

    Args:
        model: name, folder or hub id, as for `gensynth.load`, or one that is in memory.
        num: how many pictures.
        label_rule: "balanced": the classes in turn; "random": uniform, a function of seed and
            index.
        batch_size: pictures that the model draws together.
        settings: of the pipeline's call, such as steps and guidance.
        on_step: called after every step of a batch; what it raises ends the drawing.
        prompts: what is drawn in turn, for a model of texts; None: what the model itself would.

    Raises:
        UsageError: fewer than one picture, an unknown rule, or settings the model cannot draw with.
    """

    lossy = False  # never through JPEG

    def __init__(
        self,
        model: str | AtHand,
        num: int,
        seed: int = 0,
        label_rule: LabelRule = "balanced",
        batch_size: int = 16,
        settings: Settings | None = None,
        on_step: OnStep | None = None,
        prompts: Sequence[str] | None = None,
    ):
        if num < 1:
            raise UsageError(f"--num must be at least 1, got {num}.")
        if label_rule not in ("balanced", "random"):
            raise UsageError(f"labels are drawn balanced or random, not {label_rule!r}.")
        model = AtHand.loaded(model) if isinstance(model, str) else model
        self.model, self.length, self.seed = model.name, num, seed
        self.label_rule, self.batch_size = label_rule, batch_size
        self.pipeline = model.pipeline
        self.settings = with_guide(settings or Settings(), self.pipeline.device)
        self.on_step = on_step
        self._kept: dict[int, Tensor] = {}
        condition = self.pipeline.condition
        self.items = condition.every()
        if prompts is not None:
            check_reads_texts(model.name, condition)
            self.items = [condition.item(prompt) for prompt in prompts]
        if not self.items:
            raise UsageError(f"{model.name} shows whatever is written; draw its pictures first.")
        self.label_of = partial(label_of, label_rule, seed, len(self.items))
        self.classes: list[str] | None = None
        self.labels: Callable[[int], int] | None = None
        self.texts: list[str] | None = None
        if condition.reads == "texts":
            self.texts = [self.items[self.label_of(index)] for index in range(num)]
        else:
            self.classes = [condition.name(item) for item in self.items]
            self.labels = self.label_of
        self.resolved = self.pipeline.resolve(self.settings)
        self.name = f"pictures of {model.name}"
        # All that decides the pixels, and not how many pictures: 1,000 of them begin like 10,000.
        described = {
            "model": model.fingerprint,
            "seed": seed,
            "labels": label_rule,
            **self.protocol,
        }
        if self.texts is not None:
            described["prompts"] = self.items
        if self.settings.guide is not None:  # its weights count, not its name
            described["guide"] = fingerprint_of(self.settings.guide.name)
        text = json.dumps(described, sort_keys=True, default=str)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        height, width = self.resolved.size
        return width, height

    @property
    def protocol(self) -> dict[str, Any]:
        """What decides how a picture is drawn, besides model, label and seed."""
        described = self.resolved.settings.to_json()
        return {"guidance_interval": None, "scheduler_options": None, **described}

    def read(self, index: int) -> Tensor:
        """uint8 [C, H, W] of one picture."""
        (_, images), *_ = self.batches([index], 1)
        return images[0]

    def batches(
        self, indices: Sequence[int], batch_size: int, workers: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Indices [B] and uint8 [B, C, H, W], drawn `self.batch_size` at a time."""

        def draw(items: list[Item], seeds: list[int]) -> list[Image.Image]:
            return self.pipeline.draw(items, seeds, self.settings, self.on_step)

        for first in range(0, len(indices), self.batch_size):
            batch = list(indices[first : first + self.batch_size])
            new = [
                Picture(index, self.items[self.label_of(index)], self.seed + index)
                for index in batch
                if index not in self._kept
            ]
            alone = smaller(self.pipeline)
            drawn = generate(draw, new, self.batch_size, alone) if new else ()
            found = {picture.index: to_tensor(image) for picture, image in drawn}
            known = self._kept | found
            yield torch.tensor(batch), torch.stack([known[index] for index in batch])
            self._keep(found)

    def _keep(self, found: dict[int, Tensor]) -> None:
        """Keeps pictures for the next reader, such as another feature space or the page."""
        for index, pixels in found.items():
            if (len(self._kept) + 1) * pixels.numel() <= MOST_KEPT:
                self._kept[index] = pixels


def check_reads_texts(name: str, condition: Condition) -> None:
    """
    Raises:
        UsageError: prompts for a model of classes.
    """
    if condition.reads != "texts":
        known = ", ".join(condition.name(item) for _, item in condition.choices()[:5])
        raise UsageError(
            f"{name} takes no prompts{f'; it knows classes such as {known}' if known else ''}. "
            "Leave out --prompts."
        )


def label_of(rule: LabelRule, seed: int, num_items: int, index: int) -> int:
    """Which of `num_items` items picture `index` shows."""
    if rule == "balanced":
        return index % num_items
    # of the index alone, not of a generator: any part of the pictures has the same labels
    return derived_seed("label", seed, index) % num_items
