"""One walk at a time of a pipeline of diffusers, which keeps what it is doing in itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gensynth.errors import UsageError
from gensynth.pipelines.pretrained.quiet import quietly


class Walks:
    """Which scheduler a pipeline has: its own, or during a walk that of the walk.

    Walks of several threads follow each other.
    """

    def __init__(self) -> None:
        self._own: Any = None  # during a walk
        self._walker: int | None = None  # the thread that walks
        self._swapping, self._one = threading.Lock(), threading.Lock()

    def own_scheduler(self, inner: Any) -> Any:
        """The pipeline's own scheduler, also for another thread than that which walks."""
        with self._swapping:
            return inner.scheduler if self._own is None else self._own

    @contextmanager
    def with_scheduler(self, inner: Any, scheduler: Any) -> Iterator[None]:
        """Within the block the pipeline has this scheduler; afterwards its own again.

        Raises:
            UsageError: this thread walks already.
        """
        if self._walker == threading.get_ident():
            raise UsageError(
                "this pipeline is drawing, and draws one batch at a time; draw the next one after "
                "it, not in on_step."
            )
        with self._one:
            self._walker = threading.get_ident()
            with self._swapping:
                self._own, inner.scheduler = inner.scheduler, scheduler
            try:
                with quietly():
                    yield
            finally:
                with self._swapping:
                    inner.scheduler, self._own = self._own, None
                inner.maybe_free_model_hooks()  # after a walk that was ended too
                self._walker = None
