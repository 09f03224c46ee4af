"""Weights files: where they are looked for, whether they are the published ones, the download."""

import hashlib
import os
import pickle
import re
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gensynth.errors import CorruptError, InputError, OutputError, RefusedError
from gensynth.files import DAMAGED
from gensynth.system.disk import cache_folder
from gensynth.system.hub import unreachable, weights_missing
from gensynth.system.temporary import own, remove_unowned

TIMEOUT = 60  # seconds without an answer
BLOCK = 1 << 20
UNREADABLE = (*DAMAGED, pickle.UnpicklingError)


class PublishedFile(NamedTuple):
    """A file that others have put on the web: the names it goes by, where it is, its SHA-256."""

    names: tuple[str, ...]
    url: str
    sha256: str


class Weights(NamedTuple):
    """Tensors, the SHA-256 of the file they came from, and whether it is the published one."""

    tensors: dict[str, Tensor]
    sha256: str
    official: bool


def find_weights(
    published: PublishedFile, given: Path | None = None, *, download: bool = False
) -> tuple[Path, str]:
    """The file to read and its SHA-256.

    Looked for at `given`, which may be another file than the published one; then, under every name
    it goes by, in `cache_folder("weights")` and in the folder that torch.hub downloads to.

    Args:
        download: whether to fetch a file that is nowhere.

    Raises:
        InputError: there is no such file, or no network.
        CorruptError: a file has the right name and the wrong content.
        OutputError: a download cannot be written.
    """
    if given is not None:
        if not given.is_file():
            raise InputError(f"there is no weights file {given}.")
        return given, sha256_of(given)
    folders = (cache_folder("weights"), Path(torch.hub.get_dir()) / "checkpoints")
    for path in (folder / name for folder in folders for name in published.names):
        if path.is_file():
            return path, _intact(path, published)
    target = folders[0] / published.names[0]
    if not download:
        raise weights_missing(published.names[0], list(folders), published.url, target)
    fetch(published.url, target, published.sha256)
    return target, published.sha256


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}.") from error


def _intact(path: Path, published: PublishedFile) -> str:
    digest = sha256_of(path)
    if digest != published.sha256:
        raise CorruptError(
            f"{path} is not the published file: its SHA-256 is {digest[:12]}…, not "
            f"{published.sha256[:12]}…. Delete it and fetch {published.url} again."
        )
    return digest


def fetch(url: str, target: Path, sha256: str) -> None:
    """Downloads a file whose SHA-256 is known; `target` appears only once it is whole and right.

    Raises:
        InputError: no network, no such file there, or the connection ended early.
        CorruptError: what came is another file.
        OutputError: the disk is full or the folder not writable.
    """
    _check_network(url, target)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_unowned(target.parent.glob(f".{target.name}.*.part"))  # of killed programs
        try:
            digest = _receive(url, part, target)
            if digest != sha256:
                raise CorruptError(
                    f"{url} is not the published file: its SHA-256 is {digest[:12]}…, not "
                    f"{sha256[:12]}…. Fetch that file by other means and put it at {target}."
                )
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}.") from error


def _check_network(url: str, target: Path) -> None:
    problem = None if url.startswith("file:") else unreachable(url)
    if problem is not None:
        raise InputError(
            f"cannot download {url}: {problem}. Fetch it by other means and put it at {target}."
        )


def _receive(url: str, part: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with part.open("wb") as stream, own(part):
        for block in _blocks(url, target):
            stream.write(block)
            digest.update(block)
    return digest.hexdigest()


def _blocks(url: str, target: Path) -> Iterator[bytes]:
    received = 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310 - a pinned URL
            while block := response.read(BLOCK):
                received += len(block)
                yield block
            promised = response.headers.get("Content-Length")
        if promised is not None and received < int(promised):
            raise HTTPException(f"the connection ended after {received} of {promised} bytes")
    except (OSError, HTTPException) as error:
        raise InputError(
            f"cannot download {url}: {error}. Try again, or fetch it by other means and put it at "
            f"{target}."
        ) from error


def load_tensors(path: Path, instead: str = "") -> Any:
    """Plain values and tensors in a file of torch.save, on the CPU; no code in it is run.

    Args:
        instead: a sentence on what to do about a file that needs more than tensors.

    Raises:
        InputError: damaged, or not such a file.
        RefusedError: it needs anything else, which could be code.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        # torch's own message advises to read the file with code and all.
        needed = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and needed is not None:
            raise refusal(path, needed[1], "tensors", instead) from error
        raise InputError(
            f"{path} is damaged or not a file of torch.save. Fetch it again."
        ) from error


def refusal(path: Path, needed: str, harmless: str, instead: str) -> RefusedError:
    """The error for a pickle that needs a class or function other than what is harmless."""
    message = (
        f"{path} is a pickle that needs {needed}, not only {harmless}, and unpickling it could "
        f"run code. {instead}"
    )
    return RefusedError(message.strip())


def read_tensors(path: Path, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The tensors of these names and shapes in a file of torch.save, as float32; others are left.

    Raises:
        InputError: it is not such a file, or a tensor is missing or of another shape.
        RefusedError: it needs more than tensors, which could be code.
    """
    state = load_tensors(path)
    found = state if isinstance(state, Mapping) else {}
    for name, shape in shapes.items():
        tensor = found.get(name)
        if not isinstance(tensor, Tensor) or tensor.shape != shape:
            what = list(tensor.shape) if isinstance(tensor, Tensor) else "nothing"
            raise InputError(
                f"{path} holds other weights: under {name} there is {what}, not {list(shape)}."
            )
    return {name: found[name].float() for name in shapes}
