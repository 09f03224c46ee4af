"""One order on its way through the engine, and the news it sends back."""

import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from gensynth.pipelines.contract import Pipeline
from gensynth.sampling.generate import Picture
from gensynth.settings import Settings
from gensynth_serve.queue.order import Order


@dataclass(frozen=True)
class Queued:
    """Still waiting: number `place` of `waiting`."""

    place: int
    waiting: int


@dataclass(frozen=True)
class Warned:
    """What of the job's prompts is not read, in sentences."""

    sentences: list[str]


@dataclass(frozen=True)
class Preview:
    """Pictures `first`, `first` + 1, ... as JPEG, after `step` of `steps`."""

    step: int
    steps: int
    first: int
    jpegs: list[bytes]
    share: float  # of the whole job, in [0, 1]
    rate: float  # model steps a second
    seconds_left: float


@dataclass(frozen=True)
class Made:
    """A finished picture, stored; `shown` says in words what it is of."""

    index: int
    shown: str
    path: Path
    recipe: dict[str, Any]
    jpeg: bytes


@dataclass(frozen=True)
class Done:
    """All pictures are made."""

    seconds: float


@dataclass(frozen=True)
class Stopped:
    """Ended on request; pictures made before are kept."""


@dataclass(frozen=True)
class Failed:
    """Ended by an error; `exit_code` is that of its class in `gensynth.errors`."""

    message: str
    exit_code: int


News = Queued | Warned | Preview | Made | Done | Stopped | Failed


@dataclass
class Job:
    """The pictures of one order. `news` ends with `Done`, `Stopped` or `Failed`."""

    order: Order
    pipeline: Pipeline
    pictures: list[Picture]
    settings: Settings = field(default_factory=Settings)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    cancelled: threading.Event = field(default_factory=threading.Event)
    news: "SimpleQueue[News]" = field(default_factory=SimpleQueue)
