"""The scaling benchmark runs, and 65,536 tokens fit into 2 GiB on a CPU."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from gensynth.models.layers.mixers import MIXERS
from gensynth_benchmarks import models as bench

LINEAR = [name for name in MIXERS if name != "softmax"]


@pytest.mark.long
def test_memory_of_65536_tokens():
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        results = [pool.submit(bench.mixer_memory, mixer, "cpu") for mixer in LINEAR]
        for result in results:
            assert result.result().peak_gib < 2, result.result()


def test_exponent():
    assert bench.Scaling("", 1, [1, 4, 16]).exponent == pytest.approx(1)
    assert bench.Scaling("", 1, [1, 16, 256]).exponent == pytest.approx(2)


def test_table(capsys, monkeypatch):
    monkeypatch.setattr(bench, "SIDES", (8, 16))
    row = bench.forward_times("DiCo", "cpu", 0.01)
    assert len(row.milliseconds) == 2 and all(value > 0 for value in row.milliseconds)
    bench.print_tables([row], [bench.Memory("local", 1.5, 0.9)], "cpu")
    printed = capsys.readouterr().out
    assert "DiCo" in printed and "exponent" in printed and "local" in printed


def test_the_compared_models_have_about_as_many_parameters():
    counts = {name: bench.parameters(name) for name in bench.MODELS}
    assert max(counts.values()) < 1.07 * min(counts.values()), counts
