"""A run that begins with the weights of a finished model instead of random ones."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gensynth.conditions import Condition
from gensynth.conditions.texts import SMALL, Texts
from gensynth.config import Experiment
from gensynth.errors import UsageError
from gensynth.experiments.assemble import Parts
from gensynth.experiments.beginning.taken import Rows, Taken, differences, table, take_over
from gensynth.files import json_in
from gensynth.lora.mark import mark_of
from gensynth.pipelines.loading import load, resolve
from gensynth.preflight.pretrained import refuse_pretrained

# What a model means by its output: settings of a pipeline that other weights come with.
MEANING = ("prediction", "time_scale", "ddpm_prediction", "path")


@dataclass
class Beginning:
    """What a run took over of a finished model.

    Attributes:
        lines: what was taken over and what was not, for people.
        other: names of the weights that are not those of that model.
        mark: of that model's weights.
        unlike: in what that model is another than adapters can be trained for, in words.
    """

    lines: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    mark: str = ""
    unlike: str | None = None


def check_beginning(where: str | None) -> str | None:
    """`where`, if there is a model, which is not loaded yet; None for random weights.

    Raises:
        InputError, RefusedError: as `resolve`.
    """
    if where is not None:
        refuse_pretrained(
            where, "init_from takes a model of gensynth, so give one or leave init_from out"
        )
    return where


def words_of(where: str | None, experiment: Experiment) -> Path | None:
    """The folder of a model of prompts whose words a run keeps, so that they mean the same.

    None if that model does not read prompts by an encoder of its own that is as large as the run's.
    """
    shown = experiment.condition
    if where is None or shown.kind != "text" or shown.encoder != SMALL:
        return None
    folder = resolve(where)
    config = json_in(folder / "model" / "config.json")
    text = config.get("text") if isinstance(config, dict) else None
    encoder = text.get("encoder") if isinstance(text, dict) else None
    fits = isinstance(encoder, dict) and encoder.get("vocab_size") == shown.vocabulary
    return folder if fits else None


def begin_from(where: str | None, parts: Parts) -> Beginning:
    """Gives the model of a run what fits of the model that `load(where)` finds.

    Tensors are taken by name and shape; tables with a row for each class by the rows of the classes
    that are called alike, and of "no class"; learned positions of another grid are interpolated.
    All else stays as it was drawn; for None, everything.

    Raises:
        UsageError: nothing fits, or that model works on other channels.
        InputError, RefusedError, CorruptError: as `load`.
    """
    if where is None:
        return Beginning()
    model: Any = parts.model
    other = load(where, device="cpu")
    _check_channels(where, model, other)
    tables = () if not model.draws else tuple(model.tables)
    rows = _same_rows(parts.condition, other.condition)
    own: dict[str, Tensor] = model.state_dict()
    taken = take_over(model, other.model, tables, rows)
    if not any(own[name].ndim > 1 for name in taken.whole):  # vectors fit by chance
        raise UsageError(
            f"init_from: nothing of {where} fits the model of this run: "
            f"{differences(other.model, model)}. Make them alike, or leave init_from out."
        )
    there = other.model.state_dict()
    unlike = [name for name in own if name not in there or not _equal(own[name], there[name])]
    lines = [_headline(where, taken, own)]
    lines += table(taken, list(own), _names(parts.condition), rows)
    lines += _notes(other, parts)
    return Beginning(lines, unlike, mark_of(other.model), _not_its_own(other, parts))


def _equal(own: Tensor, there: Tensor) -> bool:
    return own.shape == there.shape and torch.equal(own.cpu(), there)


def _headline(where: str, taken: Taken, own: dict[str, Tensor]) -> str:
    count = len(taken.whole)
    kept = sum(own[name].numel() for name in taken.whole) / sum(t.numel() for t in own.values())
    return f"init_from {where}: {count} of {len(own)} tensors taken over, {kept:.0%} of the numbers"


def _check_channels(where: str, model: Any, other: Any) -> None:
    """
    Raises:
        UsageError: the other model takes latents, or images, of another number of channels.
    """
    for key in ("in_channels", "channels"):
        own, there = (one.config.get(key) for one in (model, other.model))
        if own is None or there is None or own == there:
            continue
        raise UsageError(
            f"init_from: {where} works on {there} channels, and the model of this run on {own} "
            f"(model.{key}), so what goes in and comes out would mean something else. "
            f"{_its_codec(where, other)}, or leave init_from out."
        )


def _its_codec(where: str, other: Any) -> str:
    """How to train with the autoencoder of another model."""
    codec = other.components.get("autoencoder")
    if codec is None:  # a tokenizer's images
        return f"Set data.channels={other.model.config.channels}"
    if codec.kind != "none":
        given = f"autoencoder.path={resolve(where)} autoencoder.patch={codec.patch}"
        if codec.kind == "kl":
            given += f" autoencoder.latent_channels={other.model.config.in_channels}"
        return f"Take its autoencoder: autoencoder.kind={codec.kind} {given}"
    if codec.channels * codec.patch**2 == other.model.config.in_channels:
        given = f"autoencoder.patch={codec.patch} data.channels={codec.channels}"
        return f"Take its own pixels: autoencoder.kind=none {given}"
    return "Train on latents of the autoencoder that it was made with"


def _same_rows(condition: Condition, other: Condition) -> Rows:
    """The rows of both tables that mean the same, by what they mean."""
    found = {name: (row, other.row_of(name)) for name, row in condition.rows().items()}
    return {name: (row, there) for name, (row, there) in found.items() if there is not None}


def _names(condition: Condition) -> list[str]:
    rows = sorted((row, name) for name, row in condition.rows().items() if name is not None)
    return [name for _, name in rows]


def _codec(codec: Any) -> tuple[Any, ...]:
    return type(codec), codec.patch, codec.channels, mark_of(codec)


def _notes(other: Any, parts: Parts) -> list[str]:
    """What makes the weights of another model mean less here than there."""
    unlike = _not_its_own(other, parts)
    return [] if unlike is None else [f"  note: {unlike}; it has much to learn anew"]


def _not_its_own(other: Any, parts: Parts) -> str | None:
    """In what a run lets the weights of a model mean something else; None if in nothing."""
    codec = other.components.get("autoencoder")
    if codec is None:
        return None
    own = parts.pipeline().config
    for key in MEANING:
        if own[key] != other.config[key]:
            return f"{key} is {other.config[key]!r} there and {own[key]!r} here"
    if _codec(codec) != _codec(parts.autoencoder):
        names = [type(one).__name__ for one in (codec, parts.autoencoder)]
        unlike = " and ".join(dict.fromkeys(names))
        return f"its autoencoder is another one than that of this run ({unlike})"
    return _read_otherwise(other.condition, parts.condition)


def _read_otherwise(there: Condition, here: Condition) -> str | None:
    """How prompts become other numbers there than here; None if they do not."""
    if not (isinstance(there, Texts) and isinstance(here, Texts)):
        return None
    was, now = there.describe(), here.describe()
    if was["text encoder"] != now["text encoder"]:
        return "its text encoder is another one than that of this run (condition.encoder)"
    if was["vocabulary"] != now["vocabulary"]:
        return "its words are other tokens than those of this run (condition.vocabulary)"
    return None
