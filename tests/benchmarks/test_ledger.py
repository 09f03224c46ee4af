"""Rows are measured once, kept at once, and kept where they fail."""

import json
import weakref

import pytest
import torch

from gensynth.errors import InputError, Stopped, UsageError
from gensynth_benchmarks.ledger import Ledger

ABOUT = {
    "device": "abacus",
    "kernels": "k",
    "torch": "2",
    "triton": "3",
    "miniature": False,
    "date": "today",
    "commit": "c",
}


def test_a_row_is_measured_once(tmp_path):
    ledger = Ledger(tmp_path, "ops", ABOUT, minutes=1)
    first = ledger.measure(lambda: {"milliseconds": 3.0}, model="DiT", pixels=256)
    assert first == {
        "model": "DiT",
        "pixels": 256,
        "milliseconds": 3.0,
        "date": "today",
        "commit": "c",
    }
    assert json.loads((tmp_path / "ops.json").read_text())["rows"] == [first]
    later = Ledger(tmp_path, "ops", ABOUT | {"date": "tomorrow"}, minutes=1)
    assert later.measure(lambda: {"milliseconds": 4.0}, model="DiT", pixels=256) == first
    assert later.measure(lambda: {"milliseconds": 4.0}, model="DiT", pixels=512) != first
    assert [row["date"] for row in later.rows] == ["today", "tomorrow"]
    assert later.find(pixels=512)["milliseconds"] == 4.0 and later.find(model="DiC") is None


@pytest.mark.parametrize("changed", ["torch", "triton", "miniature"])
def test_rows_of_other_libraries_are_put_aside(tmp_path, changed):
    Ledger(tmp_path, "ops", ABOUT, minutes=1).measure(lambda: {"value": 1}, model="DiT")
    other = Ledger(tmp_path, "ops", ABOUT | {changed: "other"}, minutes=1)
    assert other.rows == []
    assert len(json.loads((tmp_path / "ops-earlier.json").read_text())["rows"]) == 1


def test_other_kernels_concern_the_rows_that_use_them(tmp_path):
    ledger = Ledger(tmp_path, "ops", ABOUT, minutes=1)
    ledger.measure(dict, path="eager")
    ledger.measure(dict, path="gensynth", kernels=True)
    other = Ledger(tmp_path, "ops", ABOUT | {"kernels": "other"}, minutes=1)
    assert [row["path"] for row in other.rows] == ["eager"]


def test_no_row_is_started_without_time(tmp_path):
    ledger = Ledger(tmp_path, "ops", ABOUT, minutes=0)
    assert ledger.measure(dict, model="DiT", tile="") is None
    patient = Ledger(tmp_path, "ops", ABOUT, minutes=1)
    assert patient.measure(dict, needs=100, model="DiC", pixels=256) is None
    assert patient.measure(dict, needs=30, model="DiC", pixels=512) is not None
    assert ledger.left == ["DiT"] and patient.left == ["DiC, 256"]


def test_what_failed_is_kept_and_the_next_row_measured(tmp_path):
    ledger = Ledger(tmp_path, "ops", ABOUT, minutes=1)

    def too_large():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate a lot.")

    def unknown():
        raise RuntimeError("\nno kernel image\nsecond line")

    assert ledger.measure(too_large, model="DiT")["failed"] == "out of memory"
    assert ledger.measure(unknown, model="DiC")["failed"] == "RuntimeError: no kernel image"
    assert ledger.measure(dict, model="DiCo") is not None
    again = Ledger(tmp_path, "ops", ABOUT, minutes=1)
    assert "failed" in again.measure(dict, model="DiT")
    retried = Ledger(tmp_path, "ops", ABOUT, minutes=1, retry=True)
    assert "failed" not in retried.measure(dict, model="DiT")
    assert len(retried.rows) == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, TypeError, Stopped])
def test_the_next_command_goes_on_behind_a_row_that_ended_the_last(tmp_path, error):
    ledger = Ledger(tmp_path, "ops", ABOUT, minutes=1)

    def ends():
        raise error

    with pytest.raises(error):
        ledger.measure(ends, model="DiT")
    following = Ledger(tmp_path, "ops", ABOUT, minutes=1)
    assert following.find(model="DiT")["failed"].startswith("cut off")
    assert "failed" in following.measure(dict, model="DiT")
    assert "failed" not in following.measure(dict, model="DiC")


def test_what_a_row_failed_with_is_freed(tmp_path):
    ledger = Ledger(tmp_path, "ops", ABOUT, minutes=1)
    held = []

    def fails():
        large = torch.ones(1)
        held.append(weakref.ref(large))
        raise torch.OutOfMemoryError

    ledger.measure(fails, model="DiT")
    assert held[0]() is None


def test_files_that_cannot_be_gone_on_with(tmp_path):
    (tmp_path / "ops.json").write_text(json.dumps(ABOUT | {"rows": []}))
    with pytest.raises(UsageError, match=r"of abacus, this is toaster; give another --out"):
        Ledger(tmp_path, "ops", ABOUT | {"device": "toaster"}, minutes=1)
    (tmp_path / "ops.json").write_text("[]")
    with pytest.raises(InputError, match="no table of results"):
        Ledger(tmp_path, "ops", ABOUT, minutes=1)
