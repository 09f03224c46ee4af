"""What a run is fed with: the same data in every process, its batches, and its place among them."""

import hashlib
import json
import socket
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from gensynth.conditions import Condition
from gensynth.config import Data, Experiment
from gensynth.data.batches import Unreadable, load_batches
from gensynth.data.sources import Source, open_source
from gensynth.data.training import Batch, Schedule
from gensynth.errors import GensynthError, InputError
from gensynth.training.session.faults import Abandoned, StopRequest
from gensynth.training.session.together import Together

SPECIMENS = 8  # images that are compared between processes, and between sessions
ANOTHER_RUN = (
    "from here on this is another run than it would have been (for that one give it the earlier "
    "data; for one of the new data from its start: output=DIR)"
)


class Feed:
    """The batches of one process of a run.

    Attributes:
        cursor: of a stream, a position and the (epoch, offset) at which it stands there.
        unreadable: rows that could not be decoded.
        data: what tells these data from others.
        changed: how they differ from those of the checkpoint, in words; None if they do not.
        schedule: which rows of which steps this process takes, once it is open.
    """

    def __init__(self, experiment: Experiment, source: Source, stop: StopRequest):
        self.experiment, self.source, self.stop = experiment, source, stop
        self.together = stop.connect()
        self.cursor: tuple[int, tuple[int, int]] = (0, (0, 0))
        rows = None if source.streamed else len(source.rows)
        self.unreadable = Unreadable(experiment.data.max_corrupt, rows, source.name_of)
        self.data = {k: v for k, v in json.loads(facts_of(source)).items() if k != "classes"}
        self.changed: str | None = None
        self.batches: Generator[Batch] = (batch for batch in list[Batch]())

    def resume(self, place: dict[str, Any]) -> None:
        """Continues where `place` of a checkpoint says."""
        self.cursor = (place["cursor"][0], tuple(place["cursor"][1]))
        self.unreadable.rows |= set(place["unreadable"])
        before = place.get("data", {})  # older checkpoints do not say
        if before and self.data and before != self.data:
            then, now = before["images"], self.data["images"]
            what = f"{now}, taken in another order" if then != now else "as many, but others"
            self.changed = f"the data were {then} pictures, now {what}: {ANOTHER_RUN}"

    def place(self) -> dict[str, Any]:
        """What `resume` needs."""
        unreadable = sorted(self.unreadable.rows)
        return {"cursor": self.cursor, "unreadable": unreadable, "data": self.data}

    def open(self, step: int, device: torch.device) -> None:
        """Begins to read ahead from a step on."""
        experiment, settings = self.experiment, self.experiment.training
        self.schedule = Schedule(
            step,
            settings.steps,
            settings.batch_size,
            settings.gradient_accumulation,
            self.together.rank,
            self.together.count,
        )
        self.batches = load_batches(
            self.source,
            experiment.data,
            experiment.seed,
            self.schedule,
            self.cursor,
            device,
            experiment.autoencoder.patch,
            self.stop.watch,
        )

    def fetch(self, step: int) -> tuple[list[Batch], bool]:
        """The micro-batches of a step, and whether the run should stop instead of taking it.

        Every process calls this before a step, so that one without data does not leave the others
        waiting for its gradients.

        Raises:
            GensynthError: the data of some process failed; in all of them.
        """
        failure: GensynthError | None = None
        batches: list[Batch] = []
        stopping = False
        try:
            batches = [
                next(self.batches) for _ in range(self.experiment.training.gradient_accumulation)
            ]
        except Abandoned:
            stopping = True
        except GensynthError as error:
            failure = error
        worst = self.together.largest(2 if failure else int(stopping))
        if worst == 2:
            raise self._told(failure)
        for batch in batches:
            self._note(batch, step)
        return batches, bool(worst)

    def _told(self, failure: GensynthError | None) -> GensynthError:
        """The first failure of all processes, for all of them."""
        failures = enumerate(self.together.gather(failure))
        rank, error = next((rank, error) for rank, error in failures if error is not None)
        return error if self.together.count == 1 else of_process(rank, error)

    def _note(self, batch: Batch, step: int) -> None:
        """Keeps the place in a stream, and the images that could not be decoded."""
        if batch.cursor is not None:
            self.cursor = (step * self.experiment.training.batch_size, batch.cursor)
        self.unreadable.new |= set(batch.unreadable)

    def count_unreadable(self, step: int) -> str | None:
        """Adds up what the processes could not decode; all of them warn or stop together."""
        # gathered, so that every process comes to the same decision
        new = [row for rows in self.together.gather(self.unreadable.new) for row in rows]
        return self.unreadable.add(sorted(new), step * self.experiment.training.batch_size)

    def close(self) -> None:
        self.batches.close()  # ends the workers, which ignore the signals that end a program


def of_process(rank: int, error: GensynthError) -> GensynthError:
    """The error of one process, as the others report it."""
    return type(error)(f"process {rank}: {error}")


def open_alike(
    data: Data,
    together: Together,
    begun_with: Sequence[str] | None = None,
    texts: bool = False,
) -> Source:
    """The data of a section, which every process must find alike; see `open_source`.

    Raises:
        InputError: the processes see different data.
        GensynthError: as `open_source`, in every process.
    """
    source, failure = None, None
    try:
        source = open_source(data, begun_with, texts)
    except GensynthError as error:
        failure = error
    if together.count == 1:
        seen = [(socket.gethostname(), failure, "")]
    else:
        facts = "" if source is None else facts_of(source)
        seen = together.gather((socket.gethostname(), failure, facts))
    failures = [(rank, error) for rank, (_, error, _) in enumerate(seen) if error is not None]
    if failures:
        everywhere = len({str(error) for _, error in failures}) == 1 and len(failures) == len(seen)
        raise failures[0][1] if everywhere else of_process(*failures[0])
    for rank, (host, _, facts) in enumerate(seen):
        if facts != seen[0][2]:
            raise InputError(
                f"process {rank} on {host} finds other data at {data.path} than process 0 on "
                f"{seen[0][0]}: {_difference(seen[0][2], facts)}. Put the same files there on "
                "every machine, or on a disk that all of them share."
            )
    assert source is not None
    return source


def check_words(condition: Condition, together: Together) -> None:
    """Whether every process reads texts alike: each makes its tokenizer of the captions it sees.

    Raises:
        InputError: one has other words or another text encoder.
    """
    told = together.gather((socket.gethostname(), json.dumps(condition.describe())))
    for rank, (host, words) in enumerate(told):
        if words != told[0][1]:
            raise InputError(
                f"process {rank} on {host} reads captions otherwise than process 0 on "
                f"{told[0][0]}: its captions, or its text encoder, are others. Put the same files "
                "there on every machine, or on a disk that all of them share."
            )


def facts_of(source: Source) -> str:
    """What two processes have to have in common, as JSON; of a stream no rows are read."""
    facts: dict[str, Any] = {"classes": source.classes}
    if not source.streamed:
        count = len(source.rows)
        digest = hashlib.sha256()
        for number in sorted({index * count // SPECIMENS for index in range(SPECIMENS)}):
            digest.update(_content(source.rows[number]))
        facts |= {"images": count, "specimens": digest.hexdigest()}
    return json.dumps(facts)


def _content(row: dict[str, Any]) -> bytes:
    """An image and what is said of it, in bytes; a file that cannot be read has none."""
    content = row.get("latents")
    image = row.get("image") or {}
    if content is None:
        content = image.get("bytes")
    if content is None and image.get("path"):
        try:
            content = Path(image["path"]).read_bytes()
        except OSError:
            content = b""
    return (content or b"") + f"{row.get('label')}{row.get('text', '')}".encode()


def _difference(one: str, other: str) -> str:
    first, second = json.loads(one), json.loads(other)
    if first["classes"] != second["classes"]:
        return f"classes {_some(second['classes'])} instead of {_some(first['classes'])}"
    if first["images"] != second["images"]:
        return f"{second['images']} images instead of {first['images']}"
    return "as many images, but others"


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "") or "none"
