"""The benchmark of operators runs in miniature, and its arithmetic is right."""

import dataclasses
import json

import pytest
import torch

from gensynth.errors import UsageError
from gensynth_benchmarks import cpu_table, kernels, operators
from gensynth_benchmarks.measuring import Ceilings, markdown_table


def test_table_a_in_miniature(tmp_path, capsys, monkeypatch):
    """Every kind of case, kernels in the interpreter; the same command again measures nothing."""
    monkeypatch.setattr(kernels, "ceilings", lambda device, dtype: Ceilings(1e10, 1e11))
    monkeypatch.setattr(
        kernels, "milliseconds", lambda work, device, seconds: work() is None or 1.0
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = kernels.main(device, tmp_path, minutes=5, quick=True)
    assert len(rows) == 9
    for row in rows:
        if row.error is not None:
            assert row.error < (1e-5 if device == "cpu" else 1e-2)
    saved = json.loads((tmp_path / "kernels.json").read_text())
    assert len(saved["rows"]) == 9 and saved["torch"] == torch.__version__
    assert "linear_attention" in (tmp_path / "kernels.md").read_text()
    monkeypatch.setattr(kernels, "measure", None)
    assert len(kernels.main(device, tmp_path, minutes=5, quick=True)) == 9
    assert "not measured" not in capsys.readouterr().out


def test_rows_left_when_the_minutes_are_used_up(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(kernels, "ceilings", lambda device, dtype: Ceilings(1e10, 1e11))
    assert kernels.main("cpu", tmp_path, minutes=0, quick=True) == []
    assert "not measured, run again: linear_attention" in capsys.readouterr().out


def test_results_of_another_device_are_not_mixed_in(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "ceilings", lambda device, dtype: Ceilings(1e10, 1e11))
    (tmp_path / "kernels.json").write_text(json.dumps({"device": "abacus", "rows": []}))
    with pytest.raises(UsageError, match="abacus"):
        kernels.main("cpu", tmp_path, minutes=5, quick=True)


def test_gates():
    gates = {"floor": 0.7, "eager": 2}
    case = kernels.Case(
        "op", "", "forward", None, None, None, 0, 0, torch.float32, definition=print, gates=gates
    )
    half = dataclasses.replace(case, dtype=torch.bfloat16)
    row = kernels.Row("op", "", "forward", floor=0.8, ours=1.0, eager=1.5, compiled=1.2)
    assert kernels.gates(case, row) == "floor 0.80 >= 0.7; eager 1.50 MISSES 2"
    row.error, row.eager_error = 2e-5, 1e-6
    assert kernels.gates(case, row).startswith("error 2.0e-05 MISSES 1.0e-05; floor")
    row.error, row.eager_error = 2e-3, 1e-3  # far inside the gate, but twice as wrong as eager
    assert kernels.gates(half, row).startswith("error 2.0e-03 MISSES 1.3e-03; floor")
    ours_in_float32 = dataclasses.replace(half, published=False)
    assert kernels.gates(ours_in_float32, row).startswith("error 2.0e-03 <= 6.0e-03; floor")
    row.error, row.eager_error = 7e-3, 1e-2
    assert kernels.gates(half, row).startswith("error 7.0e-03 MISSES 6.0e-03; floor")
    assert row.best_peer == ("compiled", 1.2)


def test_floor():
    best = Ceilings(bytes_per_second=1e9, flops_per_second=1e12)
    assert best.milliseconds(1e9, 1e9) == 1000
    assert best.milliseconds(1, 2e12) == 2000


def test_table_e(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cpu_table, "TOKENS", (64, 256))
    monkeypatch.setattr(cpu_table, "MODELS", ("DiCo-S",))
    monkeypatch.setattr(cpu_table, "GRIDS", (64,))
    monkeypatch.setattr(
        cpu_table, "growth", lambda name, s, f=cpu_table.growth: f(name, s, (64, 256))
    )
    cpu_table.main(tmp_path, 0.001, compile_kernels=False)
    printed = capsys.readouterr().out
    assert "DiCo-S" in printed and "4.25" in printed and "exponent" in printed
    assert "linear" in (tmp_path / "operators.md").read_text()


def test_crossover():
    slow = cpu_table.Growth("softmax", [1.0, 16.0, 256.0], (1, 4, 16))
    fast = cpu_table.Growth("linear", [4.0, 16.0, 64.0], (1, 4, 16))
    assert fast.exponent == pytest.approx(1) and slow.exponent == pytest.approx(2)
    assert fast.crossover(slow) == pytest.approx(4)
    assert slow.crossover(fast) is None
    assert cpu_table.Growth("", [0.5, 1, 2], (1, 4, 16)).crossover(slow) == 1


def test_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="--device cpu"):
        operators.main("cuda", tmp_path, 1, 1)


def test_markdown():
    assert markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
