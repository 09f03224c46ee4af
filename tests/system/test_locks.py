"""One process at a time writes in a place, and its death frees it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gensynth.errors import RefusedError
from gensynth.files import leftovers, new_folder
from gensynth.system.locks import claim, token_in

HOLDER = """
import os, sys, time
from pathlib import Path
from gensynth.system.locks import claim
lock = claim(Path(sys.argv[1]), Path("the place"), "Wait.")
if os.fork() == 0:  # a child that outlives its parent, as data workers may
    print("it runs", flush=True)
    time.sleep(60)
    os._exit(0)
time.sleep(60)
"""
MAKER = """
import sys, time
from pathlib import Path
from gensynth.files import new_folder
with new_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    print("making", flush=True)
    time.sleep(60)
"""


def started(program: str, path: Path) -> subprocess.Popen:
    """A process that has come to its first line of output, in a group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline()
    return process


@pytest.fixture
def holder(tmp_path):
    process = started(HOLDER, tmp_path / ".lock")
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_second_process_is_told_who_writes(holder, tmp_path):
    before = (tmp_path / ".lock").read_bytes()
    with pytest.raises(RefusedError) as refused:
        claim(tmp_path / ".lock", Path("the place"), "Wait.")
    assert f"the place is being written by process {holder.pid} on " in str(refused.value)
    assert str(refused.value).endswith("Wait.") and refused.value.exit_code == 4
    assert (tmp_path / ".lock").read_bytes() == before


def test_kill_9_frees_it_although_a_child_lives_on(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    os.killpg(holder.pid, 0)  # the child is still there
    lock = claim(tmp_path / ".lock", tmp_path, "Wait.")
    assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_this_process_cannot_take_it_twice(tmp_path):
    lock = claim(tmp_path / ".lock", tmp_path, "Wait.")
    with pytest.raises(RefusedError, match="by this process already"):
        claim(tmp_path / "x" / ".." / ".lock", tmp_path, "Wait.")
    lock.release()
    claim(tmp_path / ".lock", tmp_path, "Wait.").release()


def test_the_token_is_what_others_read(tmp_path):
    lock = claim(tmp_path / ".lock", tmp_path, "Wait.")
    code = """
import pathlib, sys
from gensynth.system.locks import token_in
print(token_in(pathlib.Path(sys.argv[1])))
"""
    read = subprocess.run(
        [sys.executable, "-c", code, lock.path], capture_output=True, text=True, check=True
    )
    assert read.stdout.strip() == lock.token
    assert token_in(lock.path) == lock.token  # reading it here does not end the lock
    with pytest.raises(RefusedError):
        claim(tmp_path / ".lock", tmp_path, "Wait.")
    lock.release()
    assert token_in(tmp_path / ".lock") is None


@pytest.mark.parametrize("rest", ["", "{", '["text"]', '{"process": 1}'])
def test_what_is_left_in_the_file_does_not_matter(rest, tmp_path):
    (tmp_path / ".lock").write_text(rest)
    lock = claim(tmp_path / ".lock", tmp_path, "Wait.")
    assert token_in(tmp_path / "other") is None
    lock.release()


def test_a_folder_in_the_making_is_refused_and_after_a_kill_made_anew(tmp_path):
    maker = started(MAKER, tmp_path / "a [b]")
    try:
        refused = pytest.raises(RefusedError, match=r"a \[b\] is being written by process")
        with refused, new_folder(tmp_path / "a [b]"):
            pass
        with new_folder(tmp_path / "other"):  # next to it
            pass
        (tmp_path / ".a [b].c.99.tmp").mkdir()  # of a folder called "a [b].c"
    finally:
        maker.kill()
        maker.wait()
    assert len(leftovers(tmp_path, "a [b]")) == 1
    with new_folder(tmp_path / "a [b]") as folder:
        (folder / "whole").write_text("whole")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".a [b].c.99.tmp", "a [b]", "other"]
    assert [path.name for path in (tmp_path / "a [b]").iterdir()] == ["whole"]


def test_a_disk_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, capsys):
    def unknown(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unknown)
    claim(tmp_path / ".lock", Path("place"), "Wait.").release()
    assert "the disk of place knows no locks" in capsys.readouterr().err
