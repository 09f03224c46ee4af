"""The step of the GPU that swaps attention: its plan, its arithmetic, and what it says."""

import pytest
import torch

from gensynth_benchmarks.gpu_steps import common
from gensynth_benchmarks.gpu_steps import linearize as step
from gensynth_benchmarks.gpu_steps.linearize import FLUX_NAME, FULL, SDXL_NAME


def row(model, pixels, method, milliseconds):
    return {"model": model, "pixels": pixels, "method": method, "milliseconds": milliseconds}


def test_the_plan():
    rows = list(step.plan(False))
    assert len(rows) == len(set(rows)) == 4 * 5
    assert {row[1] for row in rows} == {1024, 2048, 4096, 8192}
    for number, (_, _, method) in enumerate(rows):  # what a row is compared with comes first
        assert method == FULL or rows[number - 1][1] == rows[number][1]


def test_operations():
    """Of FLUX at 1024 pixels: 57 blocks, 12 matrices of 3072 x 3072 in each, 4,096 tokens."""
    tokens = 64**2
    projections = 2 * 57 * 12 * 3072**2 * tokens
    assert step.operations(FLUX_NAME, 1024, FULL) == projections + 4 * 57 * 3072 * tokens**2
    local = step.operations(FLUX_NAME, 1024, "clear, window 8")
    assert local == projections + 4 * 57 * 3072 * tokens * (512 + 193)
    # 2.99 multiply-adds (10^12) of SDXL's UNet are published at 1024 pixels
    assert step.operations(SDXL_NAME, 1024, FULL) / 2e12 == pytest.approx(2.99, rel=0.01)
    ratio = step.operations(SDXL_NAME, 8192, "linfusion") / step.operations(
        SDXL_NAME, 1024, "linfusion"
    )
    assert ratio == pytest.approx(64)


@pytest.mark.parametrize("model", step.METHODS)
def test_the_swapped_pipeline_draws_other_latents_of_the_same_shape(model):
    swapped = next(method for method in step.METHODS[model] if method != FULL)
    latents = {}
    for method in (FULL, swapped):
        pipe = step.pipeline(model, "cpu", torch.float32, True)
        if method != FULL:
            step.gensynth.linearize(pipe, **step.METHODS[model][method].options)
        given = step.prompt(model, "cpu", torch.float32, True)
        latents[method] = step.one_step(pipe, given, 256)
    assert latents[FULL].shape == latents[swapped].shape
    assert latents[FULL].isfinite().all() and not torch.equal(latents[FULL], latents[swapped])


def test_what_the_rows_say():
    rows = [
        row(FLUX_NAME, 2048, FULL, 900.0),
        row(FLUX_NAME, 2048, "clear, window 8", 600.0),
        row(FLUX_NAME, 1024, FULL, 150.0),
        row(FLUX_NAME, 1024, "clear, window 8", 200.0),
        {"model": FLUX_NAME, "pixels": 4096, "method": FULL, "failed": "out of memory"},
        row(FLUX_NAME, 4096, "clear, window 8", 2000.0),
    ]
    said = step.verdicts(rows)
    assert said[0].endswith("of 0 sizes: not measured; target 1.00")
    assert said[1] == (
        f"{FLUX_NAME}, clear, window 8 over full attention, the least of 2 sizes: 0.75, target "
        "1.00, MISSED"
    )
    (table,) = step.tables(rows, {})
    assert [cells[1] for cells in table.rows] == ["1024", "1024", "2048", "2048", "4096", "4096"]
    assert [cells[5] for cells in table.rows] == ["", "0.75", "", "1.50", "", ""]
    assert table.rows[4][3] == "out of memory"


def test_long_rows_are_not_warmed_up():
    calls = []
    common.timed(lambda: calls.append(1), "cpu", 0.0, warm_ups=0)
    assert len(calls) == 1 + common.FEWEST_RUNS
