"""Settings from a picture's recipe. The file may come from anyone: nothing in it is trusted."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from gensynth.data.images import UNREADABLE
from gensynth.errors import InputError, UsageError
from gensynth.pipelines.contract import Pipeline
from gensynth.pipelines.pretrained.options import as_loaded
from gensynth.sampling.outputs import RECIPE_KEY, facts_of
from gensynth.settings import as_options, known_settings
from gensynth_serve.pages.prompts import takes_prompts
from gensynth_serve.queue.engine import allowed, most_steps
from gensynth_serve.queue.order import Order

MAX_FILE_BYTES = 20_000_000  # as `MAX_FILE` in web/limits.py
MAX_RECIPE_CHARS = 65_536
MAX_SHOWN = 200  # characters of a prompt in a line
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
        if recipe.get("label") is None and not recipe.get("prompt"):
            raise InputError(
                "this picture was edited from another one without a class or prompt, so its "
                "settings alone draw nothing. Use gensynth edit and the picture it was made of."
            )
        notes.append("it was edited from another picture, which these settings do not draw again")
    served = [
        name for name, pipeline in pipelines.items() if recipe["model"] in _names(name, pipeline)
    ]
    if served:
        model = served[0]
    else:
        notes.append(f"it was made by {str(recipe['model'])[:60]!r}, which is not served here")
    pipeline = pipelines[model]
    if served:
        notes += _otherwise(recipe, pipeline)
    try:
        item = pipeline.condition.from_recipe(recipe)
        order = Order(
            model,
            labels=[item],
            num=1,
            seed=recipe.get("seed"),
            steps=recipe.get("steps"),  # anything at all: `Order` checks it
            guidance=recipe.get("guidance"),
            most_steps=most_steps(pipeline),
            prompt=item if takes_prompts(pipeline.condition) else None,
        )
    except UsageError as error:
        raise InputError(f"the settings in this file cannot be used: {error}") from error
    try:
        whole = replace(order, further=_further(recipe, pipeline))
        allowed(pipelines, pipeline, whole.settings)
        order = whole
    except UsageError as error:
        notes.append(f"its other settings cannot be used here: {str(error).rstrip('.')}")
    shown = pipeline.condition.name(item)[:MAX_SHOWN]
    text = f"Restored: {shown}, seed {order.seed}, {order.steps} steps."
    return order, text + (f" Note: {'; '.join(notes)}." if notes else "")


def _otherwise(recipe: dict[str, Any], pipeline: Pipeline) -> list[str]:
    """How the model of a recipe was loaded otherwise than it is here, in words."""
    here, there = as_loaded(facts_of(pipeline)), as_loaded(recipe)
    if not there or here == there:  # the recipe says nothing of it, or the same
        return []
    return [f"it was drawn with the model loaded with {_shown(there)}; here it is {_shown(here)}"]


def _shown(words: list[str]) -> str:
    return shlex.join(words)[:MAX_SHOWN] or "no options"


def command(recipe: Mapping[str, Any]) -> str:
    """The command line that draws a picture again from its recipe."""
    # A number by itself may be the name of another class.
    shown = f" --labels index:{shlex.quote(str(recipe['label']))}" if "label" in recipe else ""
    if "prompt" in recipe:
        shown = f" --prompt {shlex.quote(str(recipe['prompt'] or ''))}"
    return (
        f"gensynth sample --model {shlex.quote(recipe['model'])}{shown} --num 1 "
        f"--seed {recipe['seed']} {shlex.join([*as_options(recipe), *as_loaded(recipe)])} --out DIR"
    )


def _names(shown: str, pipeline: Pipeline) -> tuple[str, str]:
    """What recipes call a served model: those of this page, and those of the command line."""
    return shown, pipeline.name


def _recipe(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"the file is larger than {MAX_FILE_BYTES // 1_000_000} MB.")
        with Image.open(path, formats=["PNG"]) as image:  # reads the head, not the pixels
            text = image.info.get(RECIPE_KEY)
    except FileNotFoundError as error:  # it made room for other uploads
        raise InputError("this file is no longer on the server. Upload it once more.") from error
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


def _further(recipe: dict[str, Any], pipeline: Pipeline) -> dict[str, Any]:
    """The settings beside steps and guidance that are not the pipeline's own already."""
    own = pipeline.resolve().settings.to_json()
    names = [name for name in known_settings() if name not in ("steps", "guidance")]
    return {name: recipe[name] for name in names if recipe.get(name) not in (None, own.get(name))}
