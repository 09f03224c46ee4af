"""`condition.json` of a model of prompts, and where its frozen text encoder is found again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gensynth.conditions.text_encoder import ENCODER, TOKENIZER, FrozenTextEncoder
from gensynth.errors import CorruptError, InputError, RefusedError
from gensynth.system import hub

RECORD = "condition.json"


@dataclass(frozen=True)
class SavedTexts:
    """What the file says.

    Attributes:
        length: tokens of a prompt.
        examples: prompts such as the model has seen.
        encoder: folder or hub id of a frozen encoder; None: the model has its own.
        fingerprint: of the frozen encoder.
    """

    length: int
    examples: list[str]
    encoder: str | None = None
    fingerprint: str | None = None

    def write(self, folder: Path) -> None:
        content = {"kind": "text", "length": self.length, "encoder": self.encoder}
        if self.encoder is not None:
            content["fingerprint"] = self.fingerprint
        text = json.dumps(content | {"examples": self.examples}, ensure_ascii=False, indent=1)
        (folder / RECORD).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """
        Raises:
            CorruptError: it is missing or damaged.
        """
        try:
            content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            length, place = content["length"], content["encoder"]
            examples, known = content["examples"], content.get("fingerprint")
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise CorruptError(f"{folder / RECORD} is missing or damaged: {error}.") from error
        texts = isinstance(examples, list) and all(isinstance(text, str) for text in examples)
        strings = isinstance(place, str | None) and isinstance(known, str | None)
        if not isinstance(length, int) or not texts or not strings:
            raise CorruptError(f"{folder / RECORD} is damaged; save the model again.")
        return cls(length, examples, place, known)

    def frozen(self, folder: Path) -> FrozenTextEncoder:
        """The frozen encoder of the model in a folder, which has to be the one it learnt with.

        It is looked for in the model's folder (`text_encoder`, with its tokenizer there or in
        `tokenizer`, as diffusers has it), so that a model may be passed on with it; then where it
        was; then there as seen from the model's folder.

        Raises:
            InputError: it is not found or cannot be read.
            CorruptError: it is another one.
        """
        put = (
            f"Put the text encoder with its tokenizer into {folder / ENCODER}, or write its folder "
            f"or hub id as encoder into {folder / RECORD}."
        )
        assert self.encoder is not None
        beside = folder if (folder / TOKENIZER).is_dir() else folder / ENCODER
        if (folder / ENCODER).is_dir():
            place = str(beside)
        elif not Path(self.encoder).exists() and (folder / self.encoder).is_dir():
            place = str(folder / self.encoder)
        elif Path(self.encoder).exists() or hub.is_id(self.encoder):
            place = self.encoder
        else:
            raise InputError(f"there is no text encoder of {folder} at {self.encoder!r}. {put}")
        frozen = FrozenTextEncoder(place, self.length)
        try:
            known = frozen.fingerprint()
        except InputError as error:
            raise InputError(f"{error} {put}") from error
        if self.fingerprint != known:
            raise CorruptError(
                f"the text encoder {place!r} is not, or no longer, the one that the model was "
                f"trained with. {put}"
            )
        return frozen

    def check_stayed(self, frozen: FrozenTextEncoder, folder: Path) -> None:
        """Refuses a frozen encoder that has changed since a run saved the model in a folder.

        Raises:
            RefusedError: with what to do.
        """
        if self.fingerprint != frozen.fingerprint():
            raise RefusedError(
                f"the text encoder {frozen.place!r} has changed since {folder} was trained with "
                "it. Put the earlier one back (condition.encoder), or begin anew with another "
                "output=DIR."
            )
