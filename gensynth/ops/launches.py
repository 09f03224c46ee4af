"""How kernels are launched: block sizes, warps and stages, shipped and tuned.

Every operator ships a table of launches. `gensynth ops tune` measures others on the GPU at hand
and writes the faster ones to `cache_file()`, which is read at the first launch. How a sum over
tokens is split is not part of a launch: tuning changes no result but for the order in a block.
"""

import functools
import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from gensynth.files import write_text
from gensynth.system.disk import cache_folder

logger = logging.getLogger(__name__)

OPS = Path(__file__).parent
# What reading a file raises that may not be read, is no JSON or holds something else.
UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
Table = Mapping[str, "Launch"]
_tried: dict[tuple[str, str], "Launch"] = {}


@dataclass(frozen=True)
class Launch:
    """One way to launch a kernel; `blocks` are its constants by name."""

    blocks: Mapping[str, int] = field(default_factory=dict)
    num_warps: int = 4
    num_stages: int = 2

    @classmethod
    def read(cls, stored: Any) -> Self:
        """A launch as `save_tuned` writes it.

        Raises:
            ValueError, TypeError: it is another kind of thing.
        """
        launch = cls(**stored)
        numbers = [launch.num_warps, launch.num_stages, *dict(launch.blocks).values()]
        if not all(type(number) is int and number > 0 for number in numbers):
            raise ValueError("numbers of a launch are whole and positive")
        return launch

    def keywords(self) -> dict[str, int]:
        """What a Triton kernel is called with, beside its arguments."""
        return {**self.blocks, "num_warps": self.num_warps, "num_stages": self.num_stages}


def find(operator: str, shipped: Table, key: str) -> Launch:
    """The launch of `key`: the tuned one of this GPU if there is one, else the shipped one."""
    if (operator, key) in _tried:
        return _tried[operator, key]
    return load_tuned().get(operator, {}).get(key) or shipped[key]


@contextmanager
def trying(operator: str, key: str, launch: Launch) -> Iterator[None]:
    """A block in which `launch` is the one of `key`."""
    _tried[operator, key] = launch
    try:
        yield
    finally:
        del _tried[operator, key]


def cache_file() -> Path:
    """Where the tuned launches of this GPU lie (`GENSYNTH_CACHE`, else ~/.cache/gensynth)."""
    name = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")
    return cache_folder("ops") / f"{name}.json"


def versions() -> dict[str, str]:
    """What a measurement holds for: the libraries and the source of the kernels."""
    import triton

    # Any change of a kernel makes its measurements void.
    sources = sorted(OPS.glob("*/triton*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    return {"torch": torch.__version__, "triton": triton.__version__, "kernels": digest}


# Read once: a launch asks for it every time.
@functools.cache
def load_tuned() -> dict[str, dict[str, Launch]]:
    """Tuned launches by operator and key; {} without any for this GPU and these versions.

    A file that cannot be read counts as none, with a word: the shipped launches draw the same.
    """
    if not torch.cuda.is_available() or not (path := cache_file()).is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["versions"] != versions():
            logger.warning("%s was measured with other versions; run: gensynth ops tune", path)
            return {}
        return {
            operator: {key: Launch.read(launch) for key, launch in table.items()}
            for operator, table in content["launches"].items()
        }
    except UNREADABLE:
        logger.warning("%s cannot be read and is not used; made anew by: gensynth ops tune", path)
        return {}


def save_tuned(launches: Mapping[str, Table]) -> Path:
    """Writes launches by operator and key for this GPU; returns the file."""
    path = cache_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    tables = {op: {key: asdict(launch) for key, launch in t.items()} for op, t in launches.items()}
    content = {"versions": versions(), "launches": tables}
    write_text(path, json.dumps(content, indent=2) + "\n")
    load_tuned.cache_clear()
    return path
