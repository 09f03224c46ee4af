"""What killed processes leave behind, and who may remove it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gensynth.data.files.npz import StoredArray
from gensynth.files import give_name, use_folder
from gensynth.system.disk import about_disk, cache_folder
from gensynth.system.temporary import owned_file

DIE = """
import os, signal, sys
from pathlib import Path
from gensynth.system.temporary import owned_file
path, kept = owned_file(".npy", Path(sys.argv[1]))
print(path, flush=True)
if sys.argv[2] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""


def start(folder: Path, what: str) -> tuple[subprocess.Popen, Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", DIE, str(folder), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, Path(process.stdout.readline().strip())


def test_files_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path):
    dead, left = start(tmp_path, "die")
    dead.wait()
    assert left.is_file()
    alive, used = start(tmp_path, "live")
    assert used.is_file() and not left.exists()
    own, hold = owned_file(".npy", tmp_path)
    assert used.is_file() and own.is_file() and own != used
    _, kept = owned_file(".npy", tmp_path)  # of the same process
    assert own.is_file()
    for one in (hold, kept):
        one.release()
    alive.communicate("")


def test_files_of_other_programs_stay(tmp_path):
    for name in ("gensynth-samples.npy", "gensynth-report.log", "samples.npy"):
        (tmp_path / name).touch()
    _, hold = owned_file(".npy", tmp_path)
    hold.release()
    assert len(list(tmp_path.iterdir())) == 4


def test_an_unpacked_array_goes_with_its_object(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "unpacked"))
    (tmp_path / "unpacked").mkdir()
    np.savez_compressed(tmp_path / "a.npz", np.arange(12, dtype=np.uint8).reshape(3, 4))
    array = StoredArray(tmp_path / "a.npz", "arr_0")
    assert array.row(2).tolist() == [8, 9, 10, 11]
    again = StoredArray(tmp_path / "a.npz", "arr_0")
    assert again.row(0).tolist() == [0, 1, 2, 3]  # and does not take the first one's file away
    assert array.row(1).tolist() == [4, 5, 6, 7]
    assert len(list((tmp_path / "unpacked").iterdir())) == 2
    del array, again
    assert list((tmp_path / "unpacked").iterdir()) == []
    assert zipfile.is_zipfile(tmp_path / "a.npz")


def test_only_who_is_alone_in_a_folder_cleans_it(tmp_path):
    (tmp_path / "job.json").touch()
    left = tmp_path / ".000001.png.123.tmp"
    left.touch()
    (tmp_path / "mine.tmp").touch()
    first = use_folder(tmp_path, tmp_path / "job.json")
    assert not left.exists() and (tmp_path / "mine.tmp").exists()
    left.touch()
    second = use_folder(tmp_path, tmp_path / "job.json")
    assert left.exists()  # the first may be writing it
    first.release()
    second.release()
    use_folder(tmp_path, tmp_path / "job.json").release()
    assert not left.exists()


def test_a_name_is_given_once(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    assert give_name(tmp_path / "one", tmp_path / "job.json")
    assert not give_name(tmp_path / "two", tmp_path / "job.json")
    assert (tmp_path / "job.json").read_text() == "one"


@pytest.mark.parametrize(
    ("variable", "below"),
    [("GENSYNTH_CACHE", ".cache/gensynth/features/x"), ("HF_HOME", ".cache/huggingface/hub/x")],
)
def test_a_cache_that_cannot_be_written_names_its_variable(monkeypatch, tmp_path, variable, below):
    for name in ("GENSYNTH_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    said = about_disk(PermissionError(13, "Permission denied", str(tmp_path / below)))
    assert f"set {variable} to a folder" in str(said) and said.exit_code == 6
    monkeypatch.setenv(variable, str(tmp_path / "moved"))
    assert "GENSYNTH" not in str(about_disk(PermissionError(13, "Permission denied", "/x")))
    assert about_disk(FileNotFoundError(2, "No such file", "/x")) is None
    if variable == "GENSYNTH_CACHE":
        assert cache_folder("x") == tmp_path / "moved" / "x"
