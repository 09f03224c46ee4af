"""Evaluations while a model trains: what they write, and that they change nothing else."""

import json
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from launching import command, launch, training
from PIL import Image
from tiny import losses, weights, write_experiment, write_masked

import gensynth
from gensynth.data.files.image_set import open_images
from gensynth.data.images import to_pil
from gensynth.data.sources import open_source
from gensynth.errors import InputError, Stopped, UsageError
from gensynth.evaluation.drawn import DrawnImages
from gensynth.evaluation.evaluate import Fit, evaluate
from gensynth.experiments.read import load_experiment
from gensynth.sampling.job import Job
from gensynth.sampling.job import run as sample
from gensynth.training.loop import train
from gensynth.training.session.checkpoint import Checkpoints
from gensynth.training.session.faults import StopRequest
from gensynth.training.session.output import replacement
from gensynth.training.watching.evaluating import Evaluations
from gensynth.training.watching.log import TrainingLog
from gensynth.training.watching.meter import Meter
from gensynth.training.watching.yardstick import Yardstick, training_images

KEYS = [
    *("step", "images", "seconds", "metric", "value", "standard_error", "floor"),
    *("num_samples", "extractor_fingerprint", "reference", "reference_sha256"),
    *("label_rule", "steps", "guidance", "best"),
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Where the features of this module's images are kept."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("GENSYNTH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    """A folder of 80 test images: four times as many as samples, for a floor."""
    folder = tmp_path_factory.mktemp("real")
    images = open_images("fashion_mnist:test")
    for index in range(80):
        to_pil(images.read(index)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def evaluated(real):
    """Overrides that evaluate every four steps."""
    return ["evaluation.every=4", "evaluation.num=20", f"evaluation.reference='{real}'"]


@pytest.fixture(scope="module")
def run(evaluated, tmp_path_factory) -> Path:
    """Ten steps with evaluations."""
    config = write_experiment(tmp_path_factory.mktemp("evaluated"))
    return train(load_experiment(config, [*evaluated, "training.steps=10"]))


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]


def generators() -> list:
    numpy_state = np.random.get_state()[1].tolist()  # noqa: NPY002 - the global one is meant
    return [torch.get_rng_state().tolist(), numpy_state, random.getstate()]


def test_weights_and_generators_are_those_of_a_run_without(evaluated, tmp_path):
    without = train(load_experiment(write_experiment(tmp_path / "without")))
    before = generators()
    config = write_experiment(tmp_path / "with")
    run = train(load_experiment(config, evaluated))
    assert generators() == before
    assert len(lines(run)) == 3
    assert losses(run) == losses(without)
    assert weights(run) == weights(without)


def test_a_line_for_each_evaluation(run, real):
    entries = lines(run)
    assert [entry["step"] for entry in entries] == [4, 8, 10]
    assert [entry["images"] for entry in entries] == [32, 64, 80]
    seconds = [entry["seconds"] for entry in entries]
    assert seconds == sorted(seconds) and 0 < seconds[0] < 60
    best = np.inf
    for entry in entries:
        assert list(entry) == KEYS
        assert entry["metric"] == "FD(lite0-64 s112)" and entry["num_samples"] == 20
        assert entry["value"] > entry["floor"] > 0 and entry["standard_error"] > 0
        assert entry["reference"] == str(real)
        assert entry["best"] == (entry["value"] < best)
        best = min(best, entry["value"])


def test_the_curve_and_tensorboard_show_them(run):
    with Image.open(run / "evaluations.png") as curve:
        assert curve.size == (700, 400)
    event_files = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = event_files.EventAccumulator(str(run / "tensorboard")).Reload()
    shown = {event.step: event.value for event in events.Scalars("evaluation/fd_s112")}
    assert shown == pytest.approx({entry["step"]: entry["value"] for entry in lines(run)})


def test_nothing_of_the_pictures_stays(run, cache, real):
    assert [path.name for path in run.glob("**/*.png")] == ["evaluations.png"]
    kept = {path.parent for path in cache.glob("features/**/*.safetensors")}
    counts = {path.name for folder in kept for path in folder.glob("*.safetensors")}
    assert counts == {"000000000-000000080.safetensors"}  # the real images


def test_best_is_the_model_that_was_measured(run, real, tmp_path):
    best = [entry for entry in lines(run) if entry["best"]][-1]
    assert json.loads((run / "best" / "evaluation.json").read_text()) == best
    assert gensynth.load(run / "best").classes[8] == "Bag"
    assert len(list(sample(Job(str(run / "best"), None, 3, 0), tmp_path).glob("0*.png"))) == 3
    drawn = DrawnImages(str(run / "best"), 20, batch_size=64)
    _, report = evaluate(drawn, str(real), metrics=["frechet"], fit=Fit(32, "pad"))
    score = next(score for score in report["scores"] if score["name"] == best["metric"])
    for key in ("value", "standard_error"):
        assert best[key] == pytest.approx(score[key], rel=1e-9)
    assert report["reference"]["images_sha256"] == best["reference_sha256"]
    assert report["samples"]["label_rule"] == best["label_rule"]
    drawing = report["samples"]["drawing"]
    assert {key: best[key] for key in ("steps", "guidance")} == {
        key: drawing[key] for key in ("steps", "guidance")
    }
    assert report["extractor"]["fingerprint"] == best["extractor_fingerprint"]


def rewrite(run: Path, **changes) -> None:
    """Changes the lines of a run."""
    entries = [{**entry, **changes} for entry in lines(run)]
    (run / "evaluations.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))


def test_a_worse_model_does_not_replace_the_best(evaluated, tmp_path):
    config = write_experiment(tmp_path)
    run = train(load_experiment(config, [*evaluated, "training.steps=4"]))
    rewrite(run, value=0.0)
    train(load_experiment(config, [*evaluated, "training.steps=8"]))
    assert [entry["best"] for entry in lines(run)] == [True, False]
    assert json.loads((run / "best" / "evaluation.json").read_text())["step"] == 4
    rewrite(run, value=1e9)
    train(load_experiment(config, [*evaluated, "training.steps=12"]))
    assert [entry["best"] for entry in lines(run)] == [True, False, True]
    assert json.loads((run / "best" / "evaluation.json").read_text())["step"] == 12
    # Another number of pictures gives another distance, which the earlier ones say nothing about.
    rewrite(run, value=0.0)
    train(load_experiment(config, [*evaluated, "training.steps=16", "evaluation.num=21"]))
    assert lines(run)[-1]["best"]


@pytest.mark.parametrize("every", [4, 0])
def test_lines_after_the_resumed_step_and_cut_ones_are_dropped(every, evaluated, tmp_path):
    config = write_experiment(tmp_path)
    run = train(load_experiment(config, [*evaluated, "training.steps=8"]))
    with (run / "evaluations.jsonl").open("a") as file:
        file.write(json.dumps({**lines(run)[0], "step": 12}) + '\n{"step": 9, "val')
    done = [*evaluated, f"evaluation.every={every}", "training.steps=9"]
    train(load_experiment(config, done))
    assert [entry["step"] for entry in lines(run)] == ([4, 8, 9] if every else [4, 8])


def test_a_resumed_run_has_the_lines_of_an_uninterrupted_one(run, evaluated, tmp_path):
    config = write_experiment(tmp_path)
    for steps in (3, 6, 10):
        parts = train(load_experiment(config, [*evaluated, f"training.steps={steps}"]))
    entries = {entry["step"]: entry for entry in lines(parts)}
    assert list(entries) == [3, 4, 6, 8, 10]  # with those after the last step of each part
    for entry in lines(run):
        assert entries[entry["step"]]["value"] == entry["value"]
    seconds = [entry["seconds"] for entry in entries.values()]
    assert seconds == sorted(seconds)


def test_seconds_are_those_of_the_checkpoint(evaluated, tmp_path, monkeypatch):
    """And not some read later, which a resumed run, continuing from there, would fall behind."""
    save = Checkpoints.save

    def slowly(*arguments):
        path = save(*arguments)
        time.sleep(0.1)
        return path

    monkeypatch.setattr(Checkpoints, "save", slowly)
    config = write_experiment(tmp_path, **{"checkpoint.keep": 9})
    run = train(load_experiment(config, [*evaluated, "training.steps=6"]))
    for entry in lines(run):
        place = run / "checkpoints" / f"step-{entry['step']:08d}" / "training.json"
        assert entry["seconds"] == round(json.loads(place.read_text())["seconds"], 2)
    # An evaluation that is made up for: the checkpoint is all that is known of the time.
    before = lines(run)[-1]
    (run / "evaluations.jsonl").write_text(json.dumps(lines(run)[0]) + "\n")
    train(load_experiment(config, [*evaluated, "training.steps=6"]))
    assert lines(run)[-1] == before


def test_a_stop_request_ends_an_evaluation_which_is_then_repeated(evaluated, cache, tmp_path):
    """Pictures for minutes; the signal comes when the checkpoint before them has been written."""
    config = write_experiment(tmp_path, **{"checkpoint.every": 100})
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000004"

    def ask() -> None:
        while not checkpoint.is_dir():
            time.sleep(0.01)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    before = set(cache.glob("features/*"))
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    with pytest.raises(Stopped, match=r"stopped at step 4 .*Resume:"):
        train(load_experiment(config, [*evaluated, "evaluation.num=100000"]))
    thread.join()
    run = tmp_path / "run"
    assert not (run / "best").exists() and not (run / "evaluations.jsonl").exists()
    assert set(cache.glob("features/*")) == before
    train(load_experiment(config, evaluated))
    assert [entry["step"] for entry in lines(run)] == [4, 8, 12]


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("evaluation.reference=nowhere", InputError, "evaluation.reference: .*nowhere"),
        ("evaluation.reference=fashion_mnist:val", UsageError, "evaluation.reference: .*val"),
        ("evaluation.extractor=lite1", UsageError, "evaluation.extractor: .*lite1"),
        ("evaluation.weights=nowhere.pth", UsageError, "evaluation.weights: .*nowhere.pth"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_the_first_step(
    override, error, message, evaluated, tmp_path
):
    config = write_experiment(tmp_path)
    with pytest.raises(error, match=message):
        train(load_experiment(config, [*evaluated, override]))
    assert not (tmp_path / "run" / "experiment.yaml").exists()
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_an_unreadable_real_image_is_found_before_the_first_step(real, evaluated, tmp_path):
    shutil.copytree(real, tmp_path / "real")
    (tmp_path / "real" / "7.png").write_bytes((real / "7.png").read_bytes()[:60])
    config = write_experiment(tmp_path)
    with pytest.raises(InputError, match=r"evaluation.reference: .*7.png cannot be read"):
        train(load_experiment(config, [*evaluated, f"evaluation.reference='{tmp_path}/real'"]))
    assert losses(tmp_path / "run") == {}


def test_without_a_reference_the_training_images_are_one(evaluated, tmp_path):
    once = [*evaluated, "training.steps=4", "evaluation.reference=null"]
    run = train(load_experiment(write_experiment(tmp_path), once))
    [entry] = lines(run)
    assert entry["reference"] == "20 training images"
    assert entry["floor"] is None  # which takes four times as many images as there are samples


def test_pictures_in_folders_are_compared_with_themselves(real, tmp_path):
    folder = tmp_path / "pictures" / "shoe"
    folder.mkdir(parents=True)
    Image.open(real / "3.png").resize((50, 30)).save(folder / "a.png")
    shutil.copy(real / "4.png", folder)
    found = {}
    for size in (16, 32):
        data = f"data={{source: imagefolder, path: '{folder.parent}', size: {size}}}"
        overrides = ["evaluation.every=4", data]
        experiment = load_experiment(write_experiment(tmp_path), overrides)
        images = training_images(open_source(experiment.data), experiment.data)
        assert (images.name, images.length) == ("2 training images", 2)
        assert [images.read(index).shape for index in (0, 1)] == [(3, size, size)] * 2
        found[images.fingerprint] = size
    assert len(found) == 2


def test_bundled_data_are_compared_with_their_test_images(tmp_path):
    data = "data={source: fashion_mnist, size: 32, channels: 1, fit: pad}"
    experiment = load_experiment(write_experiment(tmp_path), ["evaluation.every=4", data])
    stop = StopRequest()
    stop.release()
    yardstick = Yardstick(experiment, open_source(experiment.data), stop)
    assert (yardstick.real.name, yardstick.real.length) == ("fashion_mnist:test", 2000)
    assert yardstick.others.name == "fashion_mnist:train"


def test_masked_models_are_evaluated(evaluated, tokenizer_folder, tmp_path):
    config = write_masked(tmp_path, tokenizer_folder)
    run = train(load_experiment(config, [*evaluated, "training.steps=4"]))
    assert [entry["best"] for entry in lines(run)] == [True]
    assert len(gensynth.load(run / "best")(labels=[1], seeds=[0])) == 1


def test_latent_models_are_evaluated_also_without_an_average(evaluated, tiny_vae_folder, tmp_path):
    codec = f"autoencoder={{kind: kl, path: '{tiny_vae_folder}', patch: 8, latent_channels: 4}}"
    once = [*evaluated, "training.steps=2", codec, "data.channels=3", "ema=null"]
    run = train(load_experiment(write_experiment(tmp_path), once))
    assert [entry["step"] for entry in lines(run)] == [2]


def test_two_processes_find_the_number_of_one(real, tmp_path):
    """The same finished run, whose missing evaluation both make up for; two files of features."""
    config = write_experiment(tmp_path)
    train(load_experiment(config, ["training.steps=4"]))
    shutil.copytree(tmp_path / "run", tmp_path / "two")
    asked = ["training.steps=4", "evaluation.every=4", "evaluation.num=513"]
    asked += [f"evaluation.reference='{real}'", "sampling.steps=1"]
    one = train(load_experiment(config, asked))
    output = f"output='{tmp_path / 'two'}'"
    done = launch(command, *training(config, *asked, output), processes=2)
    assert done.returncode == 0, done.stderr
    [alone], [together] = lines(one), lines(tmp_path / "two")
    for key in ("value", "standard_error"):
        assert together[key] == pytest.approx(alone[key], rel=1e-6)
    assert (tmp_path / "two" / "best" / "model_index.json").is_file()


def test_pictures_that_are_all_alike_do_not_end_a_run(
    evaluated, make_pipeline, make_model, tmp_path, capsys
):
    config = write_experiment(tmp_path)
    experiment = load_experiment(config, evaluated)
    stop = StopRequest()
    try:
        evaluations = Evaluations(experiment, tmp_path, open_source(experiment.data), stop)
        log = TrainingLog(tmp_path, 0, 12)
        evaluations.resume(0, log)
        evaluations.prepare(0)
        model = make_model()
        for weight in model.parameters():
            weight.data.fill_(1e3)  # every pixel is white
        assert evaluations.due(4)
        evaluations.evaluate(make_pipeline(model=model), 4, 1.0, tmp_path)
        log.close()
    finally:
        stop.release()
    assert "not evaluated: all samples are the same picture" in capsys.readouterr().err
    assert not (tmp_path / "evaluations.jsonl").exists() and not evaluations.due(4)


def test_a_pause_takes_no_time_of_the_training():
    meter = Meter(torch.device("cpu"), earlier=100.0)
    begun, since = meter.begun, meter.since
    with meter.paused():
        time.sleep(0.05)
    assert meter.begun - begun >= 0.05 and meter.since - since >= 0.05
    assert meter.seconds >= 100.0


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "best"
    for number in (1, 2):
        with replacement(folder) as temporary:
            (temporary / str(number)).touch()
    with pytest.raises(RuntimeError), replacement(folder) as temporary:
        (temporary / "3").touch()
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["2"]
    assert list(tmp_path.iterdir()) == [folder]
