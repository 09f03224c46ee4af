"""`gensynth classes`."""

import sys
from typing import TYPE_CHECKING

import typer

from gensynth.pretrained import DEFAULT

if TYPE_CHECKING:
    from gensynth.conditions import Condition


def register(app: typer.Typer) -> None:
    app.command("classes")(classes)


def classes(
    model: str = typer.Argument(
        DEFAULT, metavar="[MODEL]", help="Name, folder of a model or run, or hub id."
    ),
    words: list[str] = typer.Argument(
        None, metavar="[WORD]...", help="Only classes whose name or WordNet id contains these."
    ),
) -> None:
    """List the classes of a model: number, names, WordNet id.

    gensynth classes dit_xl2 shark
    """
    from gensynth.errors import UsageError, did_you_mean

    condition = condition_of(model)
    text = " ".join(words or [])
    if condition.reads == "texts":
        show_prompts(model, condition.every(), text.casefold().split())
        return
    if not condition.choices():
        raise UsageError(f"{model} has no classes to choose from.")
    found = condition.search(text)
    if not found:
        known = [word for line, _ in condition.choices() for word in line.replace(",", "").split()]
        hint = did_you_mean(text, known, any_case=True)
        raise UsageError(f"no class of {model} contains {text!r}.{hint}")
    print(*(line for line, _ in found), sep="\n")


def show_prompts(model: str, examples: list[str], words: list[str]) -> None:
    """Prints the examples that hold all words, and on stderr what they are.

    Raises:
        UsageError: there are none.
    """
    from gensynth.errors import UsageError

    found = [one for one in examples if all(word in one.casefold() for word in words)]
    if not found:
        raise UsageError(
            f"none of the {len(examples)} examples of {model} contains {' '.join(words)!r}, but it "
            'is told prompts: anything may be written, --prompt "...".'
        )
    print(f"{model} is told prompts (--prompt), such as these:", file=sys.stderr)
    print(*found, sep="\n")


def condition_of(model: str) -> "Condition":
    """What a model can draw, read from its folder without its weights.

    Raises:
        InputError, CorruptError, RefusedError: as `gensynth.load`.
    """
    from types import SimpleNamespace

    from diffusers.configuration_utils import FrozenDict

    from gensynth.conditions import Texts, condition_kind
    from gensynth.errors import CorruptError
    from gensynth.files import json_in
    from gensynth.pipelines.finding import INDEX, parts_folder, pretrained_class
    from gensynth.pipelines.pretrained.families import EXAMPLES, LENGTH
    from gensynth.preflight.drawing import condition_in
    from gensynth.stored import read_json

    folder = parts_folder(model)
    if pretrained_class(json_in(folder / INDEX)) is not None:
        return Texts(LENGTH, examples=EXAMPLES)
    index, config = read_json(folder / INDEX), read_json(folder / "model" / "config.json")
    about = index if isinstance(index, dict) else {}
    kind = condition_kind(str(about.get("condition_kind", "classes")))
    if kind.reads == "texts":  # without its tokenizer, which imports torch
        condition = condition_in(folder, kind)
        if condition is None:
            raise CorruptError(f"{folder} does not say which prompts its model is told.")
        return condition
    count = config.get("num_classes") if isinstance(config, dict) else None
    if not isinstance(index, dict) or not isinstance(count, int):
        raise CorruptError(f"{folder} does not say how many classes its model knows.")
    return kind.of_model(SimpleNamespace(config=FrozenDict(config))).load(folder)
