"""Pickles of numbers and arrays, read without running anything else that is in them."""

import math
import pickle
import re
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from gensynth.errors import InputError, RefusedError
from gensynth.metrics.extractors.weights import UNREADABLE, load_tensors, refusal

NUMBERS = re.compile(r"[biuf][1248]")  # as numpy pickles the types of numbers
INSTEAD = "Ask its author for an .npz with mu and sigma."


def read_pickle(path: Path) -> Any:
    """Plain values, and numpy arrays of numbers, in a pickle.

    Raises:
        InputError: damaged, no pickle, or with arrays of anything but numbers.
        RefusedError: it needs anything else, which could be code.
    """
    try:
        with path.open("rb") as stream:
            content = _NumbersOnly(stream, path).load()
        return _Arrays(path).built(content, "it")
    except (pickle.UnpicklingError, ArithmeticError, MemoryError, *UNREADABLE) as error:
        raise InputError(f"{path} is damaged or no pickle: {error}. Fetch it again.") from error


def read_tensors(path: Path) -> Any:
    """Plain values and tensors in a file of `torch.save`.

    Raises:
        InputError: damaged, or not such a file.
        RefusedError: it needs anything else, which could be code.
    """
    return load_tensors(path, INSTEAD)


class _NumbersOnly(pickle.Unpickler):
    def __init__(self, stream: IO[bytes], path: Path):
        super().__init__(stream)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        allowed = ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if allowed is None:
            raise refusal(self.path, f"{module}.{name}", "numbers and arrays", INSTEAD)
        return allowed


class _Call:
    """A call that a pickle asks for: its arguments and the state it sets, and nothing is done.

    numpy's own classes cannot be lent to a pickle: it may set the state of a dtype to one that
    takes bytes of the file for addresses of Python objects.
    """

    arguments: ClassVar[Any] = ()
    state: ClassVar[Any] = ()

    def __init__(self, *arguments: Any):
        vars(self)["arguments"] = arguments

    def __setstate__(self, state: Any) -> None:
        vars(self)["state"] = state


class _Dtype(_Call):
    """`numpy.dtype`(type code, False, True); state (version, byte order, ...)."""


class _Array(_Call):
    """`numpy.ndarray`, which is only ever named."""


class _Reconstruct(_Call):
    """`_reconstruct`(ndarray, ...); state (version, shape, dtype, Fortran order, content)."""


class _FromBuffer(_Call):
    """`_frombuffer`(content, dtype, shape, "C" or "F"), of pickle protocol 5."""


class _Scalar(_Call):
    """`scalar`(dtype, content)."""


class _Encode(_Call):
    """`_codecs.encode`(text, "latin1"), which protocols up to 2 write bytes with."""


# Modules by their names before numpy 2.0.
ALLOWED: dict[tuple[str, str], type[_Call]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer,
    ("_codecs", "encode"): _Encode,
}


class _Arrays:
    """Puts arrays in place of the calls that a pickle asks for."""

    def __init__(self, path: Path):
        self.path = path
        self.done: dict[int, Any] = {}  # by id: a pickle may hold one thing many times, or itself

    def built(self, value: Any, name: str) -> Any:
        if not isinstance(value, _Call | dict | list | tuple):
            return value
        if id(value) not in self.done:
            self.done[id(value)] = value  # first, for a container that holds itself
            self.done[id(value)] = self._built(value, name)
        return self.done[id(value)]

    def _built(self, value: Any, name: str) -> Any:
        if isinstance(value, dict):
            for key, part in value.items():
                value[key] = self.built(part, key[:40] if isinstance(key, str) else name)
            return value
        if isinstance(value, list):
            value[:] = [self.built(part, name) for part in value]
            return value
        if isinstance(value, tuple):
            return tuple(self.built(part, name) for part in value)
        if isinstance(value, _Encode):
            return _bytes(value)
        if isinstance(value, _Scalar):
            dtype, content = value.arguments
            return self._array(name, content, dtype, (), "C")[()]
        if isinstance(value, _FromBuffer):
            content, dtype, shape, order = value.arguments
            return self._array(name, content, dtype, shape, order)
        if isinstance(value, _Reconstruct):
            _, shape, dtype, fortran, content = value.state
            return self._array(name, content, dtype, shape, "F" if fortran else "C")
        raise InputError(f"{self.path}: {name} is a type of numpy, not numbers.")

    def _array(self, name: str, content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError(f"{name} has no dtype")
        code = dtype.arguments[0]
        objects = isinstance(code, str) and code.startswith("O")
        if objects and not isinstance(content, list):
            raise RefusedError(
                f"{self.path} is a pickle with bytes for addresses of objects in {name}, "
                "and reading it could run code."
            )
        if not isinstance(code, str) or not NUMBERS.fullmatch(code):
            what = "object" if objects else str(code)[:20]
            raise InputError(f"{self.path}: {name} holds values of type {what}, not numbers.")
        kind = np.dtype(_byte_order(dtype) + code)
        content = _bytes(content)
        # frombuffer and reshape trust what they are given; the file may say anything
        whole = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if not whole or math.prod(shape) * kind.itemsize != len(content) or order not in ("C", "F"):
            raise pickle.UnpicklingError(
                f"the shape of {name} does not fit its {len(content)} bytes"
            )
        array = np.frombuffer(content, kind).reshape(shape, order=order)
        return array.astype(kind.newbyteorder("="))  # a copy: what `frombuffer` gives is read-only


def _byte_order(dtype: _Dtype) -> str:
    if not dtype.state:
        return "="
    order = dtype.state[1]
    if order not in ("<", ">", "=", "|"):
        raise pickle.UnpicklingError("a byte order that there is not")
    return str(order)


def _bytes(content: Any) -> bytes | bytearray:
    if isinstance(content, _Encode):
        content, encoding = content.arguments
        if encoding != "latin1":
            raise pickle.UnpicklingError("it holds bytes in another encoding than latin1")
    if isinstance(content, str):
        return content.encode("latin1")
    if not isinstance(content, bytes | bytearray):
        raise pickle.UnpicklingError("the content of an array is not bytes")
    return content
