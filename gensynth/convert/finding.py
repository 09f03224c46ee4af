"""Which of the tensors in a checkpoint are the weights: the averaged ones, if there are any.

Training scripts keep a state under many names and several levels deep, whole or in front of every
tensor's name. So nothing is looked up: all mappings of a file are looked through, and a state is
known by the names of the tensors in it, and an average by the words on the way to it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gensynth.errors import InputError, UsageError, did_you_mean

# Words of the names on the way to averaged weights, and those that say the contrary.
AVERAGED = {"ema", "swa", "averaged", "average", "averages", "shadow", "polyak"}
NOT_AVERAGED = {"no", "non", "not", "without"}
# Beside averaged weights: what torch.optim.swa_utils counts, and what Lightning stores with it.
COUNTED, COUNTED_BESIDE = "n_averaged", "averaging_state"
# Of states that are not averaged, those that are preferred, in this order.
PLAIN = ("model", "state_dict", "model_state_dict", "module")
# Put into names by the wrappers of torch and Lightning: processes, compiling, checkpointing.
WRAPPERS = {
    "module",
    "_orig_mod",
    "_checkpoint_wrapped_module",
    "_fsdp_wrapped_module",
    "_fpw_module",
    "_forward_module",
}
# Tensors that are computed and not trained, which not everybody averages.
COMPUTED = ("pos_embed", "relative_position_index", "codebook_used")
ROOT = "file"  # what `part` calls the weights of a file that holds nothing around them
DEEPEST = 8  # levels of a checkpoint that are looked through


class State(NamedTuple):
    """The weights of a checkpoint.

    Attributes:
        tensors: under their official names.
        part: where they were, "ema" or "state_dict.ema_model"; None: the file itself.
        averaged: whether the file calls them an average.
        borrowed: computed tensors that the average lacks, taken from the weights beside it.
    """

    tensors: dict[str, Tensor]
    part: str | None
    averaged: bool = False
    borrowed: tuple[str, ...] = ()


class Group(NamedTuple):
    """Tensors by name that belong together, at one place of a file."""

    place: tuple[str, ...]
    tensors: dict[str, Tensor]
    averaged: bool
    known: int  # how many of the official beginnings of names there are in it

    @property
    def part(self) -> str | None:
        return ".".join(self.place) or None


def find_weights(content: Any, prefixes: Sequence[str], part: str | None = None) -> State:
    """The weights in what a file held.

    Args:
        content: mappings, lists, tensors, anything.
        prefixes: how official names start; other tensors are not taken for weights, unless there
            is nothing else.
        part: where they are, if the file holds several.

    Raises:
        InputError: there are none, or averages that cannot be told apart.
        UsageError: several averages and no `part`, or a `part` that is not there.
    """
    groups, lists = _look_through(content, tuple(prefixes))
    known = [group for group in groups if group.known]
    if not known:
        # Whoever asked says what is wrong with the names.
        if part is not None or not groups:
            raise InputError(f"holds no weights: {_described(content)}")
        largest = max(groups, key=_size)
        return State(largest.tensors, largest.part, largest.averaged)
    most = max(group.known for group in known)
    whole = [group for group in known if 2 * group.known > most]  # others are parts of a network
    plain = [group for group in whole if not group.averaged]
    plain.sort(key=_preference)
    if plain:
        whole += _named(groups, lists, plain[0])
    if part is not None:
        return _with_computed(_asked(whole, part), plain)
    averages = [group for group in whole if group.averaged]
    if not averages:
        _check_all_read(groups, lists, plain[0])
    candidates = averages or [g for g in plain if _preference(g) == _preference(plain[0])]
    different = [group for group in candidates[1:] if not _equal(group, candidates[0])]
    if different:
        names = ", ".join(group.part or ROOT for group in [candidates[0], *different])
        raise UsageError(f"holds weights under {names}; choose one with --part.")
    return _with_computed(candidates[0], plain)


def bare(name: str) -> str:
    """A tensor's name without what wrappers have put into it."""
    return ".".join(word for word in name.split(".") if word not in WRAPPERS)


def is_averaged(place: Sequence[str]) -> bool:
    """Whether the names on the way to some weights say that they are averaged."""
    found = False
    for name in place:
        # "modelEMA_2" -> model, ema
        words = {w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
        found |= bool(words & AVERAGED) and not words & NOT_AVERAGED
    return found


def _look_through(
    content: Any, prefixes: tuple[str, ...]
) -> tuple[list[Group], list[tuple[str, list[Tensor]]]]:
    """The groups of tensors in a file, and the averages that are lists, by where they are."""
    groups: list[Group] = []
    lists: list[tuple[str, list[Tensor]]] = []
    seen: set[tuple[int, bool]] = set()  # one thing may be there twice, under two names

    def look(value: Any, place: tuple[str, ...], counted: bool) -> None:
        known = (id(value), is_averaged(place))
        if known in seen or len(place) > DEEPEST:
            return
        seen.add(known)
        if isinstance(value, Mapping):
            own = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}
            groups.extend(_split(own, place, prefixes, counted))
            beside = COUNTED_BESIDE in value
            for key, inner in value.items():
                if isinstance(inner, Mapping | list | tuple):
                    look(inner, (*place, str(key)), beside and key == "state_dict")
        elif value and all(isinstance(item, Tensor) for item in value):
            if is_averaged(place):
                lists.append((".".join(place), list(value)))
        else:
            for index, inner in enumerate(value):
                if isinstance(inner, Mapping | list | tuple):
                    look(inner, (*place, str(index)), False)

    if isinstance(content, Mapping):
        look(content, (), False)
    return groups, lists


def _split(
    own: Mapping[str, Tensor], place: tuple[str, ...], prefixes: tuple[str, ...], counted: bool
) -> Iterator[Group]:
    """Tensors of one mapping by what stands in front of their official names."""
    counted = counted or any(bare(name) == COUNTED for name in own)
    # Counters (num_updates, decay) are not weights.
    weights = {
        name: tensor
        for name, tensor in own.items()
        if tensor.ndim and (tensor.numel() != 1 or name.endswith(("weight", "bias")))
    }
    twice = [name for name, times in Counter(map(bare, weights)).items() if times > 1]
    if twice:
        raise InputError(
            f"holds two tensors called {twice[0]} in {'.'.join(place) or 'one state'}."
        )
    named = {bare(name): tensor for name, tensor in weights.items()}
    fronts = {name: _front(name, prefixes) for name in named}
    there = sorted({f for f in fronts.values() if f is not None}, key=len, reverse=True)
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in named.items():
        front = fronts[name]
        if front is None:  # unknown: of the network whose front it has, or of none
            front = next((f for f in there if not f or name.startswith(f"{f}.")), None)
        if front is None:
            front = name.partition(".")[0] if there and "." in name else ""
        groups.setdefault(front, {})[name[len(front) :].lstrip(".")] = tensor
    for front, tensors in groups.items():
        where = (*place, *filter(None, front.split(".")))
        hits = {p for p in prefixes for name in tensors if name.startswith(p)}
        yield Group(where, tensors, counted or is_averaged(where), len(hits))


def _front(name: str, prefixes: tuple[str, ...]) -> str | None:
    """What stands in front of an official name; None where there is no official name."""
    words = name.split(".")
    for count in range(len(words)):
        if ".".join(words[count:]).startswith(prefixes):
            return ".".join(words[:count])
    return None


def _named(
    groups: Sequence[Group], lists: list[tuple[str, list[Tensor]]], plain: Group
) -> list[Group]:
    """Averages that have lost their names, with those of the weights beside them.

    A list (torch_ema, diffusers) has the order of the weights; LDM's has names without their dots.
    """
    found = []
    trained = {k: v for k, v in plain.tensors.items() if not k.endswith(COMPUTED)}
    for place, tensors in list(lists):
        for names in (plain.tensors, trained):
            if [t.shape for t in tensors] == [t.shape for t in names.values()]:
                own = dict(zip(names, tensors, strict=True))
                found.append(Group(tuple(place.split(".")), own, True, plain.known))
                lists.remove((place, tensors))
                break
    without = {
        "".join((*plain.place[skip:], name)).replace(".", ""): name
        for skip in range(len(plain.place) + 1)
        for name in plain.tensors
    }
    for group in groups:
        own = {without[k]: v for k, v in group.tensors.items() if k in without and "." not in k}
        if group.averaged and not group.known and len(own) >= len(trained):
            found.append(Group(group.place, own, True, plain.known))
    return found


def _check_all_read(
    groups: Sequence[Group], lists: Sequence[tuple[str, list[Tensor]]], plain: Group
) -> None:
    """Refuses to take other weights for all there are beside averages that cannot be read."""
    unread = [place for place, _ in lists]
    unread += [g.part or ROOT for g in groups if g.averaged and 2 * _size(g) > _size(plain)]
    if unread:
        raise InputError(
            f"holds averaged weights under {unread[0]}, whose names or shapes are not those of its "
            f"other weights; for the others, which are not averaged: --part {plain.part or ROOT}."
        )


def _size(group: Group) -> int:
    return sum(tensor.numel() for tensor in group.tensors.values())


def _asked(whole: Sequence[Group], part: str) -> Group:
    parts = {group.part or ROOT: group for group in whole}
    if part not in parts:
        raise UsageError(
            f"has no weights under {part!r}.{did_you_mean(part, parts)} There: {', '.join(parts)}."
        )
    return parts[part]


def _with_computed(group: Group, plain: Sequence[Group]) -> State:
    """The weights of a group, with the computed tensors that an average may lack."""
    lacking: dict[str, Tensor] = {}
    if group.averaged and plain:
        beside = plain[0].tensors
        lacking = {
            name: beside[name]
            for name in beside
            if name.endswith(COMPUTED) and name not in group.tensors
        }
    return State({**group.tensors, **lacking}, group.part, group.averaged, tuple(lacking))


def _preference(group: Group) -> int:
    """Where a state's name stands in `PLAIN`, outermost first; the end if nowhere."""
    return next((PLAIN.index(name) for name in group.place if name in PLAIN), len(PLAIN))


def _equal(one: Group, other: Group) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        tensor.dtype == other.tensors[name].dtype and torch.equal(tensor, other.tensors[name])
        for name, tensor in one.tensors.items()
    )


def _described(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"it is a {type(content).__name__}, not tensors by name."
    keys = ", ".join(map(str, list(content)[:6])) or "nothing"
    return f"it is a dictionary of {keys}, without tensors by name in it."
