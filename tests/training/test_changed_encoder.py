"""Runs with a frozen text encoder that another one takes the place of, or that moves."""

import shutil

import pytest
import test_captions
from safetensors.torch import load_file, save_file
from tiny import losses

import gensynth
from gensynth.errors import CorruptError, InputError, RefusedError, UsageError
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train

encoder = test_captions.encoder
ONE = ["training.steps=1", "sampling.every=0"]
LORA = ["lora={rank: 2}", "optimizer.lr=1e-2"]


@pytest.fixture(scope="module")
def first(tmp_path_factory, encoder):
    """A folder with an encoder, `run`, a run of one step with it, and `other`, another encoder."""
    folder = tmp_path_factory.mktemp("first")
    for name in ("clip", "other"):
        shutil.copytree(encoder, folder / name)
    change(folder / "other")
    config = test_captions.write(folder, folder / "clip")
    train(load_experiment(config, [*ONE, f"output={folder / 'run'}"]))
    return folder


def change(folder):
    path = folder / "model.safetensors"
    save_file({k: 2 * v for k, v in load_file(path).items()}, path, {"format": "pt"})


def test_a_run_is_not_resumed_with_a_changed_encoder(encoder, tmp_path):
    clip = shutil.copytree(encoder, tmp_path / "clip")
    config = test_captions.write(tmp_path, clip)
    train(load_experiment(config, ONE))
    kept = (clip / "model.safetensors").read_bytes()
    change(clip)
    longer = load_experiment(config, [*ONE, "training.steps=2"])
    with pytest.raises(RefusedError, match=r"clip' has changed since .* Put the earlier one back"):
        train(longer)
    (clip / "model.safetensors").write_bytes(kept)  # the advice
    assert len(losses(train(longer))) == 2


def test_beginning_with_another_encoder_is_said_and_with_adapters_refused(first, tmp_path, capsys):
    other = [f"init_from={first / 'run'}", f"condition.encoder={first / 'other'}"]
    config = test_captions.write(tmp_path, first / "clip")
    train(load_experiment(config, [*ONE, *other, f"output={tmp_path / 'a'}"]))
    assert "note: its text encoder is another one than that of this run" in capsys.readouterr().err
    with pytest.raises(UsageError, match="but its text encoder is another one"):
        train(load_experiment(config, [*ONE, *other, *LORA, f"output={tmp_path / 'b'}"]))
    copy = shutil.copytree(first / "clip", tmp_path / "copy")  # the same at another place
    same = [other[0], f"condition.encoder={copy}"]
    train(load_experiment(config, [*ONE, *same, *LORA, f"output={tmp_path / 'c'}"]))


def test_a_model_that_is_passed_on_with_its_encoder_draws_the_same(first, tmp_path):
    before = gensynth.load(first / "run", device="cpu").draw(["a grey bag"], [0])[0]
    shutil.copytree(first / "run/model", tmp_path / "model")
    (first / "clip").rename(first / "gone")
    try:
        with pytest.raises(InputError, match="Put the text encoder"):
            gensynth.load(tmp_path / "model", device="cpu")
        shutil.copytree(first / "gone", tmp_path / "model/text_encoder")
        pipe = gensynth.load(tmp_path / "model", device="cpu")
        assert pipe.draw(["a grey bag"], [0])[0].tobytes() == before.tobytes()
        pipe.save_pretrained(tmp_path / "saved")
        change(tmp_path / "model/text_encoder")
        with pytest.raises(CorruptError, match="is not, or no longer, the one"):
            gensynth.load(tmp_path / "model", device="cpu")
    finally:
        (first / "gone").rename(first / "clip")
