"""Pickles of numbers and arrays, read without running anything else that is in them."""

import pickle
import re
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from gensynth.errors import InputError, RefusedError
from gensynth.metrics.extractors.weights import UNREADABLE


def read_pickle(path: Path) -> Any:
    """Plain values, and numpy arrays of numbers, in a pickle.

    Raises:
        InputError: damaged, or no pickle.
        RefusedError: it needs anything else, which could be code.
    """
    try:
        with path.open("rb") as stream:
            return _NumbersOnly(stream, path).load()
    except (pickle.UnpicklingError, *UNREADABLE) as error:
        raise InputError(f"{path} is damaged or no pickle: {error}. Fetch it again.") from error


def read_tensors(path: Path) -> Any:
    """Plain values and tensors in a file of `torch.save`.

    Raises:
        InputError: damaged, or not such a file.
        RefusedError: it needs anything else, which could be code.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        needed = re.search(r"GLOBAL (\S+)", str(error))
        if needed is None:
            raise InputError(f"{path} is not a file of torch.save. Fetch it again.") from error
        raise _refusal(path, needed[1]) from error
    except UNREADABLE as error:
        raise InputError(f"{path} is damaged or not a file of torch.save.") from error


class _NumbersOnly(pickle.Unpickler):
    def __init__(self, stream: IO[bytes], path: Path):
        super().__init__(stream)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        allowed = ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if allowed is None:
            raise _refusal(self.path, f"{module}.{name}")
        return allowed


def _array(kind: Any, shape: Any, typecode: Any) -> np.ndarray:
    """As numpy's `_reconstruct`: an array, never one of its subclasses, which is then filled."""
    return np.ndarray.__new__(np.ndarray, shape, typecode)


def _array_of_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """As numpy's `_frombuffer` (pickle protocol 5)."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _scalar(dtype: Any, content: Any) -> Any:
    """As numpy's `scalar`."""
    return np.frombuffer(content, dtype=dtype)[0]


def _bytes(text: Any, encoding: Any) -> bytes:
    """As `codecs.encode`, which protocols up to 2 write bytes with."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds bytes as {encoding}")
    return str(text).encode("latin1")


# Modules by their names before numpy 2.0. Functions of our own: numpy's take more than numbers.
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _array_of_buffer,
    ("_codecs", "encode"): _bytes,
}


def _refusal(path: Path, needed: str) -> RefusedError:
    return RefusedError(
        f"{path} is a pickle that needs {needed}, not only numbers and arrays, and unpickling it "
        "could run code. Ask its author for an .npz with mu and sigma."
    )
