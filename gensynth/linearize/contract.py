"""What linearizing speaks of: attentions, weights for them, and what was done to a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from gensynth.linearize.changes import Change, Hook

RECORD = "linearized"  # the attribute of a model that says what was done to it
State = dict[str, Tensor]  # by the names inside one attention


class Size(NamedTuple):
    """Of an attention: width of its tokens, and heads where they are known."""

    width: int
    heads: int | None


class Replaced(NamedTuple):
    """An attention of a model by its whole name."""

    name: str
    width: int
    heads: int


class Weights(NamedTuple):
    """Weights of a linearized model as a file or folder holds them.

    Attributes:
        source: where they are, for messages.
        states: by the whole name of the attention.
        sizes: of the same attentions, as far as the file tells.
        options: those that the weights were trained with.
    """

    source: str
    states: Mapping[str, State]
    sizes: Mapping[str, Size]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Linearized:
    """What `linearize` did to a model, and what undoes it.

    Attributes:
        family: as in the table, "FLUX" say.
        options: of the method, all of them.
        replaced: the attentions that compute otherwise now, in the order of the model.
        runs: which operator they run at the model's own size, and why.
    """

    method: str
    family: str
    options: Any
    replaced: tuple[Replaced, ...]
    runs: str
    changes: list[Change | Hook] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.method}: {len(self.replaced)} self-attentions of {self.family}; {self.runs}"


class Method(Protocol):
    """What a module is that makes attention linear, `linfusion` say."""

    @property
    def NAME(self) -> str: ...

    @property
    def OPERATOR(self) -> str:
        """Of `gensynth.ops`, what its attentions run."""

    @property
    def ADDED(self) -> tuple[str, ...]:
        """The parts with weights that an attention gets."""

    @property
    def MEANINGS(self) -> Mapping[str, str]:
        """What the options mean that have to be given."""

    @property
    def Options(self) -> Any:
        """The dataclass of them, which checks their values."""

    def additions(
        self, size: Replaced, options: Any, state: State | None, number: int, ours: bool
    ) -> dict[str, Any]:
        """What an attention gets, by name."""

    def around(self, model: Any, options: Any, ours: bool) -> list[Change]:
        """What changes beside the attentions."""

    def side(self, options: Any) -> int:
        """What height and width in tokens must be a multiple of."""

    def read(self, weights: str | Path, options: Mapping[str, Any]) -> Weights:
        """Weights in the layout that the method is published in."""

    def write(self, folder: Path, done: Linearized, states: Sequence[State]) -> None:
        """The same layout."""


def record_of(model: nn.Module) -> Linearized | None:
    """What was done to a model; None if nothing was."""
    return vars(model).get(RECORD)
