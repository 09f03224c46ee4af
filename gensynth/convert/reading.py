"""A published checkpoint file -> its tensors, without running any code in it."""

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gensynth.errors import CorruptError, InputError, RefusedError
from gensynth.files import DAMAGED

# In the order in which they are preferred; what training scripts call a state in a checkpoint.
PARTS = ("ema", "model", "state_dict", "model_state_dict")
# Put in front of every name by torch's wrappers for several processes and for compiling.
WRAPPERS = ("module.", "_orig_mod.")
# What is stored beside the weights and runs nothing: settings, and a learning rate that numpy
# computed (Halton-MaskGIT's optimizer), under numpy's name for it before and after 2.0.
_SCALAR = np.float64(0).__reduce__()[0]
HARMLESS: list[Any] = [
    argparse.Namespace,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    type(np.dtype(np.float64)),
]


class State(NamedTuple):
    """Tensors under their official names, and the entry of `PARTS` they were; None: the file."""

    tensors: dict[str, Tensor]
    part: str | None


def read_state(path: Path) -> State:
    """The weights in a checkpoint, averaged ones ("ema") if there are any.

    Raises:
        InputError: there is no such file, or no weights in it.
        RefusedError: a pickle of more than tensors and settings.
        CorruptError: a damaged file.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint file {path}.")
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    # A training script's dictionary of several states, or one state without a wrapper.
    part = None
    if isinstance(content, Mapping):
        part = next(
            (name for name in PARTS if content.get(name) and isinstance(content[name], Mapping)),
            None,
        )
    state = content if part is None else content[part]
    if not isinstance(state, Mapping) or not state or not all(map(_is_weight, state.items())):
        keys = ", ".join(map(str, list(state)[:6])) if isinstance(state, Mapping) else ""
        found = f"a dictionary of {keys}" if keys else f"a {type(state).__name__}"
        raise InputError(
            f"{path} holds no weights: expected tensors by name, or such a dictionary under "
            f"{', '.join(PARTS)}; it is {found}."
        )
    return State({_bare(name): tensor for name, tensor in state.items()}, part)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CorruptError(f"{path} cannot be read: {error}. Fetch it again.") from error


def _pickled(path: Path) -> Any:
    with torch.serialization.safe_globals(HARMLESS):
        try:
            # Only the zip format can be mapped into memory.
            mapped = zipfile.is_zipfile(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except pickle.UnpicklingError as error:
            needed = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
            if needed is None:
                raise CorruptError(f"{path} is not a checkpoint that torch.save wrote.") from error
            raise RefusedError(
                f"{path} is a pickle that needs {needed[1]}, not only tensors, and unpickling it "
                "could run code. Ask its author for safetensors; or, if you trust the author, keep "
                "the weights alone: torch.save(torch.load(FILE, weights_only=False)['ema'], NEW)."
            ) from error
        except DAMAGED as error:
            reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
            raise CorruptError(
                f"{path} is damaged or not a checkpoint ({reason}). Fetch it again."
            ) from error


def _is_weight(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _bare(name: str) -> str:
    while name.startswith(WRAPPERS):
        for wrapper in WRAPPERS:
            name = name.removeprefix(wrapper)
    return name
