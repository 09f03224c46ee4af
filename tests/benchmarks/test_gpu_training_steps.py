"""The steps of the GPU benchmark that train run in miniature, once, and go on where they ended."""

import json
from functools import partial

import pytest
import torch
from PIL import Image

from gensynth import load
from gensynth.errors import UsageError
from gensynth.experiments.build import build_condition, build_model
from gensynth.experiments.read import load_experiment
from gensynth.files import read_json_lines
from gensynth_benchmarks import gpu
from gensynth_benchmarks.gpu_steps import equal_budget, showcase, train, training_runs
from gensynth_benchmarks.gpu_steps.backbones import weights
from gensynth_benchmarks.gpu_steps.common import Bench
from gensynth_benchmarks.ledger import Ledger
from gensynth_benchmarks.machine import device
from gensynth_benchmarks.measuring import ROOT, Ceilings

ABOUT = {"device": "here", "date": "today", "commit": "c", "kernels": "k", "miniature": True}
SCORE = {"standard_error": 0.5, "floor": 1.0, "samples": 10_000, "metric": "FD(lite0-64)"}


def bench_in(folder, step: str, minutes: float = 5.0) -> Bench:
    ledger = Ledger(folder, step, ABOUT, minutes)
    return Bench(device(), Ceilings(1e10, 1e11), ledger, folder, folder / "runs", None, True)


def again(module, folder, step: str) -> list[dict]:
    """The rows of the same command a second time, which had no time to measure anything."""
    bench = bench_in(folder, step, minutes=0)
    module.run(bench)
    assert bench.ledger.left == []
    return bench.ledger.rows


def texts(module, rows) -> str:
    return "\n".join(table.markdown() for table in module.tables(rows, ABOUT))


@pytest.mark.long
def test_train(tmp_path, monkeypatch, capsys):
    """As a command; the same command again has nothing left to measure."""
    chosen = ("DiCo-XL", "MDTv2-XL/2", "DiT-XL/2 local", "MaskGIT-L")
    monkeypatch.setattr(train, "MODELS", {name: train.MODELS[name] for name in chosen})
    command = ["train", "--out", str(tmp_path), "--miniature"]
    gpu.main(command)
    rows = json.loads((tmp_path / "train.json").read_text())["rows"]
    assert [row["path"] for row in rows] == ["eager", "compiled", "gensynth"] * 4
    for row in rows:
        assert row["images_per_second"] == pytest.approx(2000 / row["milliseconds"])
        assert row["mfu"] == pytest.approx(
            3 * row["forward_flops"] * row["images_per_second"] / 1e11
        )
        assert row["gradient_milliseconds"] > row["average_milliseconds"] > 0
    gpu.main([*command, "--minutes", "0"])
    assert json.loads((tmp_path / "train.json").read_text())["rows"] == rows
    assert "no time was left" not in capsys.readouterr().out
    assert "MaskGIT-L" in (tmp_path / "train.md").read_text()


def test_every_recipe_is_the_published_one(tmp_path):
    """At the published width, as a run has it, without weights of an autoencoder."""
    bench = Bench("cpu", Ceilings(1, 1), None, tmp_path, tmp_path)
    for model in train.MODELS:
        recipe = train.recipe(bench, model, 256, compiled=True)
        assert recipe.model.name == model.split()[0]
        assert recipe.training.compile and recipe.training.mixed_precision == "bf16"
        assert recipe.ema.decay == 0.9999
        with torch.device("meta"):  # the model whose operations are counted
            trained = build_model(recipe, build_condition(recipe, ["a class"] * train.CLASSES))
        assert sum(parameter.numel() for parameter in trained.parameters()) == weights(model, False)
    assert train.recipe(bench, "MDTv2-XL/2", 256, True).optimizer.name == "adan"


def test_the_next_batch_after_one_that_does_not_fit():
    tried = []

    def work(batch: int) -> dict:
        tried.append(batch)
        if batch > 64:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return {"batch": batch}

    assert train.largest(train.BATCHES, work, "cpu") == {"batch": 64}
    assert tried == [256, 128, 64]
    with pytest.raises(torch.OutOfMemoryError, match="not even 128"):
        train.largest([256, 128], work, "cpu")


def test_verdicts_of_training():
    def row(model, path, rate, mfu):
        return {"model": model, "path": path, "images_per_second": rate, "mfu": mfu, "batch": 256}

    rows = [
        row("DiT-XL/2", "eager", 300.0, 0.3),
        row("DiT-XL/2", "compiled", 400.0, 0.46),
        row("DiT-XL/2", "gensynth", 396.0, 0.45),
        row("DiC-XL", "eager", 300.0, 0.3),
        {"model": "DiC-XL", "path": "compiled", "failed": "out of memory"},
    ]
    said = train.verdicts(rows)
    assert said[0] == "MFU of DiT-XL/2, its best path: 0.46, target 0.45, met"
    assert said[1].endswith("0.30, target 0.45, MISSED") and "not measured" in said[2]
    assert said[3].endswith("0.990, target 1.000, MISSED") and "not measured" in said[4]
    table = texts(train, rows)
    assert "| DiT-XL/2 | compiled | 256 | 400 | 400 to 450 | 46% |" in table
    assert "out of memory" in table


@pytest.mark.long
def test_equal_budget(tmp_path, monkeypatch):
    """Two models and their regularizers; the table, the plot, the grids."""
    chosen = {name: equal_budget.MODELS[name] for name in ("MDTv2", "DiCo")}
    monkeypatch.setattr(equal_budget, "MODELS", chosen)
    bench = bench_in(tmp_path, "equal-budget")
    equal_budget.run(bench)
    rows = bench.ledger.rows
    kinds = [row["regularizer"] for row in rows]
    assert kinds == ["", ""] + ["dispersive", "layersync"] * 2
    for row in rows:
        assert row["steps"] == 4 and row["samples"] == 16 and row["distance"] > 0
        assert row["floor"] > 0 and row["curve"][-1][0] == 4 and row["seconds"] > 0
        assert Image.open(tmp_path / row["grid"]).width > 100
        # Without the regularizer's term, which is about -0.2 for LayerSync.
        plain = next(other for other in rows if other["model"] == row["model"])
        assert row["loss"] == pytest.approx(plain["loss"], rel=0.02)
    assert Image.open(tmp_path / equal_budget.PLOT).width == 1200
    assert again(equal_budget, tmp_path, "equal-budget") == rows
    assert "DiCo + layersync" in texts(equal_budget, rows)


def test_about_as_many_parameters(tmp_path):
    """About 35 million each, and no two further apart than 7 %; all see 32x32x3."""
    bench = Bench("cpu", Ceilings(1, 1), None, tmp_path, tmp_path)
    counts = [
        equal_budget.parameters(equal_budget.recipe(bench, model, "", "output=x"))
        for model in equal_budget.MODELS
    ]
    assert all(count == pytest.approx(35e6, rel=0.07) for count in counts)
    assert max(counts) < 1.07 * min(counts)
    for model in equal_budget.BLOCKS:
        for name in equal_budget.REGULARIZERS:
            recipe = equal_budget.recipe(bench, model, name)
            assert recipe.regularizers[0].name == name and recipe.autoencoder.patch == 1
    # The configuration names them all, for a reader who runs one.
    text = (ROOT / "configs" / equal_budget.CONFIG).read_text()
    assert all(f"model='{keywords}'" in text for keywords in equal_budget.MODELS.values())


def test_verdicts_of_equal_budget():
    def row(model, regularizer, distance):
        return {"model": model, "regularizer": regularizer, "distance": distance, **SCORE}

    rows = [row("DiT", "", 12.0), row("DiCo", "", 9.0), row("DiCo", "dispersive", 8.5)]
    said = equal_budget.verdicts(rows)
    assert said[0] == "not measured: DiC, MDTv2, DiT-linear, DiT-local"
    assert said[1].startswith("best: DiCo 9.00, DiT 12.00: lower by 3.00, more than two")
    assert said[2].startswith("DiCo + dispersive 8.50, DiCo 9.00: lower by 0.50, NOT more than")
    failed = {"model": "DiC", "regularizer": "", "failed": "the loss is nan"}
    assert equal_budget.verdicts([failed]) == [f"not measured: {', '.join(equal_budget.MODELS)}"]
    assert "the loss is nan" in texts(equal_budget, [failed])


@pytest.mark.slow
def test_showcase(tmp_path, monkeypatch):
    """A command cut off while training; the next one goes on, to the exported model."""
    monkeypatch.setattr(showcase, "SHOWS", showcase.SHOWS[:1])
    folder = tmp_path / "runs" / "showcase" / "cifar10"
    folder.mkdir(parents=True)
    planned = {"steps": 120, "probed_images_per_second": 1.0, "run": "first"}
    (folder / "plan.json").write_text(json.dumps(planned))
    cut = bench_in(tmp_path, "showcase", minutes=1)  # as long as saving may take
    showcase.run(cut)
    assert cut.ledger.left == ["the training on cifar10"] and cut.ledger.rows == []
    assert json.loads((folder / "run/status.json").read_text())["state"] == "stopped"

    bench = bench_in(tmp_path, "showcase")
    showcase.run(bench)
    steps = [entry["step"] for entry in read_json_lines(folder / "run/log.jsonl")]
    assert steps == list(range(1, 121))
    rows = bench.ledger.rows
    assert [row["part"] for row in rows] == [
        "training",
        *["average"] * 2,
        *["sampler"] * 4,
        "final",
    ]
    assert all(row["run"] == "first" and "failed" not in row for row in rows)
    averages = [row for row in rows if row["part"] == "average"]
    assert rows[-1]["std"] == min(averages, key=lambda row: row["distance"])["std"]
    exported = tmp_path / "runs" / "showcase_cifar10"
    pipeline = load(exported, "cpu")
    samplers = [row for row in rows if row["part"] == "sampler"]
    best = min(samplers, key=lambda row: row["distance"])
    assert pipeline.config.guidance == best["guidance"] == rows[-1]["guidance"]
    assert pipeline.config.steps == showcase.SAMPLERS[best["sampler"]][1]
    # Two bytes for each parameter, and a few for names and settings.
    assert (
        2 * rows[-1]["parameters"] < 1e6 * rows[-1]["megabytes"] < 2 * rows[-1]["parameters"] + 3e4
    )
    assert Image.open(tmp_path / rows[-1]["grid"]).width > 100
    assert again(showcase, tmp_path, "showcase") == rows
    assert "cifar10" in texts(showcase, rows)


@pytest.mark.parametrize(("config", "classes"), [("cifar10", 10), ("tiny_imagenet", 200)])
def test_small_enough_to_ship(config, classes):
    experiment = load_experiment(ROOT / "configs" / config / "showcase.yaml")
    with torch.device("meta"):
        model = build_model(experiment, build_condition(experiment, ["a class"] * classes))
    assert sum(parameter.numel() for parameter in model.parameters()) < 19.5e6


def test_verdicts_of_showcase():
    def row(run, megabytes):
        return {"dataset": "cifar10", "part": "final", "run": run, "megabytes": megabytes}

    said = showcase.verdicts([row("lost", 50.0), row("new", 38.4)])
    assert said[0] == "megabytes of the model of cifar10: 38.4, target at most 40, met"
    assert said[1].endswith("not measured; target at most 40")
    assert "MISSED" in showcase.verdicts([row("new", 40.1)])[0]
    failed = {"dataset": "cifar10", "part": "final", "run": "new", "failed": "out of memory"}
    assert "not measured" in showcase.verdicts([failed])[0]
    assert "out of memory" in texts(showcase, [failed])


def test_a_finished_run_is_taken_as_it_is(tmp_path):
    (tmp_path / "model").mkdir()
    bench, config = bench_in(tmp_path, "x"), "cifar10/showcase.yaml"
    done = training_runs.experiment(bench, training_runs.CIFAR10, config, f"output={tmp_path}")
    assert training_runs.train_until(done, 0.0) == tmp_path


def test_a_curve_has_no_more_points_than_asked():
    points = training_runs.thinned([(step, float(step)) for step in range(1, 1001)], most=200)
    assert len(points) == 200 and points[-1] == [1000, 998.0]
    assert training_runs.thinned([(1, 2.0), (2, 3.0)]) == [[1, 2.0], [2, 3.0]]


def test_no_data(tmp_path):
    bench = Bench("cpu", Ceilings(1, 1), None, tmp_path, tmp_path)
    with pytest.raises(UsageError, match="--data"):
        training_runs.experiment(bench, training_runs.TINY_IMAGENET, "tiny_imagenet/showcase.yaml")


def test_steps_of_a_plan(tmp_path):
    """As many as fit into the time at the measured speed; measured once."""
    bench = bench_in(tmp_path, "x")
    make = partial(equal_budget.recipe, bench, "DiCo", "")
    planned = training_runs.plan(tmp_path / "run", make, 10.0, miniature=True)
    assert planned["steps"] == 4 and planned["probed_images_per_second"] > 0
    assert training_runs.plan(tmp_path / "run", make, 10.0, miniature=True) == planned
    assert not (tmp_path / "run" / "probe").exists()
