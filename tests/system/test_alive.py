"""A lock ends with its owner and with nobody else."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gensynth.system.alive import Hold

OWNER = """
import os, subprocess, sys, time
from pathlib import Path
from gensynth.system.alive import Hold
hold = Hold(Path(sys.argv[1]), os.O_RDONLY)
assert hold.lock()
if sys.argv[2] == "program":
    child = subprocess.Popen(["sleep", "60"])
else:
    from multiprocessing import get_context
    child = get_context(sys.argv[2]).Process(target=time.sleep, args=(60,))
    child.start()
open(sys.argv[1] + "/read").close()
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("child", ["fork", "spawn", "program"])
def test_children_do_not_keep_the_lock_of_a_killed_process(tmp_path, child):
    (tmp_path / "read").touch()
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), child], stdout=subprocess.PIPE, text=True
    )
    number = int(owner.stdout.readline())
    try:
        with Hold(tmp_path, os.O_RDONLY) as other:
            assert not other.lock()
            os.kill(owner.pid, signal.SIGKILL)
            owner.wait()
            # The child may not have run yet since its fork; it sleeps for much longer than this.
            end = time.monotonic() + 10
            while not other.lock():
                assert time.monotonic() < end
                time.sleep(0.01)
            os.kill(number, 0)  # the child is still there
    finally:
        os.kill(number, signal.SIGKILL)


def test_a_child_ends_nothing_of_its_parent(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with Hold(path) as hold, Hold(path) as other:
        assert hold.lock()
        child = multiprocessing.get_context("fork").Process(target=hold.release)
        child.start()
        child.join()
        assert child.exitcode == 0
        path.read_bytes()  # closing a descriptor of the file ends nothing either
        assert not other.lock()  # nor is a second owner in this process let in
        hold.release()
        assert other.lock()


def test_many_may_share_and_one_may_not(tmp_path):
    path: Path = tmp_path / "file"
    path.touch()
    with Hold(path) as one, Hold(path) as two, Hold(path) as alone:
        assert one.lock(shared=True) and two.lock(shared=True)
        assert not alone.lock()


def test_a_file_of_the_same_name_is_another(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with Hold(path) as hold:
        assert hold.is_at(path)
        (tmp_path / "new").touch()
        (tmp_path / "new").replace(path)
        assert not hold.is_at(path) and not hold.is_at(tmp_path / "new")
