"""`gensynth models`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gensynth.errors import UsageError
from gensynth.system import outline

if TYPE_CHECKING:
    from gensynth.models.catalogue import Entry

EXAMPLES = 8  # prompts in the JSON list


def register(app: typer.Typer) -> None:
    app.command("models")(models)


def models(
    contains: str = typer.Argument("", metavar="[NAME]", help="Only names that contain this."),
    mixer: str = typer.Option(None, "--mixer", help="Count architectures with this token mixer."),
    json_output: bool = typer.Option(False, "--json", help="Print a JSON list instead."),
) -> None:
    """List models that draw at once, then architectures to train.

    Architectures can also be given published weights (gensynth convert). Of each: parameters,
    FLOPs, papers, published FIDs and weights. In JSON "usable" tells the two apart.
    """
    from gensynth.models.catalogue import entry
    from gensynth.models.known import model_names
    from gensynth.pretrained import PRETRAINED

    usable = [name for name in PRETRAINED if contains.lower() in name.lower() and mixer is None]
    architectures = [name for name in model_names() if contains.lower() in name.lower()]
    if not usable and not architectures:
        known = ", ".join([*PRETRAINED, *model_names()])
        raise UsageError(f"no model's name contains {contains!r}. Known: {known}.")
    mixers = outline.keys("gensynth.models.layers.mixers", "MIXERS")
    if mixer is not None and not plugged_in() and mixer not in mixers:
        raise UsageError(f"unknown mixer {mixer!r}; known: {', '.join(mixers)}.")
    described = [describe(name, PRETRAINED[name]) for name in usable]
    if described and not json_output:  # at once: counting with another mixer imports torch
        print_usable(described)
    found = [entry(name, mixer) for name in architectures]
    if json_output:
        listed = [*described, *({"usable": False, **asdict(one)} for one in found)]
        print(json.dumps(listed, indent=1))
    elif found:
        print_architectures(found)


def plugged_in() -> bool:
    """Whether mixers may have come from elsewhere."""
    return "gensynth.models.layers.mixers" in sys.modules


def describe(name: str, folder: Path) -> dict[str, Any]:
    """What is known of a model that can be used at once, from its folder."""
    from gensynth.conditions import condition_kind
    from gensynth.pipelines.finding import INDEX
    from gensynth.preflight.drawing import condition_in

    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    condition = condition_in(folder, condition_kind(index.get("condition_kind", "classes")))
    assert condition is not None  # what comes along is whole
    prompts = condition.every()[:EXAMPLES] if condition.reads == "texts" else []
    classes = [condition.name(item) for _, item in condition.choices()]
    told = "prompts" if prompts else "classes" if classes else "nothing"
    return {
        "usable": True,
        "name": name,
        "architecture": index["model"][1],
        "size": index["size"],
        "told": told,
        "classes": classes,
        "prompts": prompts,
        "steps": index["steps"],
        "use": f"gensynth sample --model {name}",
    }


def in_words(described: dict[str, Any]) -> str:
    """What a model is told."""
    if described["told"] == "prompts":
        return f"prompts: {described['prompts'][0]!r}, ..."
    if described["told"] == "classes":
        classes = described["classes"]
        return f"{len(classes)} classes: {', '.join(classes[:3])}, ..."
    return "whatever it has seen"


def print_usable(described: Sequence[dict[str, Any]]) -> None:
    """The models that draw at once."""
    columns = ("model", "is told", "pixels", "architecture", "steps")
    rows = [
        (
            one["name"],
            in_words(one),
            f"{one['size']}x{one['size']}",
            one["architecture"],
            str(one["steps"]),
        )
        for one in described
    ]
    show(
        "Models with weights, which draw at once",
        "gensynth sample --model MODEL; or the folder of a run or model of your own, or a hub id",
        columns,
        rows,
    )


def print_architectures(found: "Sequence[Entry]") -> None:
    """The architectures, with what is published about them."""
    numbers = ("parameters", "GFLOPs 256", "512", "tokens")
    columns = ("architecture", *numbers, "mixer", "paper", "FID at 256", "weights")
    rows = [
        (
            one.name,
            f"{one.parameters / 1e6:.1f} M",
            f"{one.gflops_256:.2f}",
            f"{one.gflops_512:.2f}",
            str(one.tokens_256),
            one.mixer,
            one.paper,
            one.published_fid or "–",
            "/".join(one.weights.split("/")[2:5]) or "–",
        )
        for one in found
    ]
    show(
        "Architectures without weights here: train one (model.name), or gensynth convert published "
        "weights",
        "GFLOPs: multiply-adds of a forward pass at 256 and 512 pixels; in 8x latents, MaskGIT in "
        "16x tokens, VQ encoding and decoding. –: not published, or not found where we looked. "
        "--json has the full addresses.",
        columns,
        rows,
        numbers,
    )


def show(
    title: str,
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[str] = (),
) -> None:
    """Prints a table; `right` are the columns of numbers."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for column in columns:
        justify: Any = "right" if column in right else "left"
        table.add_column(column, justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    # A table that does not fit is better long than with its columns cut off.
    console.width = max(console.width, 170)
    console.print(table)
