"""Checkpoints that are whole or absent.

A checkpoint is written under `step-N.tmp`, synced, listed in `manifest.json` with sizes and hashes,
and renamed to `step-N`. Resuming takes the newest one whose files all match its manifest.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError

from gensynth.errors import CorruptError, DivergedError, OutputError
from gensynth.training.session.together import Together

MANIFEST = "manifest.json"
TORCH_WRITER = "unexpected pos"  # how torch.save says that a write was cut short


class Checkpoints:
    """The checkpoints of one run, `root/step-00000500` and so on.

    Args:
        root: their folder.
        keep: how many of the newest to keep.
        together: the processes of the run, of which the main one deletes and chooses; None if this
            one is alone.
    """

    def __init__(self, root: Path, keep: int, together: Together | None = None):
        self.root, self.keep, self.together = root, keep, together
        self.is_main = together is None or together.is_main

    def barrier(self) -> None:
        if self.together is not None:
            self.together.barrier()

    def all(self) -> list[Path]:
        """Complete-looking checkpoints, oldest first."""
        found = self.root.glob("step-*")
        return sorted(path for path in found if path.suffix == "" and path.is_dir())

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """The checkpoint of `step`, whose files `write(folder)` makes in every process.

        Raises:
            OutputError: the disk is full or not writable; older checkpoints are untouched.
        """
        final = self.root / f"step-{step:08d}"
        temporary = final.with_suffix(".tmp")
        with self._reporting_full_disk(temporary):
            if self.is_main:
                for abandoned in self.root.glob("step-*.tmp"):
                    shutil.rmtree(abandoned, ignore_errors=True)
                temporary.mkdir(parents=True)
            self.barrier()  # nobody writes before the folder is there
            write(temporary)
            self.barrier()  # nor is it sealed before everybody has written
            if self.is_main:
                _seal(temporary)
                shutil.rmtree(final, ignore_errors=True)
                temporary.rename(final)
                _sync(self.root)  # the new name, too, has to reach the disk
                for old in self.all()[: -self.keep]:
                    shutil.rmtree(old, ignore_errors=True)
        self.barrier()
        return final

    def newest(self) -> Path | None:
        """The newest valid checkpoint; None in a fresh run. Damaged ones are renamed to `.bad`.

        Raises:
            CorruptError: there are checkpoints, but all of them are damaged.
        """
        # One process looks: others may see a network disk as it was before.
        return self._newest() if self.together is None else self.together.from_main(self._newest)

    def _newest(self) -> Path | None:
        damaged = []
        for path in reversed(self.all()):
            problem = problem_with(path)
            if problem is None:
                return path
            damaged.append(f"{path.name} ({problem})")
            print(f"warning: checkpoint {path} is damaged: {problem}; not used.", file=sys.stderr)
            _move(path, ".bad")
        if damaged:
            raise CorruptError(
                f"every checkpoint in {self.root} is damaged: {', '.join(damaged)}. "
                "Restore one from a backup, or start again with another output."
            )
        return None

    def kept(self) -> str:
        """Where a run that ends now will go on, in words."""
        newest = self.all()[-1:]
        if not newest:
            return "There is no checkpoint yet."
        return f"Saved is {newest[0]}, from which the same command resumes."

    def diverged(self, what: str, spoilt_from: int) -> DivergedError:
        """What to raise; checkpoints from step `spoilt_from` on get the ending `.diverged`."""
        spoilt = [path for path in self.all() if _step_of(path) >= spoilt_from]
        self.barrier()  # everybody has looked
        if self.is_main:
            for path in spoilt:
                _move(path, ".diverged")
        self.barrier()
        names = ", ".join(path.with_suffix(".diverged").name for path in spoilt)
        aside = f" The weights that gave this are set aside as {names}." if spoilt else ""
        last = self.all()[-1:]
        good = f"last good state: {last[0]}" if last else "no good checkpoint yet"
        again = (
            " Should that diverge too, move the folder of the last good state away, and the run "
            "resumes from the one before or starts anew."
        )
        return DivergedError(
            f"{what}. Nothing was overwritten; {good}.{aside} Run the command again with a lower "
            "optimizer.lr, optimizer.clip=1.0 or training.mixed_precision=no."
            f"{again if last else ''}"
        )

    @contextlib.contextmanager
    def _reporting_full_disk(self, temporary: Path) -> Iterator[None]:
        # safetensors and torch wrap a failed write in their own SafetensorError and RuntimeError.
        try:
            yield
        except (OSError, SafetensorError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and TORCH_WRITER not in str(error):
                raise
            shutil.rmtree(temporary, ignore_errors=True)
            last = self.all()[-1:]
            kept = f"Nothing was lost: {last[0]} is the last good state. " if last else ""
            raise OutputError(
                f"cannot save a checkpoint in {self.root}: {error}. {kept}"
                "Free some space and run the same command to resume."
            ) from error


def problem_with(path: Path) -> str | None:
    """Why a checkpoint cannot be used, or None if every file is as it was written."""
    manifest = path / MANIFEST
    if not manifest.is_file():
        return f"{MANIFEST} is missing"
    files = _listed(manifest)
    if not files:
        return f"{MANIFEST} is not readable"
    for name, (size, digest) in files.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
        if _sha256(file) != digest:
            return f"{name} has changed"
    return None


def _listed(manifest: Path) -> dict[str, tuple[int, str]]:
    """The files of a manifest with their sizes and hashes; none if it is damaged."""
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        return {name: (int(size), str(digest)) for name, (size, digest) in files.items()}
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ):
        return {}


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _move(path: Path, suffix: str) -> None:
    """Gives a checkpoint another ending, under which it is not found."""
    other = path.with_suffix(suffix)
    shutil.rmtree(other, ignore_errors=True)
    path.rename(other)


def _seal(folder: Path) -> None:
    """Syncs every file and writes the manifest last."""
    files = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        _sync(file)
        files[str(file.relative_to(folder))] = [file.stat().st_size, _sha256(file)]
    # Last, so that a folder with a manifest had all its files written before.
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"files": files}, indent=1) + "\n")
    _sync(manifest)
    for directory in [*folder.rglob("*/"), folder]:
        _sync(directory)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
