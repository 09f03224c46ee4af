"""What a model of latents or tokens is to the rest of the house."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from gensynth.conditions import Conditions
from gensynth.models.layers.conditioning import labels_or_null
from gensynth.models.layers.text import MISSING, TextInput, Words
from gensynth.seeding import StepRandom


class Backbone(Protocol):
    """A network that predicts. Model classes name it as their last base, for mypy and the defaults.

    Checkpointing, compiling and sharding are applied from outside (`experiments/apply.py`), block
    by block; a model only names its blocks, in `_repeated_blocks` as diffusers does.

    Attributes:
        works_on: "latents" [B, C, H, W], or "tokens" int64 [B, h, w].
        draws: whether it makes pictures; tokenizers do not.
        takes: the tensors of a condition that `forward` has keywords for, without those of a text.
        steers: those of them that `embed` takes.
        tables: how the names of the weights begin that have a row for each item of the condition.
        size_multiple: what height and width of a sample must be multiples of.
        mask_token: of a model of tokens, the number that means "masked".
    """

    works_on: ClassVar[str] = "latents"
    draws: ClassVar[bool] = True
    takes: ClassVar[tuple[str, ...]] = ("class_labels",)
    steers: ClassVar[tuple[str, ...]] = ("class_labels", "pooled_projections")
    tables: ClassVar[tuple[str, ...]] = ("class_embedder.", "class_embedders.")
    size_multiple: int
    mask_token: Any
    config: Any
    dtype: torch.dtype
    device: torch.device

    def __call__(self, *args: Any, **keywords: Any) -> Tensor: ...

    def predict(
        self,
        sample: Tensor,
        time: Tensor,
        conditions: Conditions,
        embedded: list[Tensor] | None = None,
    ) -> Tensor:
        """The output for a sample at a time [B], with the conditions as keywords.

        `embedded` is what `embed` gives for them, if it is known already.
        """
        further = {} if embedded is None else {"embedded": embedded}
        return self(sample, time, **conditions, **further)

    def encoded(self, conditions: Conditions) -> dict[str, Tensor]:
        """The conditions with texts encoded, once for all calls with them."""
        reader = self.text_reader
        return dict(conditions) if reader is None else reader.encoded(conditions)

    @property
    def text_reader(self) -> TextInput | None:
        """What a model of texts reads them with, its module `text_input`; None for another."""
        return getattr(self, "text_input", None)  # a default here would hide the module

    def read(self, text: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], Words | None]:
        """What `forward` is told of a text: encoded, and as the blocks look at it.

        Raises:
            ValueError: a text for a model of classes, or none for a model of texts.
        """
        reader = self.text_reader
        if reader is None:
            if text:
                raise ValueError(f"this model takes no {', '.join(text)}: it is not one of texts")
            return text, None
        text = reader.encoded(text)
        return text, reader.words(text, self.dtype)

    def told(
        self,
        tables: Iterable[nn.Module | None],
        timestep: Tensor,
        class_labels: Tensor | None,
        pooled: Tensor | None,
    ) -> list[Tensor]:
        """What the blocks are told beside the time, for every width: a vector of a class or text.

        Args:
            tables: of the classes, one for each width; not looked at in a model of texts.
            class_labels: [B]; None: the null label.
            pooled: [B, P] summaries of texts.

        Raises:
            ValueError: a class for a model of texts, or no text.
        """
        reader = self.text_reader
        if reader is None:
            labels = labels_or_null(class_labels, timestep, self.config.num_classes)
            return [embed_class(labels) for embed_class in tables if embed_class is not None]
        if class_labels is not None:
            raise ValueError(f"this model takes no class_labels: it is one of texts. {MISSING}")
        return reader.steering(pooled, timestep)

    def embed(self, timestep: Tensor, *conditions: Any, **keywords: Any) -> list[Tensor]:
        """What steers the blocks: a vector [B, C] for each width C."""
        ...

    def training_passes(
        self, random: StepRandom, height: int, width: int, crops: Tensor | None = None
    ) -> list[dict[str, Any]]:
        """Further keywords of each forward pass of one training step: one pass without any."""
        return [{}]

    @property
    def varying_tokens(self) -> bool:
        """Whether passes see another number of tokens in every step, as masked ones do."""
        return False

    @property
    def returns_variance(self) -> bool:
        """Whether the output has variance channels after those of the prediction."""
        return bool(self.config.get("learn_sigma", True)) and not self.config.get("discard_sigma")
