"""Runs on captions: equal losses from files, latents and texts, in two processes, and resumed."""

import json
import re
import shlex
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from launching import command as gensynth_command
from launching import launch, training
from tiny import losses, weights, write_experiment
from tiny_clip import save_clip

from gensynth.errors import InputError, UsageError
from gensynth.experiments.encoding import encode
from gensynth.experiments.encoding_texts import encode_texts
from gensynth.experiments.read import load_experiment
from gensynth.training.feeding import check_words
from gensynth.training.loop import train

STEPS = "training.steps=6"
NAMES = [
    "shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "top",
    "sneaker",
    "bag",
    "boot",
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A folder of a tiny CLIP with random weights."""
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder, NAMES)
    return folder


def write(folder, encoder=None):
    """The YAML of a tiny run on captions, most pictures with two; one has none."""
    path = write_experiment(folder)
    table = pq.read_table(folder / "images.parquet")
    names = [NAMES[label] for label in table["label"].to_pylist()]
    captions = [[name, f"a grey {name}", ""] for name in names]
    captions[3] = []
    table = table.drop_columns("label").append_column("caption", pa.array(captions))
    pq.write_table(table.replace_schema_metadata(None), folder / "images.parquet")
    tree = yaml.safe_load(path.read_text())
    small = {"encoder": "small", "length": 8, "width": 16, "layers": 1, "heads": 2}
    frozen = {"encoder": str(encoder), "length": 12}
    tree["condition"] = {"kind": "text", **(frozen if encoder else small)}
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def frozen(tmp_path_factory, encoder):
    """The folder, experiment and run of six steps with a frozen encoder."""
    folder = tmp_path_factory.mktemp("frozen")
    config = write(folder, encoder)
    return folder, config, train(load_experiment(config, [STEPS]))


def again(frozen, folder, *overrides):
    """The same run with other settings, in a folder."""
    overrides = [STEPS, f"output={folder / 'again'}", *overrides]
    return train(load_experiment(frozen[1], overrides))


def test_encoded_texts_and_latents_train_as_on_the_fly(frozen, tmp_path, monkeypatch):
    out = tmp_path / "out"
    encode(load_experiment(frozen[1]), out)
    record = encode_texts(load_experiment(frozen[1]), out)
    said = pq.read_table(frozen[0] / "images.parquet")["caption"].to_pylist()
    different = {text for captions in said for text in captions if text}
    assert record.count == len(different) + 1  # and "nothing"
    assert 2 * len(said) > len(different) > 10

    def never(self, *_):
        raise AssertionError("the encoder is asked again")

    monkeypatch.setattr("gensynth.conditions.text_encoder.FrozenTextEncoder._encoded_now", never)
    without = ["sampling.every=0"]
    beside = ["data.source=encoded", f"data.path={out}", *without]
    for name, overrides in (("a", beside), ("b", [f"data.texts={out}", *without])):
        run = again(frozen, tmp_path / name, *overrides)
        assert losses(run) == losses(frozen[2])
        assert weights(run) == weights(frozen[2])


def test_a_run_may_take_up_encoded_texts_when_it_goes_on(frozen, tmp_path):
    encode_texts(load_experiment(frozen[1]), tmp_path / "out")
    again(frozen, tmp_path, "training.steps=3")
    run = again(frozen, tmp_path, f"data.texts={tmp_path / 'out'}")
    assert losses(run) == losses(frozen[2])
    assert weights(run) == weights(frozen[2])


def test_the_command_and_its_advice(command, frozen, tmp_path):
    order = ("encode", "--config", frozen[1], "--out", tmp_path / "out", "--text")
    done = command(*order)
    assert done.returncode == 0, done.stderr
    advice = shlex.split(done.stdout.rpartition("Try: gensynth ")[2])
    assert f"data.texts={tmp_path / 'out'}" in advice
    done = command(*advice, STEPS, f"output={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "run") == losses(frozen[2])
    done = command(*order)
    assert done.returncode == 4 and "texts exists already; remove it" in done.stderr


def test_texts_of_another_encoder_are_refused(frozen, tmp_path):
    encode_texts(load_experiment(frozen[1], ["condition.length=10"]), tmp_path / "out")
    with pytest.raises(UsageError, match=r"its length is 10, that of .* is 12"):
        again(frozen, tmp_path, f"data.texts={tmp_path / 'out'}")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["condition.encoder=small", "condition.length=8"], "condition.encoder is small, which"),
        (["condition={kind: classes}"], "set condition.kind=text"),
    ],
)
def test_what_cannot_be_encoded_once_is_said(frozen, tmp_path, overrides, words):
    with pytest.raises(UsageError, match=words):
        encode_texts(load_experiment(frozen[1], overrides), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_encoded_texts_are_not_for_an_encoder_of_the_models_own(tmp_path):
    config = write(tmp_path)
    with pytest.raises(UsageError, match=r"leave data\.texts out"):
        train(load_experiment(config, [f"data.texts={tmp_path}"]))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_run_on_captions_resumes_bit_equal(streaming, tmp_path):
    data = [STEPS, f"data.streaming={str(streaming).lower()}", "data.shuffle_buffer=7"]
    whole = train(load_experiment(write(tmp_path / "whole"), data))
    config = write(tmp_path / "parts")
    train(load_experiment(config, [*data, "training.steps=2"]))
    run = train(load_experiment(config, [*data, "data.workers=1"]))
    assert losses(run) == losses(whole)
    assert weights(run) == weights(whole)


def test_encoded_latents_of_captions_train_as_on_the_fly(tmp_path):
    """With the model's own text encoder, whose vocabulary is made of the captions."""
    config = write(tmp_path)
    run = train(load_experiment(config, [STEPS]))
    encode(load_experiment(config), tmp_path / "out")
    overrides = ["data.source=encoded", f"data.path={tmp_path / 'out'}", f"output={tmp_path / 'b'}"]
    other = train(load_experiment(config, [STEPS, *overrides]))
    assert losses(other) == losses(run)
    assert weights(other) == weights(run)


def test_two_processes_see_the_captions_that_one_sees(frozen, tmp_path, encoder):
    config = write(tmp_path, encoder)
    done = launch(gensynth_command, *training(config, STEPS), processes=2)
    assert done.returncode == 0, done.stderr
    assert "19 pictures with captions" in done.stderr
    assert losses(tmp_path / "run") == pytest.approx(losses(frozen[2]), rel=1e-5)


def test_two_processes_make_the_words_that_one_makes(tmp_path):
    alone = train(load_experiment(write(tmp_path / "alone"), [STEPS]))
    config = write(tmp_path / "both")
    for steps in ("training.steps=3", STEPS):  # the second goes on
        done = launch(gensynth_command, *training(config, steps), processes=2)
        assert done.returncode == 0, done.stderr
    both = tmp_path / "both" / "run"
    assert losses(both) == pytest.approx(losses(alone), rel=1e-5)
    words = [(run / "model/tokenizer/tokenizer.json").read_bytes() for run in (alone, both)]
    assert words[0] == words[1]


def test_processes_with_other_words_are_refused():
    condition = SimpleNamespace(describe=lambda: {"vocabulary": "a"})
    other = ("far", json.dumps({"vocabulary": "b"}))
    together = SimpleNamespace(gather=lambda told: [told, told])
    check_words(condition, together)
    together = SimpleNamespace(gather=lambda told: [told, other])
    with pytest.raises(
        InputError, match="process 1 on far reads captions otherwise than process 0"
    ):
        check_words(condition, together)


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path):
    whole = train(load_experiment(write(tmp_path / "whole"), [STEPS]))
    config = write(tmp_path / "parts")
    run = train(load_experiment(config, ["training.steps=4", "checkpoint.every=2"]))
    newest = max((run / "checkpoints").glob("step-*"))
    (newest / "model/tokenizer/tokenizer.json").write_text("{")
    train(load_experiment(config, [STEPS, "checkpoint.every=2"]))
    assert weights(run) == weights(whole)


def test_captions_that_are_cut_are_told_once_at_the_start(tmp_path, capsys):
    config = write(tmp_path)
    train(load_experiment(config, ["training.steps=1", "condition.length=4"]))
    said = capsys.readouterr()
    found = re.findall(r"(\d+) of (\d+) captions looked at are too long: (.*)", said.out + said.err)
    assert len(found) == 1 and 0 < int(found[0][0]) < int(found[0][1])
    assert "the prompt is cut after 4 tokens; not read: '" in found[0][2]
    train(load_experiment(config, ["training.steps=2", "condition.length=4"]))
    assert "too long" not in "".join(capsys.readouterr())
