"""What a picture's file says beside its pixels, and what is said when it cannot be written."""

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL.PngImagePlugin import PngInfo

from gensynth.errors import OutputError

RECIPE_KEY = "gensynth"


def png_chunks(recipe: dict[str, Any]) -> PngInfo:
    """A recipe as chunks of text of a PNG."""
    chunks = PngInfo()
    chunks.add_itxt(RECIPE_KEY, json.dumps(recipe, ensure_ascii=False))  # iTXt is UTF-8
    chunks.add_text("parameters", parameters(recipe))
    return chunks


def parameters(recipe: dict[str, Any]) -> str:
    """A recipe in the form that other programs read: AUTOMATIC1111's, the prompt first."""
    shown = recipe.get("prompt") or recipe.get("class") or ""
    negative = " ".join(str(recipe.get("negative") or "").split())
    avoided = f"Negative prompt: {negative}\n" if negative else ""
    height, width = recipe["size"]
    return (
        f"{shown}\n{avoided}Steps: {recipe['steps']}, Sampler: {recipe['scheduler']}, "
        f"CFG scale: {recipe['guidance']}, Seed: {recipe['seed']}, Size: {width}x{height}, "
        f"Model: {recipe['model']}"
    )


@contextmanager
def reporting_write_errors(folder: Path) -> Iterator[None]:
    """Turns a failed write below `folder` into an error that says what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = (
            "What is already there is complete; free some space or choose another --out, then run "
            "the same command again."
        )
        raise OutputError(
            f"cannot write to {folder}: {error.strerror or error}. "
            f"{remedy if full else 'Choose another --out.'}"
        ) from error
