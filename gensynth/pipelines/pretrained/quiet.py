"""diffusers and transformers without their bars and remarks: what matters is said by the house."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from diffusers.utils import logging as of_diffusers
from transformers.utils import logging as of_transformers

LIBRARIES = (of_diffusers, of_transformers)


class _Voices:
    """What the libraries say is one for all threads: the last that leaves gives it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self._before: tuple[list[int], bool] = ([], False)

    def hush(self) -> None:
        with self._lock:
            self._within += 1
            if self._within > 1:
                return
            bars = of_transformers.is_progress_bar_enabled()
            self._before = [library.get_verbosity() for library in LIBRARIES], bars
            of_diffusers.disable_progress_bar()  # as `gensynth.load` leaves it
            of_transformers.disable_progress_bar()
            for library in LIBRARIES:
                library.set_verbosity_error()

    def give_back(self) -> None:
        with self._lock:
            self._within -= 1
            if self._within:
                return
            verbosities, bars = self._before
            for library, verbosity in zip(LIBRARIES, verbosities, strict=True):
                library.set_verbosity(verbosity)
            if bars:
                of_transformers.enable_progress_bar()


_VOICES = _Voices()


@contextmanager
def quietly() -> Iterator[None]:
    """Within the block neither library prints warnings or progress; errors are raised as ever."""
    _VOICES.hush()
    try:
        yield
    finally:
        _VOICES.give_back()
