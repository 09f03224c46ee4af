"""Places that can be filled again or moved, and what to do about a disk that is full."""

import errno
import os
import tempfile
from pathlib import Path

from gensynth.errors import OutputError

# What the system says where a disk is full or a place may not be written.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def cache_folder(kind: str) -> Path:
    """Folder for things that can be made again, by kind (`GENSYNTH_CACHE`, ~/.cache/gensynth).

    It may not exist yet.

    Raises:
        OutputError: this user has no home, and the variable is not set.
    """
    try:
        return Path(os.environ.get("GENSYNTH_CACHE", "~/.cache/gensynth")).expanduser() / kind
    except RuntimeError as error:
        raise OutputError(
            "this user has no home folder; set GENSYNTH_CACHE to a folder that can be written."
        ) from error


def at_home(path: str) -> str:
    """A path as a shell reads it: "~" is the home of whoever runs this."""
    return os.path.expanduser(path)  # noqa: PTH111 - Path's raises where there is no home


def check_writable(folder: Path, instead: str = "choose another --out") -> None:
    """Whether a folder is there and can be written, or can be made. Nothing is left behind.

    Args:
        instead: what to do, to end the message.

    Raises:
        OutputError: neither.
    """
    there = (place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    nearest = next(there)
    if not nearest.is_dir():
        what = "a file" if nearest.exists() else "a link to nothing"
        raise OutputError(f"{nearest} is {what}, so it can hold no folder; {instead}.")
    try:  # asking for permissions is not enough: some file systems let nobody make a file
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write to {nearest}: {reason}; {instead}.") from error


def about_disk(error: OSError) -> OutputError | None:
    """What to do where the disk is full or a place may not be written; None of other errors.

    Of a cache it names the variable that moves it.
    """
    if error.errno not in _DISK:
        return None
    place = Path(os.fsdecode(error.filename)) if error.filename else None
    remedy = "free some space, or choose a place that can be written"
    if place is not None:
        moved = next((name for name, root in _caches().items() if place.is_relative_to(root)), None)
        if moved is not None:
            remedy = f"set {moved} to a folder that can be written and has space"
    return OutputError(
        f"{place or 'a file or standard output'} cannot be written: {error.strerror}; {remedy}."
    )


def _caches() -> dict[str, Path]:
    """Environment variable -> the folder that it moves; that of Hugging Face holds what it loads.

    Their place is known without importing it.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    hub = os.environ.get("HF_HOME", f"{cache}/huggingface")
    return {
        "GENSYNTH_CACHE": cache_folder(""),
        "HF_HOME": Path(at_home(hub)),
    }
