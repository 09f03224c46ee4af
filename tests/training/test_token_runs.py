"""Runs of tokenizers, and of models of their tokens."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from launching import command, launch, training
from PIL import Image
from safetensors.torch import load_file
from tiny import losses, weights, write_masked, write_tokenizer

import gensynth
from gensynth.errors import CorruptError, DivergedError, UsageError
from gensynth.evaluation.evaluate import evaluate
from gensynth.experiments.encoding import encode
from gensynth.experiments.read import load_experiment
from gensynth.pipelines.tokenizer import TokenizerPipeline
from gensynth.sampling.job import Job
from gensynth.sampling.job import run as sample
from gensynth.settings import Settings
from gensynth.training.averages.export import export_decay, open_averages
from gensynth.training.loop import train
from gensynth.training.run import Run
from gensynth.training.session import output
from gensynth.training.session.faults import StopRequest

STEPS = "training.steps=8"


@pytest.fixture(scope="module")
def kinds(tokenizer_folder):
    """How to write the experiment of each kind of run."""
    return {
        "tokenizer": write_tokenizer,
        "masked": lambda folder, **changes: write_masked(
            folder, tokenizer_folder, **{"model.dropout": 0.2, **changes}
        ),
    }


@pytest.fixture(scope="module")
def whole(kinds, tmp_path_factory):
    """An uninterrupted run of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    return {
        kind: train(load_experiment(write(folder / kind), [STEPS])) for kind, write in kinds.items()
    }


def logged(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def states(run: Path) -> dict[str, bytes]:
    """Weights of the model and of what is trained and counted beside it, at the end."""
    newest = sorted((run / "checkpoints").glob("step-????????"))[-1] / "state"
    return {path.name: path.read_bytes() for path in sorted(newest.glob("*.safetensors"))}


@pytest.mark.parametrize("kind", ["tokenizer", "masked"])
@pytest.mark.parametrize("stop_at", [2, 3, 5])  # before and at a replacement of codes, and between
def test_a_resumed_run_is_bit_equal(kind, stop_at, kinds, whole, tmp_path):
    torch.rand(7)  # what torch's own generator stands at does not matter
    config = kinds[kind](tmp_path)
    train(load_experiment(config, [f"training.steps={stop_at}"]))
    run = train(load_experiment(config, [STEPS]))
    assert losses(run) == losses(whole[kind])
    assert weights(run) == weights(whole[kind])
    assert states(run) == states(whole[kind])
    assert len(states(run)) == {"tokenizer": 3, "masked": 1}[kind]


@pytest.mark.parametrize("loss_on", ["all", "masked"])
def test_accumulation_changes_only_rounding(loss_on, kinds, tmp_path):
    changes = {"objective.loss_on": loss_on, "model.dropout": 0.0, "optimizer.lr": 3e-2}
    one = train(load_experiment(kinds["masked"](tmp_path / "one", **changes), [STEPS]))
    four = kinds["masked"](tmp_path / "four", **changes)
    run = train(load_experiment(four, [STEPS, "training.gradient_accumulation=4"]))
    for step, loss in losses(one).items():
        assert losses(run)[step] == pytest.approx(loss, rel=1e-5)


def test_accumulation_of_a_tokenizer_changes_only_rounding(kinds, tmp_path):
    """Codes are replaced by features of the first micro-batch, so without that."""
    changes = {"objective.revive_every": 0}
    one = train(load_experiment(kinds["tokenizer"](tmp_path / "one", **changes), [STEPS]))
    two = kinds["tokenizer"](tmp_path / "two", **changes)
    run = train(load_experiment(two, [STEPS, "training.gradient_accumulation=2"]))
    for step, loss in losses(one).items():
        assert losses(run)[step] == pytest.approx(loss, rel=1e-5)


@pytest.fixture(scope="module")
def two(kinds, tmp_path_factory):
    """The runs by two processes, without dropout, of which they drop what they draw themselves."""
    folder, runs = tmp_path_factory.mktemp("two"), {}
    for kind, write in kinds.items():
        changes = (
            {} if kind == "tokenizer" else {"model.dropout": 0.0, "objective.loss_on": "masked"}
        )
        config = write(folder / kind, **changes)
        done = launch(command, *training(config, STEPS), processes=2)
        assert done.returncode == 0, done.stderr
        runs[kind] = config
    return runs


def test_two_processes_train_what_one_does(two, tmp_path):
    for kind, config in two.items():
        one = train(load_experiment(config, [STEPS, f"output='{tmp_path / kind}'"]))
        together, alone = logged(config.parent / "run"), logged(one)
        assert len(together) == len(alone) == 8
        for entry, expected in zip(together, alone, strict=True):
            for name in expected.keys() & {"loss", "usage", "perplexity", "masked_accuracy"}:
                assert entry[name] == pytest.approx(expected[name], rel=1e-4), (kind, name)
        for name, own in states(one).items():
            path = (
                sorted((config.parent / "run" / "checkpoints").glob("step-*"))[-1] / "state" / name
            )
            (tmp_path / name).write_bytes(own)
            for key, tensor in load_file(tmp_path / name).items():
                torch.testing.assert_close(load_file(path)[key], tensor, atol=1e-4, rtol=1e-4)


def test_two_processes_sample_the_pictures_of_one(two, tmp_path):
    model = str(two["masked"].parent / "run")
    job = ["sample", "--model", model, "-n", "5", "--out"]
    done = launch(command, *job, str(tmp_path / "two"), "--batch-size", "2", processes=2)
    assert done.returncode == 0, done.stderr
    one = sample(Job(model, None, 5, 0), tmp_path / "one")
    names = sorted(path.name for path in one.glob("0*.png"))
    assert len(names) == 5
    assert names == sorted(path.name for path in (tmp_path / "two").glob("0*.png"))
    for name in names:
        a, b = (np.asarray(Image.open(tmp_path / n / name)).astype(int) for n in ("one", "two"))
        assert np.abs(a - b).max() <= 1


def test_what_a_masked_run_draws_is_evaluated(whole, tmp_path):
    model = str(whole["masked"])
    one, other = (
        sample(
            Job(model, None, 4, seed),
            tmp_path / f"{seed}",
        )
        for seed in (0, 10)
    )
    _, report = evaluate(one, str(other))
    assert report["samples"]["count"] == 4
    assert all(np.isfinite(score["value"]) for score in report["scores"])


def test_the_parts_of_a_tokenizers_loss_are_logged(whole):
    entries = logged(whole["tokenizer"])
    always = {"reconstruction", "codebook", "commitment", "usage", "perplexity"}
    for entry in entries:
        assert always <= entry.keys()
        adversary = {"adversarial", "discriminator"} & entry.keys()
        assert adversary == (set() if entry["step"] <= 2 else {"adversarial", "discriminator"})


def test_a_tokenizer_learns(kinds, tmp_path):
    changes = {"optimizer.lr": 1e-2, "training.steps": 60, "objective.adversarial": 0.0}
    run = train(load_experiment(kinds["tokenizer"](tmp_path, **changes)))
    errors = [entry["reconstruction"] for entry in logged(run)]
    assert sum(errors[-5:]) < 0.8 * sum(errors[:5])


def test_a_finished_tokenizer_gives_images_back(whole, fashion):
    from gensynth.data.images import to_pil

    pipeline = gensynth.load(whole["tokenizer"], device="cpu")
    assert isinstance(pipeline, TokenizerPipeline)
    (again,) = pipeline([to_pil(fashion[0])])
    tokens = pipeline.model.encode(fashion[:1])
    assert np.array_equal(np.asarray(again), pipeline.model.decode(tokens)[0, 0].numpy())


@pytest.mark.parametrize("place", ["", "model"])
def test_a_masked_run_on_the_run_of_a_tokenizer(place, whole, tmp_path):
    """What `autoencoder.path` is, and what the finished model holds and draws."""
    config = write_masked(tmp_path, whole["tokenizer"] / place)
    run = train(load_experiment(config, ["training.steps=2"]))
    stored = gensynth.load(whole["tokenizer"], device="cpu").model.state_dict()
    pipeline = gensynth.load(run, device="cpu")
    own = pipeline.autoencoder.state_dict()
    assert own.keys() == stored.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in stored.items())
    (picture,) = pipeline([3], [0])
    assert (picture.size, picture.mode) == ((32, 32), "L")
    for path in (run / "model").rglob("*.json"):
        assert str(tmp_path) not in path.read_text()


def test_the_tokenizer_of_a_masked_run_is_not_trained(kinds, tmp_path, tokenizer_folder):
    run = train(load_experiment(kinds["masked"](tmp_path), ["training.steps=2"]))
    own = load_file(run / "model" / "autoencoder" / "diffusion_pytorch_model.safetensors")
    stored = load_file(tokenizer_folder / "model" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(own[name], tensor) for name, tensor in stored.items())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("autoencoder.patch=8", "autoencoder.patch is 8, but .* is 4"),
        ("autoencoder.codebook_size=32", "codebook_size is 32, but .* is 16"),
        ("data.channels=3", "set data.channels=1"),
    ],
)
def test_a_tokenizer_that_is_not_what_was_said(kinds, tmp_path, override, words):
    with pytest.raises(UsageError, match=words):
        train(load_experiment(kinds["masked"](tmp_path), [override]))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"codebook_size": 8}, "tokens of 8 codes"), ({"seed": 1}, "as many codes")],
)
def test_a_finished_model_with_another_tokenizer_is_refused(
    change, words, whole, tmp_path, make_tokenizer
):
    folder = shutil.copytree(whole["masked"] / "model", tmp_path / "copy")
    shutil.rmtree(folder / "autoencoder")
    make_tokenizer(**change).save_pretrained(folder / "autoencoder")
    with pytest.raises(CorruptError, match=words):
        gensynth.load(folder)


def test_encoded_tokens_train_with_the_same_losses(kinds, whole, tmp_path):
    config = kinds["masked"](tmp_path)
    made = encode(load_experiment(config), tmp_path / "encoded")
    assert made.count == 20
    changes = ["data.source=encoded", f"data.path='{tmp_path / 'encoded'}'"]
    run = train(load_experiment(config, [STEPS, *changes]))
    assert losses(run) == losses(whole["masked"])
    assert weights(run) == weights(whole["masked"])


def test_an_exported_average_draws(kinds, tmp_path):
    config = kinds["masked"](tmp_path)
    run = train(load_experiment(config, [STEPS, "ema.decay=[0.9,0.5]"]))
    exported = export_decay(open_averages(run), 0.5, None, tmp_path / "exported")
    loaded = gensynth.load(exported.folder, device="cpu")
    assert loaded.config.codebook == loaded.autoencoder.fingerprint()
    assert len(loaded([1], [1])) == 1
    other = gensynth.load(run, device="cpu").model.state_dict()
    name = "token_embedder.weight"
    assert not torch.equal(loaded.model.state_dict()[name], other[name])


@pytest.mark.parametrize("kind", ["tokenizer", "masked"])
def test_grids_while_it_trains(kind, kinds, tmp_path):
    changes = {"sampling.every": 2, "sampling.num": 6}
    run = train(load_experiment(kinds[kind](tmp_path, **changes), ["training.steps=4"]))
    names = [path.name for path in sorted((run / "samples").glob("*.png"))]
    assert names == ["step-00000002.png", "step-00000004.png"]
    assert Image.open(run / "samples" / names[0]).size[0] >= 6 * 32


def test_grids_change_nothing(kinds, whole, tmp_path):
    for kind, write in kinds.items():
        run = train(load_experiment(write(tmp_path / kind), [STEPS, "sampling.every=2"]))
        assert losses(run) == losses(whole[kind])
        assert weights(run) == weights(whole[kind])


@pytest.mark.parametrize("kind", ["tokenizer", "masked"])
def test_half_precision_trains(kind, kinds, tmp_path):
    changes = {"objective.perceptual": 0.1} if kind == "tokenizer" else {}
    config = kinds[kind](tmp_path, **changes)
    run = train(load_experiment(config, ["training.steps=4", "training.mixed_precision=bf16"]))
    assert all(np.isfinite(loss) for loss in losses(run).values())


def test_a_spoilt_discriminator_is_never_saved(kinds, tmp_path):
    experiment = load_experiment(kinds["tokenizer"](tmp_path))
    stop = StopRequest()
    stop.release()
    run = Run(experiment, output.prepare(experiment), stop)
    run.check_weights()
    with torch.no_grad():
        next(run.learner.beside.parameters()).fill_(torch.nan)
    with pytest.raises(DivergedError, match="weights are not finite"):
        run.check_weights()


def test_a_tokenizer_draws_nothing(whole, tmp_path):
    tokenizer = str(whole["tokenizer"])
    with pytest.raises(UsageError, match=r"is a tokenizer, .* autoencoder\.path"):
        sample(Job(tokenizer, None, 2, 0), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    guided = Job(str(whole["masked"]), None, 2, 0, Settings(guidance=2.0, guide=tokenizer))
    with pytest.raises(UsageError, match="is a tokenizer"):
        sample(guided, tmp_path / "out")
    from gensynth_serve.web.app import create_app

    with pytest.raises(UsageError, match="is a tokenizer"):
        create_app([tokenizer])
