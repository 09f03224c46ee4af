"""Orders to edit: the picture, the mask, numbers and the place for the results."""

from pathlib import Path

from gensynth.errors import InputError, RefusedError, UsageError
from gensynth.pipelines.finding import INDEX, resolve
from gensynth.preflight.contents import content
from gensynth.preflight.pretrained import refuse_pretrained
from gensynth.system import outline
from gensynth.system.disk import check_writable

CANDIDATES = 4  # structures to choose from, for each variant that is wanted
FILE_KINDS = (".png", ".webp")
OTHER_KINDS = (".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".avif")


def check_place(num: int, seed: int, batch_size: int, out: Path) -> bool:
    """Whether `out` is a file, for an edit that can be drawn into it.

    Raises:
        UsageError: a number out of range, or several variants for one file.
        RefusedError: `out` is there already.
        OutputError: it cannot be written.
    """
    if num < 1:
        raise UsageError(f"--num-variants must be at least 1, got {num}.")
    if not 0 <= seed < 2**63 - CANDIDATES * num:  # those of all candidates fit int64
        raise UsageError(f"--seed must be a whole number from 0, got {seed}.")
    if batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, got {batch_size}.")
    if out.suffix.lower() in OTHER_KINDS:
        raise UsageError(f"--out {out} must end in .png or .webp, or be the name of a folder.")
    named_as_file = out.suffix.lower() in FILE_KINDS
    if named_as_file and num > 1:
        raise UsageError(f"{num} variants need a folder; {out} is the name of one picture.")
    if out.is_dir() and not named_as_file:
        if any(out.iterdir()):
            raise RefusedError(f"{out} is a folder that is not empty; choose another --out.")
    elif out.exists():
        raise RefusedError(f"{out} exists already; choose another --out.")
    check_writable(out.parent if named_as_file else out)
    return named_as_file


def check_file_name(out: Path) -> None:
    """
    Raises:
        UsageError: not the name of one picture.
    """
    if out.suffix.lower() not in FILE_KINDS:
        raise UsageError(f"--out {out} must end in {' or '.join(FILE_KINDS)}.")


def check_picture(path: Path) -> None:
    """
    Raises:
        InputError: there is no file of that name, it may not be read, or it is no picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        Image.open(path).close()
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not an image of a known kind. Give another file.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def check_change(anchor: str, strength: float | None, edge: int | None) -> None:
    """
    Raises:
        UsageError: a value that no edit takes.
    """
    anchors = outline.keys("gensynth.pipelines.editing.canvas", "ANCHORS")
    if anchor not in anchors:
        raise UsageError(f"anchor must be one of {', '.join(anchors)}, got {anchor!r}.")
    if strength is not None and not 0 < strength <= 1:
        raise UsageError(f"strength must be above 0 and at most 1, got {strength}.")
    if edge is not None and edge < 0:
        raise UsageError(f"edge must be a whole number of pixels from 0, got {edge}.")


def check_tokens(model: str) -> None:
    """
    Raises:
        UsageError: a model that works on no tokens, which cannot edit.
    """
    refuse_pretrained(model, "editing needs a model that draws tokens, such as maskgit-fashion")
    prediction = content(resolve(model) / INDEX).get("prediction")
    if isinstance(prediction, str) and prediction != "tokens":
        raise UsageError(
            "editing needs a model that draws tokens, such as maskgit-fashion; this one is a "
            "tokenizer or a diffusion model."
        )
