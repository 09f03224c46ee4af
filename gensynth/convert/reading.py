"""A published checkpoint file -> its tensors, without running any code in it."""

import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gensynth.convert import SYSTEMS
from gensynth.convert.finding import State, find_weights
from gensynth.errors import CorruptError, InputError, RefusedError, UsageError
from gensynth.files import DAMAGED

# What stands beside weights and runs nothing: settings, paths, and numbers of numpy, under the
# names of numpy before and after 2.0. None of it is made: `Beside` takes the place of each.
HARMLESS = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    *(f"pathlib.{kind}" for kind in ("Path", "PosixPath", "PurePosixPath", "WindowsPath")),
    "pathlib._local.PosixPath",
    "datetime.datetime",
    "datetime.timedelta",
    "collections.defaultdict",
    "typing.Any",
    *(f"builtins.{kind}" for kind in ("dict", "list", "tuple", "int", "float", "str", "bool")),
    "numpy.dtype",
    "numpy.ndarray",
    *(
        f"numpy.{core}.{name}"
        for core in ("core", "_core")
        for name in ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")
    ),
    *(
        f"omegaconf.{name}"
        for name in (
            "dictconfig.DictConfig",
            "listconfig.ListConfig",
            "base.ContainerMetadata",
            "base.Metadata",
            "nodes.AnyNode",
        )
    ),
)
# What torch's reader says of a file that is whole, and asks for more than tensors.
ASKS = re.compile(r"GLOBAL|reduce|Can only (create|build)|persistent_load|Unsupported operand")
TORCHSCRIPT = "constants.pkl"  # a file of programs has one
NAMED = ("GLOBAL", "INST")  # the instructions of a pickle with a name in them
PICKLES = 4  # at the start of a file of torch.save before 1.6


class Beside:
    """Stands where a checkpoint has something else than tensors."""

    def __init__(self, *arguments: Any):
        pass

    def __new__(cls, *arguments: Any) -> "Beside":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def read_state(path: Path, system: str | None = None, part: str | None = None) -> State:
    """The weights in a checkpoint, averaged ones if there are any; see `find_weights`.

    Args:
        system: a key of `SYSTEMS` whose weights are looked for; others are taken if there are none.
        part: where they are in the file, if it holds several.

    Raises:
        InputError: there is no such file, or no weights in it.
        UsageError: it holds several weights, or not those that were asked for.
        RefusedError: a pickle of more than tensors and settings.
        CorruptError: a damaged file.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint file {path}.")
    content = _safetensors(path) if _is_safetensors(path) else _pickled(path)
    every = _prefixes(SYSTEMS)
    for prefixes in [every if system is None else _prefixes([system]), every]:
        try:
            state = find_weights(content, prefixes, part)
        except (InputError, UsageError) as error:
            raise type(error)(f"{path} {error}") from error
        if 2 * sum(name.startswith(prefixes) for name in state.tensors) > len(state.tensors):
            break
    _check_plain(state, path)
    return state


def _prefixes(systems: Iterable[str]) -> tuple[str, ...]:
    """How the official names of some systems start."""
    return tuple({start: None for system in systems for start in SYSTEMS[system].NAMES.prefixes})


def _check_plain(state: State, path: Path) -> None:
    """Refuses tensors that are not stored number by number, and views that claim more than is."""
    held = path.stat().st_size
    for name, tensor in state.tensors.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not plain or tensor.is_quantized or tensor.is_complex():
            raise InputError(
                f"{path} stores {name} in a format that is not read here (sparse, quantized, "
                "complex or without content); store it as a plain tensor."
            )
        bytes_claimed = tensor.numel() * tensor.element_size()
        if bytes_claimed > max(held, tensor.untyped_storage().nbytes()):
            raise CorruptError(
                f"{path} says that {name} is {list(tensor.shape)}, more than the whole file holds."
            )


def _is_safetensors(path: Path) -> bool:
    """Whether a file is called so, or begins with the length of a JSON header and the header."""
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as stream:
        begin = stream.read(9)
    header = int.from_bytes(begin[:8], "little")
    return begin[8:] == b"{" and header < path.stat().st_size


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CorruptError(f"{path} cannot be read: {error}. Fetch it again.") from error


def _pickled(path: Path) -> Any:
    zipped = zipfile.is_zipfile(path)  # only this format can be mapped into memory
    lent: list[Any] = [(Beside, name) for name in HARMLESS]
    with torch.serialization.safe_globals(lent):
        try:
            if zipped:
                _check_archive(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        except pickle.UnpicklingError as error:
            needed = _needed(str(error), path, zipped)
            if needed is None:
                raise CorruptError(f"{path} is damaged or not a checkpoint.") from error
            raise _refusal(path, f"is a pickle {needed}") from error
        except DAMAGED as error:
            reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
            raise CorruptError(
                f"{path} is damaged or not a checkpoint ({reason}). Fetch it again."
            ) from error


def _refusal(path: Path, what: str) -> RefusedError:
    return RefusedError(
        f"{path} {what}, and reading it could run code. Ask its author for safetensors; or, if you "
        "trust the author, load it by yourself with torch.load(FILE, weights_only=False) and "
        "torch.save the dictionary of its tensors by name in a new file."
    )


def _check_archive(path: Path) -> None:
    """Refuses programs, and archives that grow when they are read.

    Raises:
        RefusedError: it is one.
        CorruptError: it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(Path(member.filename).name == TORCHSCRIPT for member in members):
        raise _refusal(path, "is a program of TorchScript, not a file of tensors")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise CorruptError(
            f"{path} is compressed inside, as torch.save never writes it; if you trust its author, "
            "unpack it and torch.save the tensors in a new file."
        )


def _needed(said: str, path: Path, zipped: bool) -> str | None:
    """What a pickle needs beside tensors, in words; None if it is no whole pickle."""
    named = re.search(r"GLOBAL (\S+)", said)
    if named is not None:
        return f"that needs {named[1]}, not only tensors"
    if not ASKS.search(said):
        return None
    try:
        if not zipped:
            with path.open("rb") as stream:
                names = list(_names(stream, PICKLES))
        else:
            with zipfile.ZipFile(path) as archive:
                record = next(n for n in archive.namelist() if n.endswith("data.pkl"))
                with archive.open(record) as stream:
                    names = list(_names(stream, 1))
    except (*DAMAGED, StopIteration):
        return None
    own = ("torch.", "collections.OrderedDict", *HARMLESS)
    foreign = [name for name in names if not name.startswith(own)]
    if foreign:
        return f"that needs {foreign[0]}, not only tensors"
    return "of another protocol than torch.save writes by itself (pickle_protocol=2)"


def _names(stream: IO[bytes], most: int) -> Iterator[str]:
    """The names of classes and functions in the pickles at the start of a file."""
    for number in range(most):
        if number and not stream.read(1):
            return
        if number:
            stream.seek(-1, 1)
        texts: list[str] = []
        for operation, argument, _ in pickletools.genops(stream):
            if operation.name in NAMED:
                yield str(argument).replace(" ", ".")
            elif operation.name == "STACK_GLOBAL":
                yield ".".join(texts[-2:])
            elif isinstance(argument, str):
                texts.append(argument)
