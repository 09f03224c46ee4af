"""diffusers and transformers without their bars and remarks: what matters is said by the house."""

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers.utils import logging as of_diffusers
from transformers.utils import logging as of_transformers


@contextmanager
def quietly() -> Iterator[None]:
    """Within the block neither library prints warnings or progress; errors are raised as ever."""
    before = [library.get_verbosity() for library in (of_diffusers, of_transformers)]
    bars = of_transformers.is_progress_bar_enabled()
    of_diffusers.disable_progress_bar()  # as `gensynth.load` leaves it
    for library in (of_diffusers, of_transformers):
        library.set_verbosity_error()
    of_transformers.disable_progress_bar()
    try:
        yield
    finally:
        for library, verbosity in zip((of_diffusers, of_transformers), before, strict=True):
            library.set_verbosity(verbosity)
        if bars:
            of_transformers.enable_progress_bar()
