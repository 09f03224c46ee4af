"""kill -9 at random moments of a run with snapshots, evaluations and two processes."""

import random

import pytest
from killing import KINDS, in_peace, killed, same, write_real


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_becomes_the_run_in_peace(tmp_path, monkeypatch, kind):
    """Four moments; tools/kill_test.py takes as many as it is told."""
    monkeypatch.setenv("GENSYNTH_CACHE", str(tmp_path / "cache"))
    real, steps = write_real(tmp_path / "real", kind), 40
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown if it fails
    run = killed(tmp_path / "killed", real, steps, 4, random.Random(seed), kind)
    assert same(in_peace(tmp_path / "peace", real, steps, kind), run) == []
