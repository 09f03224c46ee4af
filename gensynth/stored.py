"""Weights in a folder, as diffusers stores them: which files, which shapes, whether they fit.

A folder may hold several variants, "fp16" say, beside the weights without a name of their own, each
in one file or in shards that an index lists.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from gensynth.errors import CorruptError, InputError, RefusedError, first_line
from gensynth.files import DAMAGED, PICKLES

STEM = "diffusion_pytorch_model"
STEMS = (STEM, "model")  # diffusers' and transformers'
_VARIANT = r"(?:\.(?P<variant>.+?))?"
WEIGHTS = {s: re.compile(rf"{s}{_VARIANT}(?:-\d+-of-\d+)?\.safetensors") for s in STEMS}
INDEX = {s: re.compile(rf"{s}\.safetensors\.index{_VARIANT}\.json") for s in STEMS}
SHOWN = 3  # differences named in an error
MOST = 20_000  # parameters of a network of another library; published ones have hundreds
SPARE = 64  # parameters that a constructor may make and throw away
# Buffers that are computed, not stored, may be this many times the weights, and this many besides.
COMPUTED, ALWAYS = 4, 2**22
Shapes = dict[str, tuple[int, ...]]


def read_json(file: Path) -> Any:
    """The content of a JSON file of a model.

    Raises:
        CorruptError: it is missing or not JSON.
    """
    try:
        if file.exists() and not file.is_file():  # a device would be read without end
            raise CorruptError(f"{file} is no file.")
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CorruptError(f"{file.parent}: {file.name} is missing.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptError(f"{file} is not readable: {first_line(error)[:200]}.") from error


def variants(folder: Path) -> list[str | None]:
    """The variants of the weights in a folder, in order; None: the one without a name, first."""
    names = [file.name for file in folder.iterdir() if file.is_file()]
    stem = stem_in(folder)
    found = [m["variant"] for name in names if (m := _named(stem, name))]
    return sorted(set(found), key=lambda variant: variant or "")


def stem_in(folder: Path) -> str:
    """How the weights in a folder begin: diffusers' way, or where there are none transformers'."""
    names = [file.name for file in folder.iterdir()]
    for stem in STEMS:
        if any(_named(stem, name) for name in names):
            return stem
    return STEM


def choose_variant(folders: Sequence[Path], asked: str | None) -> dict[Path, str | None]:
    """Which variant of the weights to take in each of a model's folders.

    The one without a name, or else the only one; or the one that was asked for, where it is there.

    Raises:
        InputError: none of the folders has what was asked for, or one has several variants and none
            was asked for. The message names those there are.
    """
    there = {folder: variants(folder) for folder in folders}
    known = sorted({name for names in there.values() for name in names if name is not None})
    listed = ", ".join(known)
    if asked is not None and asked not in known:
        have = f"there are {listed}" if known else "there are only weights without a variant"
        raise InputError(f"{_above(folders)} has no weights of variant {asked!r}; {have}.")
    chosen: dict[Path, str | None] = {}
    for folder, names in there.items():
        if asked in names:
            chosen[folder] = asked
        elif len(names) > 1 and None not in names:
            raise InputError(
                f"{folder} has weights of several variants; say which: --variant on the command "
                f"line, variant= of gensynth.load. There are {listed}."
            )
        else:
            chosen[folder] = None if None in names else next(iter(names), None)
    return chosen


def weight_files(folder: Path, variant: str | None) -> list[Path]:
    """The files of one variant of the weights in a folder.

    Raises:
        CorruptError: there are none, or an index is damaged.
        RefusedError: an index leads out of the folder, or to files that are not there; or all that
            is there is a pickle.
    """
    dotted, stem = "" if variant is None else f".{variant}", stem_in(folder)
    index = folder / f"{stem}.safetensors.index{dotted}.json"
    whole = folder / f"{stem}{dotted}.safetensors"
    if not index.is_file():
        if not whole.is_file():
            _refuse_pickles(folder)
            raise CorruptError(f"{folder} has no weights: {whole.name} is missing.")
        return [whole]
    content = read_json(index)
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict):
        raise CorruptError(f"{index} has no weight_map.")
    for name in map(str, shards.values()):
        # A bare name only: slashes could lead out of the folder.
        if Path(name).name != name or not (folder / name).is_file():
            instead = f"; if {whole.name} is whole, delete the index" if whole.is_file() else ""
            raise RefusedError(f"{index} names {name!r}, which is not a file beside it{instead}.")
    return [folder / name for name in sorted(set(shards.values()))]


def _refuse_pickles(folder: Path) -> None:
    found = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if found:
        raise RefusedError(
            f"{folder} has its weights as a pickle ({found[0]}), which can run code when loaded; "
            "take the same weights as safetensors."
        )


def shapes_in(files: Sequence[Path]) -> Shapes:
    """The shapes of the tensors in files of safetensors, from their headers alone.

    Raises:
        CorruptError: a file is damaged.
    """
    shapes: Shapes = {}
    for file in files:
        try:
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                    shapes[name] = tuple(tensors.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise CorruptError(f"{file} is damaged: {first_line(error)[:200]}.") from error
    return shapes


def check_fit(
    kind: Any,
    folder: Path,
    variant: str | None,
    names: bool = True,
    make: Callable[[dict[str, Any]], nn.Module] | None = None,
) -> None:
    """Refuses weights that are not those of the config.json beside them, before anything is built.

    The model is made without memory, and no further than the file has tensors: a configuration may
    ask for a model of any size.

    Args:
        kind: the model's class, of diffusers.
        names: whether the tensors must have the model's names; old autoencoders have others.
        make: a model of the content of config.json; None: as diffusers makes one.

    Raises:
        CorruptError: missing, unexpected or otherwise shaped tensors, or a configuration that no
            model can be built from.
    """
    stored = shapes_in(weight_files(folder, variant))
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise CorruptError(f"{folder / 'config.json'} holds no settings.")
    try:
        with at_most(len(stored) + SPARE), torch.device("meta"):
            model = (make or kind.from_config)(config)
    except TooLarge as error:
        raise CorruptError(
            f"{folder / 'config.json'} asks for a model of more than the {len(stored)} tensors "
            "that are beside it; its files do not belong together."
        ) from error
    except DAMAGED as error:
        raise CorruptError(
            f"{folder / 'config.json'} cannot be built from: {first_line(error)[:200]}."
        ) from error
    own: Shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if names:
        _check_equal(own, stored, folder)
    _check_total(model, stored, folder)


def _check_equal(own: Shapes, stored: Shapes, folder: Path) -> None:
    missing = sorted(own.keys() - stored.keys())[:SHOWN]
    extra = sorted(stored.keys() - own.keys())[:SHOWN]
    other = [
        f"{name} is {list(stored[name])}, not {list(own[name])}"
        for name in sorted(own.keys() & stored.keys())
        if own[name] != stored[name]
    ][:SHOWN]
    if missing or extra or other:
        raise CorruptError(
            f"the weights in {folder} are not those of its config.json: missing {missing}, "
            f"unexpected {extra}, of another shape {other}. Fetch or export the model again."
        )


def _check_total(model: nn.Module, stored: Shapes, folder: Path) -> None:
    held = sum(torch.Size(shape).numel() for shape in stored.values())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    buffers = sum(buffer.numel() for buffer in model.buffers())
    if parameters > 2 * held + ALWAYS or buffers > COMPUTED * held + ALWAYS:
        raise CorruptError(
            f"{folder / 'config.json'} asks for {parameters + buffers:,} numbers, and {held:,} are "
            "stored beside it; its files do not belong together."
        )


class TooLarge(Exception):
    """A module got more parameters than it may have."""


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Within the block, this thread makes at most so many parameters of modules.

    Raises:
        TooLarge: it would make more.
    """
    thread, made = threading.get_ident(), 0

    def counted(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal made
        if threading.get_ident() == thread and parameter is not None:
            made += 1
            if made > count:
                raise TooLarge

    hook = register_module_parameter_registration_hook(counted)
    try:
        yield
    finally:
        hook.remove()


def check_finite(model: nn.Module, place: str) -> None:
    """Refuses weights that are not numbers.

    A sum is not finite if one of its terms is not, so one pass over the weights (a fraction of the
    time it takes to read them) finds nearly all that are fine; the others are looked at one by one.

    Raises:
        CorruptError: a weight is infinite or not a number.
    """
    for name, stored in model.state_dict().items():
        tensor = stored.float() if stored.itemsize == 1 else stored  # 8 bits have no such functions
        if not tensor.is_floating_point() or tensor.sum().isfinite():
            continue
        if not tensor.isfinite().all():
            raise CorruptError(
                f"the weights in {place} are not finite numbers: {name}, ... Training has diverged "
                "or the file is damaged; take an earlier checkpoint, or fetch the model again."
            )


@contextmanager
def set_aside(folders: Sequence[Path], variant: str | None) -> Iterator[None]:
    """Within the block the weights of a variant are under hidden names, which are gone afterwards.

    What is written anew in the block stands alone then; after an error the old ones are back.
    """
    aside: list[tuple[Path, Path]] = []
    done = False
    try:
        for file in [file for folder in folders for file in folder.iterdir() if file.is_file()]:
            named = _named(STEM, file.name)
            if named and named["variant"] == variant:
                hidden = file.with_name(f".{file.name}.old")
                file.replace(hidden)
                aside.append((file, hidden))
        yield
        done = True
    finally:
        for file, hidden in aside:
            if done:
                hidden.unlink(missing_ok=True)
            else:
                hidden.replace(file)


def _named(stem: str, name: str) -> re.Match[str] | None:
    return WEIGHTS[stem].fullmatch(name) or INDEX[stem].fullmatch(name)


def _above(folders: Sequence[Path]) -> Path:
    return folders[0].parent if len(folders) > 1 else folders[0]
