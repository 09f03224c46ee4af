"""Memory that is full: torch says so in many ways."""

from collections.abc import Iterator
from contextlib import contextmanager

from gensynth.errors import DeviceMemoryError

# Its words where memory on the CPU is full, or where no machine has as much.
FULL = ("can't allocate memory", "not enough memory", "bad_alloc", "Storage size calculation over")
LESS = "a smaller model or another device"  # what may help in any case


def is_full(error: BaseException) -> bool:
    """Whether an error says that memory is full: Python's, that of a GPU, or in words."""
    import torch  # whoever asks has it

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in FULL)


@contextmanager
def telling_full(what: str, instead: str) -> Iterator[None]:
    """Within the block an allocation that fails is an error that says what may help.

    `what` begins the sentence ("the model x cannot be loaded"), `instead` follows "Try".

    Raises:
        DeviceMemoryError: memory is full.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_full(error):
            raise
        raise DeviceMemoryError(f"{what}: out of memory. Try {instead}.") from error
