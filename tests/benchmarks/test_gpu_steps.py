"""The steps of `benchmarks/gpu.py` run in miniature, and their arithmetic is right."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gensynth.errors import InputError
from gensynth_benchmarks import gpu
from gensynth_benchmarks.gpu_steps import STEPS, common, highres, models, ops
from gensynth_benchmarks.gpu_steps.backbones import (
    BACKBONES,
    COMPILED,
    DIFFUSERS,
    EAGER,
    OURS,
    PUBLISHED,
    TENSOR_FLOAT,
    build,
    floor,
    flops,
    inputs,
    weights,
)
from gensynth_benchmarks.gpu_steps.summary import BEGIN, END, gpu_text, measured, with_results
from gensynth_benchmarks.measuring import ROOT, Ceilings, crossing


def command(*arguments: str) -> None:
    gpu.main([*arguments, "--miniature", "--minutes", "10"])


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("ops", marks=pytest.mark.slow),
        pytest.param("models", marks=pytest.mark.slow),
        "highres",
        "linearize",
    ],
)
def test_a_step_in_miniature(step, tmp_path, capsys):
    command(step, "--out", str(tmp_path))
    content = json.loads((tmp_path / f"{step}.json").read_text())
    assert content["miniature"] and content["torch"] == torch.__version__
    assert not [row for row in content["rows"] if "failed" in row]
    text = (tmp_path / f"{step}.md").read_text()
    assert text.startswith(f"# {step}\n\nA trial in miniature") and "### Targets" in text
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == f"written to {tmp_path}"
    # The same command again measures nothing.
    command(step, "--out", str(tmp_path))
    assert json.loads((tmp_path / f"{step}.json").read_text())["rows"] == content["rows"]


def test_the_plans_name_every_model_path_size_and_batch():
    tiny, full = set(models.plan(True)), list(models.plan(False))
    assert len(set(full)) == len(full)
    assert {(row[0], row[1], row[4]) for row in full if row[0] == "forward"} == {
        ("forward", name, path)
        for name in [*BACKBONES, DIFFUSERS]
        for path in (EAGER, COMPILED, OURS)
        if (name, path) != (DIFFUSERS, OURS)
    } | {("forward", name, path) for name in models.MAIN for path in (PUBLISHED, TENSOR_FLOAT)}
    assert {row[4] for row in tiny} == {row[4] for row in full}
    assert {row[1] for row in tiny} == {row[1] for row in full}
    pixels = {(row[2], row[3]) for row in full if row[0] == "forward"}
    assert pixels == {(size, batch) for size in (256, 512, 2048) for batch in (1, 8, 64)}


def test_ours_in_miniature_is_the_same_function():
    for name in ("DiCo-XL", "DiT-XL/2 local"):
        row = models.forward_row(bench(), name, 64, 2, OURS)
        assert row["difference_from_eager"] < 1e-5
        assert row["images_per_second"] == pytest.approx(2000 / row["milliseconds"])


def bench() -> common.Bench:
    return common.Bench("cpu", Ceilings(1e10, 1e11), None, Path(), Path(), miniature=True)


def test_weights_are_nowhere_all_zero():
    model = build("DiCo-XL", 64, EAGER, "cpu", True)
    assert all(parameter.any() for parameter in model.parameters())
    sample, timestep, labels = inputs(model, 64, 3)
    assert sample.shape == (3, 4, 8, 8) and len(set(timestep.tolist())) == len(set(labels.tolist()))


def test_floors():
    """GFLOPs of the papers; of local attention the pairs of the discs."""
    assert flops("DiT-XL/2", 256, False) == pytest.approx(2 * 118.6e9, rel=1e-3)
    assert flops("DiCo-XL", 256, False) == pytest.approx(2 * 87.3e9, rel=2e-3)
    assert flops("DiC-XL", 256, False) == pytest.approx(2 * 116.1e9, rel=1e-3)
    assert flops(DIFFUSERS, 256, False) == flops("DiT-XL/2", 256, False)
    dense, local = (flops(name, 512, False) for name in ("DiT-XL/2", "DiT-XL/2 local"))
    side, pairs = 32, 0
    for y in range(side):
        for x in range(side):
            near = [(b - y) ** 2 + (a - x) ** 2 < 64 for b in range(side) for a in range(side)]
            pairs += sum(near)
    assert dense - local == 4 * (side**4 - pairs) * 1152 * 28
    best = Ceilings(bytes_per_second=1e12, flops_per_second=1e14)
    at_64 = floor("DiT-XL/2", 256, 64, best, "cuda", False)
    assert at_64 == pytest.approx(1000 * 64 * flops("DiT-XL/2", 256, False) / 1e14)
    at_1 = floor("DiT-XL/2", 256, 1, Ceilings(1e12, 1e18), "cuda", False)
    assert at_1 == pytest.approx(1000 * 2 * weights("DiT-XL/2", False) / 1e12)


def forward(model: str, pixels: int, path: str, rate: float, batch: int = 64, **more) -> dict:
    key = {"what": "forward", "model": model, "pixels": pixels, "batch": batch, "path": path}
    return key | {"images_per_second": rate, "milliseconds": 1000 * batch / rate} | more


def test_verdicts_of_models():
    rows = [
        forward("DiT-XL/2", 256, COMPILED, 1000.0),
        forward("DiT-XL/2", 256, EAGER, 800.0),
        forward("DiT-XL/2", 256, OURS, 990.0),
        forward("DiCo-XL", 256, OURS, 1300.0, share_of_floor=0.65),
        forward("DiCo-XL", 512, OURS, 500.0),
        forward("DiT-XL/2", 512, COMPILED, 400.0),
        {**forward("DiT-XL/2", 2048, COMPILED, 1.0, 8), "failed": "out of memory"},
        forward("DiCo-XL", 256, PUBLISHED, 270.0),
        forward("DiT-XL/2", 256, PUBLISHED, 90.0),
    ]
    said = models.verdicts(rows)
    assert said[0].endswith("at 256, batch 64: 1.30, target 1.25, met")
    assert said[1].endswith("at 512, batch 64: 1.25, target 1.45, MISSED")
    assert said[2].endswith("not measured; target 3.50")
    assert said[3].endswith("0.65, target 0.70, MISSED")
    assert "the worst of 1: 0.99, target 1.00, MISSED (forward DiT-XL/2 256 64)" in said[4]
    assert said[5].endswith("float32 eager: 3.00; published 2.7")
    assert said[7].endswith("not measured; published 5.0")


def test_tables_of_models_say_what_was_predicted_and_what_failed():
    rows = [
        forward("DiCo-XL", 256, OURS, 1300.0, difference_from_eager=2e-3),
        {"what": "forward", "model": "DiT-XL/2", "pixels": 256, "batch": 64, "path": EAGER}
        | {"failed": "out of memory"},
        {**forward("DiCo-XL", 256, OURS, 4.0), "what": "sampler", "steps": 50},
        {**forward("decoder of latents", 256, EAGER, 8.0), "what": "decoding"},
    ]
    forwards, samplers = models.tables(rows, {})
    assert forwards.rows[0][4:6] == ["1,300.0", "2,430"] and forwards.rows[1][4] == "out of memory"
    assert samplers.rows[0][5:7] == ["4.00", "2.67"]  # 16 s of drawing, 8 of decoding


def test_crossings():
    sizes = [256, 512, 1024]
    assert crossing(sizes, [4, 4, 4], [1, 4, 16]) == pytest.approx(512)
    assert crossing(sizes, [2, 4, 8], [1, 4.0001, 16]) == pytest.approx(512, rel=1e-3)
    assert crossing(sizes, [1, 1, 1], [2, 2, 2]) == 256
    assert crossing(sizes, [2, 2, 2], [1, 1, 1]) is None
    rows = [
        {"what": "step", "model": name, "pixels": pixels, "path": OURS, "milliseconds": time}
        for name, times in (("DiCo-XL", (4, 4, 4)), ("DiT-XL/2", (1, 4, 16)))
        for pixels, time in zip(sizes, times, strict=True)
    ]
    assert list(highres.crossings(rows)) == [["DiCo-XL", "DiT-XL/2", "512"]]
    assert highres.verdicts(rows)[0] == "DiCo-XL passes DiT-XL/2 from 512 pixels on"
    assert highres.verdicts(rows)[1] == "DiC-XL beside DiT-XL/2: not measured"


def test_what_pytest_says_is_read():
    output = (
        "FAILED tests/a.py::b - assert 1\nERROR tests/c.py\n2 failed, 30 passed, 1 error in 9.5s\n"
    )
    row = ops.counted(output)
    assert (row["passed"], row["failing"], row["errors"]) == (30, 2, 1)
    assert row["names"] == ["tests/a.py::b - assert 1", "tests/c.py"]
    said = ops.verdicts([{"what": "GPU tests", **row}])
    assert said[0].startswith("GPU tests: 30 passed, 2 failing, 1 errors, 0 skipped: tests/a.py::b")
    with pytest.raises(RuntimeError, match="Segmentation"):
        ops.counted("Segmentation fault\n")


def test_times_are_medians_and_halves_are_compared():
    calls: list[int] = []
    row = common.timed(lambda: calls.append(1), "cpu", 0.0)
    assert len(calls) == common.WARM_UPS + 1 + common.FEWEST_RUNS
    assert row["milliseconds"] > 0 <= row["spread"]
    assert common.verdict("a", 1.0, 1.0) == "a: 1.00, target 1.00, met"


def test_the_page_of_speed_holds_what_the_results_say():
    page = (ROOT / "docs/speed.md").read_text(encoding="utf-8")
    assert with_results(page, ROOT / "benchmarks" / "results") == page, (
        "run: python benchmarks/gpu.py tables"
    )


def test_the_tables_of_gpus(tmp_path):
    assert "No GPU has run any of this yet" in gpu_text(tmp_path)
    about = {
        "device": "abacus",
        "date": "today",
        "torch": "2",
        "commit": "c",
        "command": "python benchmarks/gpu.py models",
        "copy_bytes_per_second": 4.3e12,
        "matmul_flops_per_second": 7.9e14,
        "rows": [forward("DiCo-XL", 256, OURS, 1300.0, difference_from_eager=2e-3)],
    }
    for folder, more in (("abacus", {}), ("cpu-2-threads", {}), ("toy", {"miniature": True})):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "models.json").write_text(json.dumps(about | more))
    assert [device for device, _ in measured(tmp_path)] == ["abacus"]
    text = with_results(f"before\n{BEGIN}\nold\n{END}\nafter\n", tmp_path)
    assert "old" not in text and text.startswith("before") and text.endswith("after\n")
    assert (
        "4.30 TB/s, 790 TFLOP/s" in text and "| DiCo-XL | 256 | 64 | gensynth | 1,300.0 |" in text
    )
    assert "not run: ops, train, equal-budget, showcase, highres" in text
    assert with_results(text, tmp_path) == text
    with pytest.raises(InputError, match=r"speed\.md needs"):
        with_results("nothing", tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_script_says_what_to_do(capsys):
    program = [sys.executable, str(ROOT / "benchmarks" / "gpu.py")]
    listed = subprocess.run([*program, "--list"], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(STEPS)
    for arguments, message in (
        (["models"], "torch finds no GPU here; --miniature"),
        ([], "give a step: ops, models"),
    ):
        with pytest.raises(SystemExit) as ended:
            gpu.main(arguments)
        assert ended.value.code == 2 and message in capsys.readouterr().err
