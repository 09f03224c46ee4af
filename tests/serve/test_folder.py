"""The private folder: locked while its server lives, made anew if it is taken away."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gensynth.errors import OutputError
from gensynth_serve.web.folder import PREFIX, PrivateFolder, delete_leftovers

HOLD = """
import sys, time
from gensynth_serve.web.folder import PrivateFolder
print(PrivateFolder().path, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The place for temporary files, empty."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def other():
    """The folder of another process, and the process."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    yield Path(process.stdout.readline().strip()), process
    process.kill()
    process.wait()


def test_it_is_private_and_goes_away():
    folder = PrivateFolder()
    assert folder.path.name.startswith(PREFIX)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    (folder.pictures / "a.png").write_bytes(b"x")
    folder.remove()
    assert not folder.path.exists()


def test_only_folders_of_killed_servers_are_deleted(other, temporary):
    path, process = other
    (path / "upload").mkdir()
    mine = PrivateFolder()
    assert path.exists() and mine.path.exists()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    second = PrivateFolder()
    assert not path.exists()
    assert sorted(temporary.iterdir()) == sorted([mine.path, second.path])


def test_what_only_looks_like_one_stays(temporary):
    kept = temporary / "kept"
    kept.mkdir(mode=0o700)
    (kept / "a").write_text("x")
    (temporary / f"{PREFIX}link").symlink_to(kept)
    (temporary / f"{PREFIX}file").write_text("x")
    (temporary / f"{PREFIX}open").mkdir()
    (temporary / f"{PREFIX}open").chmod(0o755)  # never one of ours, which are 0700
    delete_leftovers()
    assert (kept / "a").exists()
    assert len(list(temporary.iterdir())) == 4


@pytest.mark.parametrize("which", ["all", "pictures"])
def test_it_is_made_anew_private_and_locked(which):
    folder = PrivateFolder()
    shutil.rmtree(folder.path if which == "all" else folder.pictures)
    folder.ensure()
    assert folder.pictures.is_dir()
    assert folder.path.stat().st_mode & 0o777 == 0o700
    delete_leftovers()
    assert folder.pictures.is_dir()


def test_one_that_somebody_else_made_meanwhile_is_not_used():
    folder = PrivateFolder()
    shutil.rmtree(folder.path)
    folder.path.mkdir()
    folder.path.chmod(0o777)
    with pytest.raises(OutputError, match=r"others may enter it.*TMPDIR"):
        folder.ensure()


def test_a_place_that_cannot_be_written_is_named(temporary, monkeypatch):
    inside = temporary / "file" / "below"
    inside.parent.write_text("x")
    folder = PrivateFolder()
    shutil.rmtree(folder.path)
    folder.path = inside
    with pytest.raises(OutputError, match=r"cannot write temporary files to .*below.*TMPDIR"):
        folder.ensure()
