"""Settings from a picture's recipe. The file may come from anyone: nothing in it is trusted."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from gensynth.data.images import UNREADABLE
from gensynth.errors import InputError, UsageError
from gensynth.pipelines.contract import Pipeline
from gensynth.sampling.outputs import RECIPE_KEY
from gensynth.settings import as_options
from gensynth_serve.queue.order import Order

MAX_FILE_BYTES = 20_000_000  # as `max_file_size` in web/app.py
MAX_RECIPE_CHARS = 65_536
NO_RECIPE = "this file holds no gensynth settings. Use a PNG that gensynth made."


def restored(path: Path, pipelines: Mapping[str, Pipeline], model: str) -> tuple[Order, str]:
    """The order that draws a PNG again, and a line that says what was found.

    Args:
        path: the uploaded file; its pixels are never decoded.
        pipelines: the models that are served.
        model: used when the picture's own model is not served.

    Raises:
        InputError: the file holds no recipe, or one that is not valid.
    """
    recipe = _recipe(path)
    notes = []
    if "edit" in recipe:
        if recipe.get("label") is None:
            raise InputError(
                "this picture was edited from another one without a class, so its settings alone "
                "draw nothing. Use gensynth edit and the picture it was made of."
            )
        notes.append("it was edited from another picture, which these settings do not draw again")
    if recipe.get("model") in pipelines:
        model = recipe["model"]
    else:
        notes.append(f"it was made by {str(recipe.get('model'))[:60]!r}, which is not served here")
    pipeline = pipelines[model]
    try:
        order = Order(
            model,
            labels=[pipeline.condition.from_recipe(recipe)],
            num=1,
            seed=recipe.get("seed"),
            steps=recipe.get("steps"),  # anything at all: `Order` checks it
            guidance=recipe.get("guidance"),
        )
    except UsageError as error:
        raise InputError(f"the settings in this file cannot be used: {error}") from error
    notes += _differences(recipe, pipeline)
    shown = pipeline.condition.name(order.labels[0])
    text = f"Restored: {shown}, seed {order.seed}, {order.steps} steps."
    return order, text + (f" Note: {'; '.join(notes)}." if notes else "")


def command(recipe: Mapping[str, Any]) -> str:
    """The command line that draws a picture again from its recipe."""
    shown = f" --labels {shlex.quote(str(recipe['label']))}" if "label" in recipe else ""
    return (
        f"gensynth sample --model {shlex.quote(recipe['model'])}{shown} --num 1 "
        f"--seed {recipe['seed']} {shlex.join(as_options(recipe))} --out DIR"
    )


def _recipe(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"the file is larger than {MAX_FILE_BYTES // 1_000_000} MB.")
    try:
        with Image.open(path, formats=["PNG"]) as image:  # reads the head, not the pixels
            text = image.info.get(RECIPE_KEY)
    except UNREADABLE as error:
        raise InputError("this file is not a readable PNG.") from error
    if not isinstance(text, str) or len(text) > MAX_RECIPE_CHARS:
        raise InputError(NO_RECIPE)
    try:
        recipe = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(NO_RECIPE) from error
    if not isinstance(recipe, dict) or recipe.get("schema") != 1:
        raise InputError(NO_RECIPE)
    return recipe if isinstance(recipe.get("model"), str) else {**recipe, "model": None}


def _differences(recipe: dict[str, Any], pipeline: Pipeline) -> list[str]:
    own = pipeline.resolve().settings.to_json()
    height, width = own["size"]
    notes = []
    if recipe.get("size") not in (None, own["size"]):
        notes.append(f"it has another size; this page draws {width} x {height} pixels")
    if recipe.get("scheduler") not in (None, own["scheduler"]):
        notes.append(f"it was drawn with another scheduler; this page uses {own['scheduler']}")
    if recipe.get("guide") is not None:
        notes.append("it was drawn with a guide model; this page has none")
    if recipe.get("scheduler_options"):
        notes.append("it was drawn with options of the scheduler; this page has the model's own")
    interval = recipe.get("guidance_interval")
    if interval is not None and interval != own.get("guidance_interval"):
        notes.append(
            "it was drawn with guidance on a part of the path; this page has it as trained"
        )
    return notes
