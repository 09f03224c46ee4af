"""Students with linear attention learn from tiny teachers: ours, and pipelines of diffusers."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from launching import command as gensynth_command
from launching import launch, training
from safetensors.torch import load_file
from tiny import losses

import gensynth
from gensynth.config import Distill
from gensynth.data.tables import BUNDLED_SETS
from gensynth.errors import InputError, UsageError
from gensynth.experiments.distilling.student import distillation
from gensynth.experiments.encoding import encode
from gensynth.experiments.encoding_texts import encode_texts
from gensynth.experiments.read import load_experiment
from gensynth.linearize.contract import record_of
from gensynth.pipelines.pretrained.prompts import PipelinePrompts
from gensynth.training.loop import train

METHODS = {
    "sd": {"method": "linfusion"},
    "sdxl": {"method": "linfusion", "options": {"projection_dim": 4}},
    "sd3": {"method": "clear", "options": {"window": 2}},
    "flux": {"method": "clear", "options": {"window": 2, "down_factor": 2}},
    "pixart": {"method": "clear", "options": {"window": 1}},
    "dit": {"method": "linfusion"},
    "dit-clear": {"method": "clear", "options": {"window": 2, "down_factor": 2}},
}
SEEDS = [0, 1]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A Parquet file of eight coloured pictures of 64x64 with captions."""
    path = tmp_path_factory.mktemp("pictures") / "eight.parquet"
    pq.write_table(pq.read_table(BUNDLED_SETS["emoji"] / "test.parquet").slice(0, 8), path)
    return path


@pytest.fixture(scope="module")
def teacher(pretrained_folder, pictures, tmp_path_factory):
    """Kind -> the folder of a teacher with random weights."""

    def ours():
        folder = tmp_path_factory.mktemp("dit")
        tree = {
            "output": str(folder / "run"),
            "data": {"source": "parquet", "path": str(pictures), "size": 64, "workers": 0},
            "condition": {
                **{"kind": "text", "length": 8, "width": 16},
                **{"layers": 1, "heads": 2, "vocabulary": 300},
            },
            "autoencoder": {"kind": "pixels", "patch": 8},
            "model": {"name": "DiT-nano/2", "hidden_size": 32, "depth": 2, "num_heads": 2},
            "objective": {"name": "flow", "time_scale": 1000},
            "training": {"steps": 1, "batch_size": 4},
            "sampling": {"steps": 3, "guidance": 2.0},
        }
        config = folder / "experiment.yaml"
        config.write_text(yaml.safe_dump(tree))
        train(load_experiment(config))
        # Its last layer begins at zero; as after a training it is to say something.
        pipe = gensynth.load(folder / "run")
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            for weight in pipe.model.parameters():
                weight += 0.1 * torch.randn_like(weight)
        pipe.save_pretrained(folder / "teacher")
        return folder / "teacher"

    known = {}

    def of(kind):
        name = kind.partition("-")[0]
        if name not in known:
            known[name] = ours() if name == "dit" else pretrained_folder(name)
        return known[name]

    return of


@pytest.fixture
def write(pictures, teacher, tmp_path):
    """Kind and changes of the objective -> the YAML file of a distillation of it."""

    def written(kind, steps=20, name="run", **objective):
        tree = {
            "output": str(tmp_path / name),
            "data": {"source": "parquet", "path": str(pictures), "size": 64, "workers": 0},
            "objective": {
                **{"name": "distill", "teacher": str(teacher(kind))},
                **METHODS[kind],
                **objective,
            },
            "optimizer": {"lr": 3e-3},
            "training": {"steps": steps, "batch_size": 4, "log_every": 1},
            "ema": {"decay": 0.5},
            "checkpoint": {"every": 10},
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    return written


@pytest.mark.parametrize("kind", METHODS)
def test_a_student_learns_and_draws(kind, write, teacher):
    # A teacher of random weights is no good at the data, so that these would lead away from it.
    run = train(load_experiment(write(kind, data=0)))
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for part in ("attention", "output"):
        values = [entry[part] for entry in log if part in entry]
        assert len(values) == 20
        assert sum(values[-5:]) < 0.9 * sum(values[:5]), part
    # what was saved draws the same when it is loaded, and when it is put on the teacher by hand
    size = {} if kind.startswith("dit") else {"size": 64, "steps": 3}
    student = gensynth.load(run)
    drawn = student("a red apple", SEEDS, **size)
    again = gensynth.load(teacher(kind))
    before = again("a red apple", SEEDS, **size)
    method, window = METHODS[kind]["method"], METHODS[kind].get("options", {}).get("window")
    named = {} if window is None else {"window": window}
    named |= {k: v for k, v in METHODS[kind].get("options", {}).items() if k == "down_factor"}
    gensynth.linearize(again, method, run / "model", **named)
    assert pixels(again("a red apple", SEEDS, **size)) == pixels(drawn)
    assert pixels(before) != pixels(drawn)


def pixels(images):
    return [image.tobytes() for image in images]


@pytest.mark.parametrize("kind", ["sd", "dit-clear"])
def test_goes_on_exactly(kind, write):
    whole = train(load_experiment(write(kind, 6, "whole")))
    config = write(kind, 6, "parts")
    train(load_experiment(config, ["training.steps=4"]))
    parts = train(load_experiment(config))
    assert losses(parts) == losses(whole)
    for file in ("state/trained.safetensors", "averages/decay-0.5.safetensors"):
        ours, theirs = (
            load_file(run / "checkpoints" / "step-00000006" / file) for run in (parts, whole)
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("kind", ["sd", "pixart"])
def test_encoded_captions_and_latents_train_the_same(kind, write, tmp_path, monkeypatch):
    config, encoded = write(kind, 4), tmp_path / "encoded"
    encode(load_experiment(config), encoded)
    latents = ["data.source=encoded", f"data.path={encoded}"]
    asked = train(load_experiment(config, [*latents, f"output={tmp_path / 'asked'}"]))
    encode_texts(load_experiment(config), encoded)
    told = PipelinePrompts._told

    def for_nothing_only(self, prompt, guided, **given):
        assert prompt is None, "the encoders are asked again"
        return told(self, prompt, guided, **given)

    monkeypatch.setattr(PipelinePrompts, "_told", for_nothing_only)
    read = train(load_experiment(config, [*latents, f"output={tmp_path / 'read'}"]))
    assert losses(read) == losses(asked)
    with pytest.raises(UsageError, match="other text encoders"):
        other = load_experiment(write("sdxl"), [f"data.texts={encoded}"])
        train(other)


@pytest.mark.parametrize("kind", ["flux", "dit-clear"])
def test_in_half_precision_with_blocks_computed_again(kind, write):
    config = write(kind, 3)
    half = ["training.mixed_precision=bf16", "training.gradient_checkpointing=true"]
    pair = distillation(load_experiment(config, half), CPU)
    assert {weight.dtype for weight in pair.teacher.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in pair.student.parameters()} == {torch.float32}
    whole = losses(train(load_experiment(config)))
    quick = losses(train(load_experiment(write(kind, 3, "half"), half)))
    assert quick != whole and quick == pytest.approx(whole, rel=0.05)


def test_nothing_is_what_guided_drawing_asks(teacher):
    """SDXL asks with zeros where no negative prompt is given, Stable Diffusion with no words."""
    for kind, zeros in (("sdxl", True), ("sd", False), ("flux", False)):
        prompts = gensynth.load(teacher(kind)).condition
        none, empty = prompts.none(CPU), prompts.encode([""])
        assert none.keys() == empty.keys()
        for name in none:
            assert torch.equal(none[name], 0 * empty[name] if zeros else empty[name])


def test_two_processes_learn_what_one_learns(write, tmp_path):
    alone = train(load_experiment(write("dit-clear", 4, "alone")))
    config = write("dit-clear", 4, "two")
    done = launch(gensynth_command, *training(config), processes=2)
    assert done.returncode == 0, done.stderr
    ours, theirs = losses(tmp_path / "two"), losses(alone)
    assert ours.keys() == theirs.keys()
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_only_its_own_weights_are_trained_and_kept(write, teacher):
    pair = distillation(load_experiment(write("sd")), CPU)
    attention = {f"network.{one.name}" for one in pair.done.replaced}
    layers = {"to_q", "to_k", "to_v", "to_out", "to_q_", "to_k_"}
    for name, weight in pair.student.named_parameters():
        owner = next((one for one in attention if name.startswith(f"{one}.")), None)
        own = owner is not None and name.removeprefix(f"{owner}.").partition(".")[0] in layers
        assert weight.requires_grad == own == (name in pair.trained)
    assert record_of(pair.teacher.network) is None
    run = train(load_experiment(write("sd", 2)))
    state = run / "checkpoints" / "step-00000002" / "state"
    assert not list(state.glob("model*"))
    assert not list((run / "model").glob("*/*.safetensors"))  # the base is only named


def test_compares_every_fourth_as_published(write):
    config = write("flux", attentions=["single_transformer_blocks"], every=2)
    assert distillation(load_experiment(config), CPU).attentions == [
        "network.single_transformer_blocks.1.attn"  # of double 0, single 0, single 1
    ]
    config = write("flux", attentions=["transformer_blocks"], every=1)
    assert distillation(load_experiment(config), CPU).attentions == [
        "network.transformer_blocks.0.attn"
    ]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["model={name: DiT-nano/2}"], "leave model out"),
        (["condition.kind=text"], "leave condition out"),
        (["lora={rank: 2}", "init_from=emoji"], "does not go with init_from"),
        (["sampling.steps=10"], "every and num"),
        (["objective.options={widow: 2}"], "window"),
        (["objective.options={}"], "say window="),
        (["data.size=60"], "set data.size=64"),
        (["data.size=80"], "set data.size=64"),  # 2x2 latents in a token, 2x2 tokens pooled
        (["data.zoom=[1.0,1.5]"], "does not go with data.zoom"),
        (["ema.decay=[0.5,0.9]"], "averages are one"),
        (["data.channels=1"], "set data.channels=3"),
        (["objective.attentions=[blocks.7]"], "objective.attentions"),
        (["objective.method=linfusion", "objective.options={}"], "does not fit"),
    ],
)
def test_refused_in_words(overrides, says, write):
    with pytest.raises(UsageError, match=says):
        train(load_experiment(write("flux"), overrides))


def test_a_teacher_that_is_not_there_or_has_changed(write, teacher, tmp_path):
    with pytest.raises(InputError, match="no model"):
        load_experiment(write("sd"), ["objective.teacher=nowhere"])
    copied = tmp_path / "sd"
    shutil.copytree(teacher("sd"), copied)
    config = write("sd", 2, teacher=str(copied))
    run = train(load_experiment(config))
    other = gensynth.load(copied)
    with torch.no_grad():
        other.network.conv_in.weight.neg_()
    other.inner.unet.save_pretrained(copied / "unet")
    with pytest.raises(InputError, match="other weights"):
        train(load_experiment(config, ["training.steps=3"]))
    shutil.rmtree(copied)
    with pytest.raises(InputError, match="which is not there"):
        gensynth.load(run)


def test_weights_of_the_loss_are_the_published_ones():
    section = Distill(teacher="x")
    assert (section.data, section.output, section.attention) == (1.0, 0.5, 0.5)
    with pytest.raises(ValueError, match="nothing to learn"):
        Distill(teacher="x", data=0, output=0, attention=0)
