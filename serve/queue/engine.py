"""One device, one thread, one job at a time; everybody else waits in a short queue."""

import gc
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch

from gensynth.errors import DeviceMemoryError, GensynthError, OutputError, UsageError
from gensynth.pipelines.contract import Pipeline
from gensynth.sampling.generate import plan
from gensynth.sampling.outputs import reporting_write_errors
from gensynth.settings import Settings
from gensynth_serve.queue.draw import BATCH, Cancelled, draw
from gensynth_serve.queue.jobs import Done, Failed, Job, News, Queued, Stopped
from gensynth_serve.queue.order import MAX_STEPS, Order

MAX_WAITING = 20
MAX_ENLARGED = 4  # times the side that a model was trained at
MAX_STORED = 1000  # pictures; the oldest are deleted


class BusyError(GensynthError):
    """The queue is full or closed."""


class Engine:
    """Draws orders with pipelines that share a device.

    Only the engine's thread calls the pipelines, so two jobs never overlap on the device, whatever
    the web framework does with the requests.

    Args:
        pipelines: name -> pipeline.
        folder: where finished pictures are stored, each in its own folder with a random name.
        prepare: called before a picture is stored; makes the folder anew if a cleaner of temporary
            files took it.
    """

    def __init__(
        self,
        pipelines: Mapping[str, Pipeline],
        folder: Path,
        prepare: Callable[[], None] | None = None,
    ):
        self.pipelines = dict(pipelines)
        self.folder = folder
        self.prepare = prepare or self._make_folder
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._closed = False
        self._start_thread()

    def submit(self, order: Order) -> Job:
        """The queued job of an order.

        Raises:
            UsageError: the model or one of the classes does not exist.
            BusyError: too many jobs are waiting, or the engine is closed.
        """
        if order.model not in self.pipelines:
            raise UsageError(
                f"there is no model {order.model[:100]!r} here. "
                f"Served: {', '.join(self.pipelines)}."
            )
        pipeline = self.pipelines[order.model]
        items = [pipeline.condition.item(wish) for wish in order.labels]
        if order.prompt is not None:
            items = pipeline.condition.prompted([order.prompt])
        settings = allowed(self.pipelines, pipeline, order.settings)
        job = Job(order, pipeline, plan(items, order.num, order.seed), settings)
        with self._changed:
            if self._closed:
                raise BusyError("the server is shutting down.")
            if len(self._waiting) >= MAX_WAITING:
                raise BusyError(
                    f"the server is busy ({MAX_WAITING} jobs are waiting). Try again in a minute."
                )
            self._waiting.append(job)
            self._tell_places()
            self._changed.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Ends a job: now if it waits, after the current step if it runs."""
        with self._changed:
            job.cancelled.set()
            if job in self._waiting:
                self._waiting.remove(job)
                job.news.put(Stopped())
                self._tell_places()

    def close(self) -> None:
        """Refuses new jobs and cancels all others; returns at once."""
        with self._changed:
            self._closed = True
            for job in [*self._waiting, *filter(None, [self._running])]:
                self.cancel(job)  # takes the lock once more, which a Condition allows
            self._changed.notify()

    def stop(self, timeout: float) -> bool:
        """Closes, and waits for the thread to end; whether it did."""
        self.close()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._work, name="gensynth-engine", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            while self._take():
                self._run(self._running)
                self._running = None
        finally:
            if self._running is not None:
                # A bug ends this thread, with its traceback on stderr. The next job gets a new one.
                message = "drawing failed because of a bug; the server's log says more."
                self._running.news.put(Failed(message, GensynthError.exit_code))
                self._running = None
                self._start_thread()

    def _take(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._running = self._waiting.popleft() if self._waiting else None
            self._tell_places()
            return self._running is not None

    def _run(self, job: Job) -> None:
        started = time.monotonic()
        out_of_memory = False
        news: News
        try:
            draw(job, self.folder, self.prepare)
            self._forget_old_pictures()
            news = Done(time.monotonic() - started)
        except Cancelled:
            news = Stopped()
        except (DeviceMemoryError, MemoryError):
            out_of_memory = True
            news = Failed(_memory_advice(job), DeviceMemoryError.exit_code)
        except OutputError as error:
            news = Failed(_why_not_stored(error), OutputError.exit_code)
        except GensynthError as error:
            news = Failed(str(error), error.exit_code)
        if out_of_memory:
            # Only here are the tensors free: during `except` the traceback holds them.
            gc.collect()
            torch.cuda.empty_cache()
        job.news.put(news)

    def _tell_places(self) -> None:
        for place, job in enumerate(self._waiting, 1):
            job.news.put(Queued(place, len(self._waiting)))

    def _make_folder(self) -> None:
        with reporting_write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def _forget_old_pictures(self) -> None:
        with suppress(FileNotFoundError):  # a cleaner of temporary files was faster
            pictures = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime)
            for path in pictures[:-MAX_STORED]:
                shutil.rmtree(path, ignore_errors=True)


def allowed(pipelines: Mapping[str, Pipeline], pipeline: Pipeline, settings: Settings) -> Settings:
    """The settings of an order for a pipeline, whose guide is one of the models that are served.

    Raises:
        UsageError: the pipeline cannot draw so, the guide is not served, or the pictures would be
            too large.
    """
    if settings.guide is not None:
        if settings.guide not in pipelines:
            raise UsageError(
                f"there is no guide {str(settings.guide)[:100]!r} here. "
                f"Served: {', '.join(pipelines)}."
            )
        settings = settings.but(guide=pipelines[settings.guide])
    most = MAX_ENLARGED * max(pipeline.resolve().size)
    if settings.size is not None and max(settings.size) > most:
        raise UsageError(f"a side of a picture may have {most} pixels at most.")
    pipeline.resolve(settings)  # refuses what cannot be drawn
    return settings


def most_steps(pipeline: Pipeline) -> int:
    """The most steps of an order for a pipeline: its own number at least, if that is larger."""
    own = pipeline.resolve()
    return min(max(MAX_STEPS, own.steps), pipeline.steps_range(own.size)[1])


def _why_not_stored(error: OutputError) -> str:
    """What visitors are told: the cause, and not where."""
    cause = error.__cause__
    known = isinstance(cause, OSError) and cause.strerror
    why = cause.strerror.lower() if known else "its disk is full or not writable"
    return f"the server cannot store the picture ({why}). Tell whoever runs it."


def _memory_advice(job: Job) -> str:
    together = min(BATCH, job.order.num)
    if together > 1:
        fewer = "1 image" if together < 4 else f"at most {together // 2} images"
        return f"not enough memory for {together} pictures at once. Ask for {fewer}."
    own, size = job.pipeline.resolve().size, job.settings.size
    if size is not None and max(size) > max(own):
        height, width = size
        return (
            f"not enough memory for one picture of {width} x {height} pixels. Ask for a smaller "
            f'one: the model\'s own is {{"size": [{own[0]}, {own[1]}]}}.'
        )
    return (
        "not enough memory for one picture. Close other programs that use the device, or ask for "
        "a smaller size in the settings."
    )
