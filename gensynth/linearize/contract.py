"""What linearizing speaks of: attentions, weights for them, and what was done to a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gensynth.linearize.changes import Change

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
    changes: list[Change] = field(repr=False)
    handles: list[RemovableHandle] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.method}: {len(self.replaced)} self-attentions of {self.family}; {self.runs}"


def record_of(model: nn.Module) -> Linearized | None:
    """What was done to a model; None if nothing was."""
    return vars(model).get(RECORD)
