"""Prompts of a pretrained pipeline: read by its own tokenizers and text encoders."""

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from gensynth.conditions import Item, Texts
from gensynth.conditions.cutting import unread
from gensynth.conditions.text_encoder import Encoded
from gensynth.conditions.texts import shortened
from gensynth.errors import UsageError
from gensynth.lora.mark import mark_of
from gensynth.pipelines.pretrained.families import EXAMPLES, Family, takes_guidance

PARTS = ("", "_2", "_3")  # ends of the names of tokenizers and text encoders
SHORT = 256  # tokens of a T5 that FLUX.1-schnell was made for, unlike dev (Black Forest Labs' flux)


@dataclass(frozen=True)
class Reader:
    """One text encoder.

    Attributes:
        name: its kind, "CLIP" or "T5".
        tokenizer: transformers'.
        length: tokens that it reads of a prompt, with marks.
        before: what is read before each prompt, and is not counted.
        lowered: whether prompts are read in lower case.
    """

    name: str
    tokenizer: Any
    length: int
    before: str = ""
    lowered: bool = False

    def tokens(self, text: str) -> int:
        text = text.lower() if self.lowered else text
        told = self.tokenizer(self.before + text, verbose=False)["input_ids"]
        # as Sana counts: the instruction without the marks around it
        return len(told) - (len(self.tokenizer.encode(self.before)) - 2 if self.before else 0)

    def lost(self, prompt: str) -> str:
        """The end of a prompt that is not read; "" if all of it is."""
        return unread(prompt, self.tokens, self.length)


class PipelinePrompts(Texts):
    """Prompts for the text encoders of a pipeline of diffusers.

    Args:
        inner: the pipeline.
        family: what is known of it.

    Attributes:
        encoded: what was encoded before, see `gensynth.data.encoded.prompts`.
    """

    def __init__(self, inner: Any, family: Family):
        super().__init__(0, examples=EXAMPLES)
        self.inner, self.family = inner, family
        self.encoded: Encoded | None = None
        self.tensors = tuple(
            name for name in family.encoded if name and not name.startswith("negative")
        )

    @property
    def readers(self) -> list[Reader]:
        """Its text encoders with what they read."""
        call, found = self._defaults(), []
        before = "\n".join(call.get("complex_human_instruction") or ())
        for end in PARTS:
            tokenizer = getattr(self.inner, f"tokenizer{end}", None)
            encoder = getattr(self.inner, f"text_encoder{end}", None)
            if tokenizer is None or encoder is None:
                continue
            kind = encoder.config.model_type
            length = call.get("max_sequence_length")
            if kind.startswith("clip"):
                length = tokenizer.model_max_length
            assert length is not None
            name = {"clip_text_model": "CLIP", "t5": "T5"}.get(kind, kind)
            lowered = self.family.lowered
            found.append(Reader(name, tokenizer, length, before, lowered))
        return found

    @property
    def tokenizer(self) -> Any:
        return self.readers[-1].tokenizer

    @property
    def length(self) -> int:
        return max(reader.length for reader in self.readers)

    def words(self, prompt: str) -> str:
        return prompt

    def notes(self, items: Sequence[Item]) -> list[str]:
        """Sentences for each prompt that is cut, with the words that are lost and to which encoder.

        Of two encoders that read equally far one is named.
        """
        readers = list({(one.name, one.length): one for one in self.readers}.values())
        found = []
        for prompt in dict.fromkeys(items):
            lost = {reader: reader.lost(prompt) for reader in readers}
            for reader in filter(lost.get, readers):
                further = [one for one in readers if len(lost[one]) < len(lost[reader])]
                whom = f" for {reader.name}" if len(readers) > 1 else ""
                also = f" ({further[-1].name} reads further)" if further else ""
                found.append(
                    f"the prompt is cut after {reader.length} tokens{whom}{also}; not read: "
                    f"{shortened(lost[reader])!r}."
                )
        return found

    def encode(
        self, items: Sequence[Item] | Tensor, device: torch.device | None = None
    ) -> dict[str, Tensor]:
        """What the network is told of prompts, by the names of the pipeline's keywords, [B, ...].

        Each text is encoded by itself, so that the numbers do not depend on the others.
        """
        if isinstance(items, Tensor):
            raise UsageError("this pipeline is told prompts, not labels.")
        each = {text: self._of(text) for text in dict.fromkeys(items)}
        place = device or self._device
        return {
            name: torch.cat([each[text][name].to(place) for text in items]) for name in self.tensors
        }

    def _of(self, text: str) -> dict[str, Tensor]:
        """The tensors [1, ...] of one text."""
        found = self.encoded.get(text) if self.encoded is not None else None
        return self._told(prompt=[text], guided=False) if found is None else found

    def fingerprint(self) -> str:
        """Of the text encoders and how far they read."""
        digest = hashlib.sha256(f"{type(self.inner).__name__} {self.length}".encode())
        for end in PARTS:
            encoder = getattr(self.inner, f"text_encoder{end}", None)
            if encoder is not None:
                digest.update(f"{end} {mark_of(encoder)}".encode())
        return digest.hexdigest()[:16]

    def against(self, negative: str | None, positive: dict[str, Tensor]) -> dict[str, Tensor]:
        """What guidance leads away from, as often as there are prompts in `positive`, [B, ...].

        Without a negative prompt that is what the pipeline takes for none.
        """
        first = {name: tensor[:1] for name, tensor in positive.items()}
        text = self._defaults()["negative_prompt"] if negative is None else negative
        told = self._told(prompt=None, guided=True, negative_prompt=text, **first)
        rows = len(next(iter(positive.values())))
        return {
            name: tensor.expand(rows, *tensor.shape[1:])
            for name, tensor in told.items()
            if name.startswith("negative")
        }

    def none(self, device: torch.device) -> dict[str, Tensor]:
        """What guided drawing leads away from, without a negative prompt; else the empty prompt."""
        empty = self.encode([""])
        if self.family.negatives:
            led = self.against(None, empty)
            empty = {name: led[f"negative_{name}"] for name in empty}
        return {name: tensor.to(device) for name, tensor in empty.items()}

    def describe(self) -> dict[str, Any]:
        return {"pipeline": type(self.inner).__name__, "length of prompts": self.length}

    def save(self, folder: Any) -> None:
        raise UsageError("save a pretrained pipeline with pipe.inner.save_pretrained(folder).")

    def load(self, folder: Any) -> Self:
        return self

    @property
    def _device(self) -> torch.device:
        return torch.device(self.inner._execution_device)

    def _defaults(self) -> dict[str, Any]:
        """The defaults of the pipeline's call, but for what the family has otherwise."""
        taken = inspect.signature(type(self.inner).__call__).parameters
        own = {name: about.default for name, about in taken.items()}
        if not takes_guidance(self.family, getattr(self.inner, self.family.network).config):
            own["max_sequence_length"] = SHORT
        return own | dict(self.family.extra or {})

    @torch.no_grad()
    def _told(self, prompt: list[str] | None, guided: bool, **given: Any) -> dict[str, Tensor]:
        """What `encode_prompt` gives, by name."""
        call = self._defaults()
        takes = inspect.signature(type(self.inner).encode_prompt).parameters
        values = {"device": self._device, "num_images_per_prompt": 1, **given}
        values |= {"do_classifier_free_guidance": guided, "prompt_2": None, "prompt_3": None}
        # As the call passes them on: how long prompts are, and what stands before them.
        same = ("max_sequence_length", "clean_caption", "complex_human_instruction", "clip_skip")
        values |= {name: call[name] for name in same if name in call}
        known = {name: value for name, value in values.items() if name in takes}
        told = self.inner.encode_prompt(prompt=prompt, **known)
        names = zip(self.family.encoded, told, strict=True)
        return {name: tensor for name, tensor in names if name and tensor is not None}
