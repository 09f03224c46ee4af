"""Prompts: a picture shows what a text says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gensynth.conditions.contract import Condition, Item
from gensynth.conditions.cutting import unread
from gensynth.conditions.emoji import in_words
from gensynth.conditions.saved_texts import RECORD, SavedTexts
from gensynth.conditions.text_encoder import TOKENIZER, FrozenTextEncoder
from gensynth.conditions.tokens import (
    learn_tokenizer,
    own_tokenizer,
    read_tokenizer,
)
from gensynth.errors import CorruptError, UsageError
from gensynth.files import json_in
from gensynth.values import plain_text

if TYPE_CHECKING:  # a wrong prompt is refused before torch is imported
    import torch
    from torch import Tensor

    from gensynth.config import Shown

SMALL = "small"  # the encoder that is trained with the model
LENGTH = 32  # tokens of a prompt for an encoder of the model's own, unless told
LONGEST = 10_000  # characters of a prompt
MOST_WRITTEN = 4096  # characters of all prompts that the description of a job holds in full
EXAMPLES = 64  # captions that are kept to show what can be asked for
IDS = ("input_ids", "attention_mask")
STATES = ("encoder_hidden_states", "encoder_attention_mask", "pooled_projections")


class Texts(Condition):
    """Prompts, for a text encoder that the model has, or for a frozen one beside it.

    An item is the prompt as it was written, without blanks around it; "" means nothing.

    Args:
        length: tokens of a prompt; longer ones are cut.
        tokens: makes the tokenizer of the model's own encoder; None with a frozen one.
        frozen: the encoder that is not trained, if there is one.
        examples: prompts such as the model has seen.
        sizes: of the model's own encoder, for a model that is to be made.
    """

    reads = "texts"

    def __init__(
        self,
        length: int,
        tokens: Callable[[], Any] | None = None,
        frozen: FrozenTextEncoder | None = None,
        examples: Sequence[str] = (),
        sizes: Mapping[str, Any] | None = None,
    ):
        self._length, self._tokens, self.frozen = length, tokens, frozen
        self.examples, self.sizes = list(examples), dict(sizes or {})
        self.tensors = IDS if frozen is None else STATES
        self._tokenizer: Any = None
        self._none: dict[str, Tensor] | None = None

    @classmethod
    def of_experiment(
        cls,
        shown: Shown,
        names: list[str],
        captions: Sequence[str] = (),
        begun: Path | None = None,
    ) -> Self:
        """Prompts as the captions are; a run that goes on keeps the words it began with.

        Raises:
            RefusedError: the frozen encoder is not the one that the run began with.
        """
        examples = sampled(captions, EXAMPLES)
        if not examples and begun is not None:  # those of a stream are not read again
            examples = list((json_in(begun / RECORD) or {}).get("examples", []))

        def tokens() -> Any:
            if begun is not None:
                return read_tokenizer(begun / TOKENIZER)
            return own_tokenizer(learn_tokenizer(captions, shown.vocabulary))

        told: dict[str, Any] = shown.model_dump(include={"cross", "pooled"})
        if shown.encoder != SMALL:
            frozen = FrozenTextEncoder(shown.encoder, shown.length)
            if begun is not None:
                SavedTexts.read(begun).check_stayed(frozen, begun)
            return cls(0, None, frozen, examples, told)
        told |= shown.model_dump(include={"width", "layers", "heads", "vocabulary"})
        return cls(shown.length or LENGTH, tokens, None, examples, told)

    @classmethod
    def of_data(cls, names: list[str]) -> Self:
        raise UsageError("prompts are learnt from captions, not from the names of classes.")

    @classmethod
    def of_model(cls, model: Any) -> Self:
        """Prompts without words, until `load` brings the tokenizer."""
        return cls(model.config.text["length"])

    @property
    def tokenizer(self) -> Any:
        """transformers' tokenizer."""
        if self.frozen is not None:
            return self.frozen.tokenizer
        if self._tokenizer is None:
            if self._tokens is None:
                raise UsageError("this model has no tokenizer; load it with gensynth.load.")
            self._tokenizer = self._tokens()
        return self._tokenizer

    @property
    def length(self) -> int:
        """Tokens of a prompt, with those that mark its beginning and end."""
        return self._length if self.frozen is None else self.frozen.length

    def model_keywords(self) -> dict[str, Any]:
        """`text` of a model that is to be made; see `models.layers.text`."""
        encoder = None
        width = self.sizes["width"] if self.frozen is None else self.frozen.width
        if self.frozen is None:
            encoder = {"vocab_size": self.sizes["vocabulary"]}
            encoder |= {key: self.sizes[key] for key in ("layers", "heads")}
        return {
            "text": {
                "width": width,
                "pooled_width": width if self.sizes["pooled"] else 0,
                "length": self.length,
                "cross": self.sizes["cross"],
                "encoder": encoder,
            }
        }

    def item(self, wish: Any) -> str:
        """A prompt, see `plain_text`; None is the empty one.

        Raises:
            UsageError: it is no text, or far too long.
        """
        if wish is None:
            return ""
        if not isinstance(wish, str):
            raise UsageError(f"a prompt is a text, got {wish!r}; this model knows no classes.")
        if len(wish) > LONGEST:
            raise UsageError(
                f"a prompt may have {LONGEST:,} characters, this one has {len(wish):,}; the model "
                f"reads about {3 * self.length} of them."
            )
        if "\0" in wish:
            raise UsageError("a prompt cannot hold the character NUL.")
        if any("\ud800" <= character <= "\udfff" for character in wish):
            raise UsageError("the prompt holds bytes that are no UTF-8; type it anew.")
        return plain_text(wish)

    def parse(self, text: str) -> list[Item]:
        """
        Raises:
            UsageError: always; a line of classes is no prompt.
        """
        example = shortened(self.examples[0] if self.examples else "red apple")
        raise UsageError(
            f"this model is told prompts and knows no classes: instead of the class "
            f"{shortened(text)!r} give a prompt, such as --prompt {example!r}."
        )

    def name(self, item: Item) -> str:
        return item or "anything"

    def choices(self) -> list[tuple[str, Item]]:
        return []

    def every(self) -> list[Item]:
        """Some prompts such as the model has seen."""
        return self.examples or [""]

    def notes(self, items: Sequence[Item]) -> list[str]:
        """A sentence for each prompt that is cut, with the words that are lost."""
        prompts = list(dict.fromkeys(items))
        read = list(map(self.words, prompts))
        told = self.tokenizer(read, verbose=False)["input_ids"] if prompts else []
        return [
            f"the prompt is cut after {self.length} tokens; not read: "
            f"{shortened(self.lost(prompt))!r}."
            for prompt, tokens in zip(prompts, told, strict=True)
            if len(tokens) > self.length
        ]

    def words(self, prompt: str) -> str:
        """A prompt as the encoder reads it: one of the model's own reads emoji by their names.

        It has seen captions, which say "red apple" and not its picture. An emoji that the captions
        were written with is a word itself, of a token or two, and stays.
        """
        if self.frozen is not None:
            return prompt
        return in_words(prompt, lambda emoji: self._tokens_of(emoji) <= 2 + 1 + len(emoji))

    def _tokens_of(self, text: str) -> int:
        return len(self.tokenizer(text, verbose=False)["input_ids"])

    def lost(self, prompt: str) -> str:
        """The end of a prompt that is not read; "" if all of it is."""
        return unread(self.words(prompt), self._tokens_of, self.length)

    def encode(self, items: Sequence[Item] | Tensor, device: torch.device) -> dict[str, Tensor]:
        """Of prompts or captions, `input_ids` int64 [B, L] and `attention_mask` bool [B, L].

        With a frozen encoder instead what `FrozenTextEncoder.encode` gives.
        """
        import torch

        if isinstance(items, torch.Tensor):
            raise UsageError("the data have labels and no captions; set condition.kind=classes.")
        if self.frozen is not None:
            return self.frozen.encode(items, device)
        told = self.tokenizer(
            list(map(self.words, items)),
            padding="max_length",
            truncation=True,
            max_length=self.length,
            return_tensors="pt",
        )
        return {
            "input_ids": told["input_ids"].to(device, non_blocking=True),
            "attention_mask": told["attention_mask"].bool().to(device, non_blocking=True),
        }

    def none(self, device: torch.device) -> dict[str, Tensor]:
        """The empty prompt."""
        if self._none is None:
            self._none = self.encode([""], device)
        return {name: tensor.to(device) for name, tensor in self._none.items()}

    def recipe(self, item: Item) -> dict[str, Any]:
        return {"prompt": item}

    def from_recipe(self, recipe: Mapping[str, Any]) -> str:
        if "prompt" not in recipe:
            raise UsageError("the recipe holds no prompt; it is of a model of classes.")
        return self.item(recipe["prompt"])

    def job(self, items: Sequence[Item]) -> dict[str, Any]:
        """The prompts, or of many their number, the first and a hash."""
        if sum(map(len, items)) <= MOST_WRITTEN:
            return {"prompts": list(items)}
        digest = hashlib.sha256(json.dumps(list(items)).encode()).hexdigest()[:16]
        first = shortened(items[0])
        return {"prompts": {"number": len(items), "first": first, "sha256": digest}}

    def describe(self) -> dict[str, Any]:
        words = repr(sorted(self.tokenizer.get_vocab().items()))
        encoder = "its own" if self.frozen is None else self.frozen.fingerprint()
        digest = hashlib.sha256(words.encode()).hexdigest()[:16]
        return {"text encoder": encoder, "vocabulary": digest, "length of prompts": self.length}

    def save(self, folder: Path) -> None:
        if self.frozen is None:
            SavedTexts(self.length, self.examples).write(folder)
            self.tokenizer.save_pretrained(str(folder / TOKENIZER))
            return
        place, known = self.frozen.place, self.frozen.fingerprint()
        SavedTexts(self.length, self.examples, place, known).write(folder)

    def load(self, folder: Path) -> Self:
        saved = SavedTexts.read(folder)
        if saved.encoder is not None:
            return type(self)(saved.length, None, saved.frozen(folder), saved.examples)
        if saved.length != self._length:
            raise CorruptError(
                f"{folder / RECORD} speaks of prompts of {saved.length} tokens, its model takes "
                f"{self._length}; they do not belong together."
            )
        words = read_tokenizer(folder / TOKENIZER)
        return type(self)(saved.length, lambda: words, None, saved.examples)


def sampled(captions: Sequence[str], count: int) -> list[str]:
    """Some of the captions, evenly spread, in their order."""
    some = list(dict.fromkeys(captions))
    return some[:: max(1, len(some) // count)][:count]


def shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "..."
