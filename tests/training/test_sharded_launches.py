"""Launches that spread weights over processes are refused as long as nothing gathers them."""

import pytest
from tiny import write_experiment

from gensynth.errors import UsageError
from gensynth.experiments.read import load_experiment
from gensynth.processes import processes
from gensynth.training.loop import train


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("ACCELERATE_USE_FSDP", "FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM"),
    ],
)
def test_refused_before_anything_is_written(variable, name, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(UsageError, match=f"launch with {name}.*--multi_gpu.*without {variable}"):
        train(load_experiment(write_experiment(tmp_path)))
    assert not (tmp_path / "run").exists()


def test_what_accelerate_sets_to_false_is_fine(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    assert processes().num_processes == 1
