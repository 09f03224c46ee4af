import time
from pathlib import Path

import pytest
import yaml

from gensynth.config import DDPM as DDPM_SECTION
from gensynth.config import (
    Dispersive,
    Experiment,
    Flow,
    LayerSync,
    Masked,
    Reconstruction,
    Repa,
    parse_yaml,
)
from gensynth.errors import InputError, UsageError
from gensynth.experiments.read import load_experiment

ROOT = Path(__file__).parents[2]
MINIMAL = {"output": "out", "model": {"name": "DiCo-nano"}, "objective": {"name": "flow"}}
DDPM = {**MINIMAL, "objective": {"name": "ddpm"}}


@pytest.fixture
def write(tmp_path):
    def write(tree_or_text) -> Path:
        text = tree_or_text if isinstance(tree_or_text, str) else yaml.safe_dump(tree_or_text)
        path = tmp_path / "experiment.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path: Path, *overrides: str) -> str:
    """The message of the UsageError, which must be one line and name the file."""
    with pytest.raises(UsageError) as caught:
        load_experiment(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("tree", [MINIMAL, DDPM])
def test_defaults_survive_a_round_trip(write, tree):
    experiment = load_experiment(write(tree))
    again = load_experiment(write(experiment.to_yaml()))
    assert again == experiment
    assert again.to_yaml() == experiment.to_yaml()


EVERYTHING = """
output: "012"
seed: 3
data: {source: parquet, path: "1e5", size: 64, classes: ["no", "1e5", "null", "12:30"]}
model: {name: DiCo-S, depth: [1, 2, 3, 4, 5], mlp_ratio: 1.5}
objective: {name: flow, time_scale: 1000}
optimizer: {lr: 3e-5, betas: [0.5, 0.6], clip: 1.0}
ema: null
sampling: {guided_channels: 3, guidance: 1.5}
"""


def test_everything_set_survives_a_round_trip(write):
    experiment = load_experiment(write(EVERYTHING))
    assert experiment.data.classes == ["no", "1e5", "null", "12:30"]
    assert experiment.optimizer.lr == 3e-5
    assert experiment.model.model_extra == {"depth": [1, 2, 3, 4, 5], "mlp_ratio": 1.5}
    assert experiment.ema is None
    assert load_experiment(write(experiment.to_yaml())) == experiment


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/**/*.yaml")), ids=lambda p: p.stem)
def test_the_configurations_we_ship_load(path):
    experiment = load_experiment(path)
    assert isinstance(experiment, Experiment)
    assert experiment.output.startswith("runs/")


def test_there_are_configurations():
    assert list(ROOT.glob("configs/**/*.yaml"))


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("optimizer.lr=1e-4", lambda e: e.optimizer.lr == 1e-4),
        ("optimizer.lr=1", lambda e: e.optimizer.lr == 1.0),
        ("optimizer.lr=+2.5E-3", lambda e: e.optimizer.lr == 2.5e-3),
        ("training.steps=7", lambda e: e.training.steps == 7),
        ("data.flip=true", lambda e: e.data.flip is True),
        ("ema=null", lambda e: e.ema is None),
        ("ema.decay=0.5", lambda e: e.ema.decay == 0.5),
        ("optimizer.betas=[0.8, 0.9]", lambda e: e.optimizer.betas == [0.8, 0.9]),
        ("model.hidden_size=16", lambda e: e.model.model_extra == {"hidden_size": 16}),
        ("output=a=b", lambda e: e.output == "a=b"),
    ],
)
def test_overrides(write, override, read):
    assert read(load_experiment(write(MINIMAL), [override]))


def test_the_last_override_wins_and_others_stay(write):
    tree = {**MINIMAL, "training": {"steps": 5, "batch_size": 8}}
    experiment = load_experiment(write(tree), ["training.steps=6", "training.steps=7"])
    assert (experiment.training.steps, experiment.training.batch_size) == (7, 8)


def test_numbers_without_a_dot_are_numbers_in_the_file_too(write):
    text = yaml.safe_dump(MINIMAL) + "optimizer:\n  lr: 1e-4\n"
    assert load_experiment(write(text)).optimizer.lr == 1e-4


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        # unknown key, at each level, with its nearest and all known ones
        ("sede=1", ["'sede'", "Did you mean 'seed'", "optimizer"]),
        ("data.sise=1", ["'data.sise'", "Did you mean 'data.size'", "flip"]),
        ("optimizer.lrr=1", ["'optimizer.lrr'", "Did you mean 'optimizer.lr'"]),
        ("training.step=1", ["'training.step'", "Did you mean 'training.steps'"]),
        ("ema.deccay=1", ["'ema.deccay'", "Did you mean 'ema.decay'"]),
        ("checkpoint.evry=1", ["'checkpoint.evry'", "Did you mean 'checkpoint.every'"]),
        ("sampling.guidence=1", ["'sampling.guidence'", "Did you mean 'sampling.guidance'"]),
        ("autoencoder.ptch=1", ["'autoencoder.ptch'", "Did you mean 'autoencoder.patch'"]),
        ("objective.tme=1", ["'objective.tme'", "Did you mean 'objective.time'", "label_dropout"]),
        ("model.hiden_size=8", ["'model.hiden_size'", "Did you mean 'model.hidden_size'", "depth"]),
        # values that are not among the allowed ones
        ("data.source=imagefolders", ["'data.source'", "imagefolder", "hub"]),
        ("data.channels=2", ["'data.channels'", "1 or 3", "got 2"]),
        ("data.fit=stretch", ["'data.fit'", "'crop' or 'pad'", "stretch"]),
        ("optimizer.schedule=step", ["'optimizer.schedule'", "cosine", "linear"]),
        ("training.mixed_precision=fp8", ["'training.mixed_precision'", "bf16"]),
        ("objective.name=flows", ["objective.name", "flow, ddpm, masked, reconstruction"]),
        ("objective={}", ["objective.name", "flow, ddpm, masked, reconstruction"]),
        ("model.name=DiCo-nanno", ["DiCo-nanno", "Did you mean 'DiCo-nano'", "DiCo-XL"]),
        # wrong types
        ("seed=true", ["'seed'", "True"]),
        ("seed=1.5", ["'seed'", "1.5"]),
        ("seed='1'", ["'seed'", "'1'"]),
        ("training.steps=true", ["'training.steps'", "True"]),
        ("training.steps=ten", ["'training.steps'", "'ten'"]),
        ("optimizer.lr=high", ["'optimizer.lr'", "'high'"]),
        ("optimizer.lr='1e-4'", ["'optimizer.lr'", "'1e-4'"]),
        ("data.channels=true", ["'data.channels'", "True"]),
        ("autoencoder.patch=true", ["'autoencoder.patch'", "True"]),
        ("data.flip=1", ["'data.flip'", "got 1"]),
        ("data.classes=Bag", ["'data.classes'", "'Bag'"]),
        ("data=5", ["'data'", "5"]),
        ("model=DiCo-nano", ["'model'", "DiCo-nano"]),
        ("output=", ["'output'", "None"]),
        # out of range
        ("seed=-1", ["'seed'", "-1"]),
        ("seed=18446744073709551616", ["'seed'"]),
        ("optimizer.lr=0", ["'optimizer.lr'", "greater than 0"]),
        ("optimizer.lr=.nan", ["'optimizer.lr'"]),
        ("optimizer.lr=.inf", ["'optimizer.lr'"]),
        ("optimizer.betas=[0.9]", ["'optimizer.betas'"]),
        ("optimizer.betas=[0.9, 1.5]", ["'optimizer.betas.1'", "1.5"]),
        ("objective.label_dropout=2", ["'objective.label_dropout'", "2"]),
        ("checkpoint.keep=1", ["'checkpoint.keep'", "1"]),
        ("sampling.guidance=-0.5", ["'sampling.guidance'", "-0.5"]),
        ("ema.decay=1", ["'ema.decay'", "1"]),
        # combinations
        ("data.path=x", ["'data'", "fashion_mnist"]),
        ("data.source=hub", ["'data'", "hub needs a path"]),
        ("data.size=30", ["data.size 30", "divisible by 4"]),
        ("data.size=33", ["data.size"]),
        (
            "training.gradient_accumulation=3",
            ["training.batch_size 256", "gradient_accumulation 3"],
        ),
        ("model.learn_sigma=true", ["model.learn_sigma", "false", "flow"]),
        ("model.null_label=false", ["null_label"]),
        ("model.in_channels=7", ["in_channels"]),
        ("model.depth=[1, 1]", ["depth"]),
        ("model.hidden_size=big", ["hidden_size"]),
        ("model.hidden_size=7", ["hidden_size"]),
        ("sampling.scheduler=DDPMScheduler", ["DDPMScheduler", "FlowMatchEulerDiscreteScheduler"]),
        # malformed overrides
        ("seed", ["'seed'", "key=value"]),
        ("=1", ["'=1'", "key=value"]),
        ("seed=[1", ["seed=[1", "YAML"]),
    ],
)
def test_refusals_name_the_key_and_what_is_allowed(write, override, expected):
    message = refusal(write(MINIMAL), override)
    for words in expected:
        assert words in message


def test_refusals_name_the_file(write):
    path = write({**MINIMAL, "sede": 1})
    assert str(path) in refusal(path)


def test_every_problem_is_named_at_once(write):
    message = refusal(write({**MINIMAL, "sede": 1, "data": {"sise": 2}}))
    assert "'sede'" in message
    assert "'data.sise'" in message


@pytest.mark.parametrize("key", ["output", "model", "objective"])
def test_a_missing_section_is_named(write, key):
    assert f"'{key}'" in refusal(write({k: v for k, v in MINIMAL.items() if k != key}))


def test_objective_keys_are_those_of_the_chosen_objective(write):
    message = refusal(write(DDPM), "objective.time_scale=1")
    assert "objective.time_scale" in message
    assert "Known: name, betas, prediction, loss, min_snr, label_dropout." in message
    assert "logit_mean" not in message


def test_variance_may_be_fixed_with_ddpm(write):
    experiment = load_experiment(write(DDPM), ["model.learn_sigma=false"])
    assert experiment.model.model_extra == {"learn_sigma": False}


def test_ddpm_options(write):
    options = ["objective.prediction=v", "objective.min_snr=5", "objective.betas=cosine"]
    objective = load_experiment(write(DDPM), options).objective
    assert (objective.prediction, objective.min_snr, objective.betas) == ("v", 5.0, "cosine")
    assert "'objective': min_snr weighs the squared error" in refusal(
        write(DDPM), "objective.min_snr=5", "objective.loss=kl"
    )
    assert "'objective.prediction'" in refusal(write(DDPM), "objective.prediction=velocity")
    assert "'objective.min_snr'" in refusal(write(DDPM), "objective.min_snr=0")


def test_flow_and_its_sampler_reach_the_pipeline(write):
    import torch

    from gensynth.experiments.assemble import assemble

    options = [
        "objective.path=gvp",
        "objective.prediction=noise",
        "objective.weighting=velocity",
        "sampling.scheduler=FlowSDEScheduler",
        "sampling.scheduler_options.method=heun",
        "sampling.scheduler_options.last_step=null",
        "model.depth=[1, 1, 1, 1, 1]",
        "model.hidden_size=8",
    ]
    experiment = load_experiment(write(MINIMAL), options)
    assert load_experiment(write(experiment.to_yaml())) == experiment
    pipeline = assemble(experiment, ["a", "b"], torch.device("cpu")).pipeline()
    assert pipeline.classes == ["a", "b"]
    assert (pipeline.config["path"], pipeline.config["prediction"]) == ("gvp", "noise")
    assert pipeline.scheduler.config["path"] == "gvp"
    assert pipeline.scheduler.config["prediction"] == "noise"
    assert pipeline.scheduler.config["method"] == "heun"
    assert pipeline.scheduler.config["last_step"] is None


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["objective.path=lin"], "'linear', 'gvp' or 'vp'"),
        (["objective.prediction=epsilon"], "'velocity', 'noise', 'score' or 'x'"),
        (["objective.weighting=velocity"], "velocity is learned with weighting none"),
        (
            ["objective.prediction=x", "objective.weighting=likelihood", "objective.train_eps=0"],
            "set train_eps above 0",
        ),
        (["sampling.scheduler_options.shfit=3"], "no option 'shfit'. Did you mean 'shift'?"),
        (
            ["sampling.scheduler=FlowODEScheduler", "sampling.scheduler_options.method=rk5"],
            "method must be one of euler, heun",
        ),
        (
            ["objective.path=vp", "sampling.scheduler=UniPCMultistepScheduler"],
            "does not fit a model that predicts velocity on the vp path",
        ),
        (
            ["sampling.scheduler=FlowSDEScheduler", "sampling.steps=1"],
            "sampling.steps must be from 2 to 10000 for FlowSDEScheduler, got 1",
        ),
        (["sampling.steps=1001"], "sampling.steps must be from 1 to 1000"),
    ],
)
def test_flows_and_samplers_that_are_refused(write, overrides, words):
    assert words in refusal(write(MINIMAL), *overrides)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sampling.guidance_interval=[0.7, 0.2]", "low < high"),
        ("sampling.guidance_interval=[0.2]", "'sampling.guidance_interval'"),
        ("sampling.guidance_interval=[0.2, 1.5]", "'sampling.guidance_interval"),
        ("sampling.guidance_schedule=cosine", "'power-cosine'"),
        ("sampling.guidance_power=0", "'sampling.guidance_power'"),
    ],
)
def test_guidance_that_is_refused(write, override, words):
    assert words in refusal(write(MINIMAL), override)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 1\nseed: 2\n", ["line ", "'seed' is given twice"]),
        ("data: {size: 32, size: 64}\n", ["'size' is given twice"]),
        ("a: &x [1]\nb: *x\n", ["line 2", "aliases"]),
        ("seed: [1\n", ["line"]),
        ("a: b: c\n", ["line 1"]),
        ("\tseed: 1\n", ["line 1"]),
        ("seed: !!python/object/apply:os.getpid []\n", ["line 1"]),
        ("seed: !!python/name:os.system\n", ["line 1"]),
        ("- a\n- b\n", ["sections"]),
        ("just text", ["sections"]),
        ("seed: \0\n", []),
        ("", ["'output' is missing"]),
        ("1: 2\n", ["1"]),
        ("[" * 5000, []),
    ],
)
def test_yaml_that_is_refused(write, text, expected):
    path = write(text)
    message = refusal(path)
    assert str(path) in message
    for words in expected:
        assert words in message


def test_an_alias_bomb_is_refused_before_it_grows(write):
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 30)]
    start = time.process_time()
    assert "aliases" in refusal(write("\n".join(["l0: &l0 [x]", *levels])))
    assert time.process_time() - start < 5  # growing it would take 9^29 nodes


def test_python_tags_run_nothing(write, tmp_path):
    touched = tmp_path / "touched"
    refusal(
        write(
            "seed: !!python/object/apply:pathlib.Path.touch "
            f"[!!python/object/apply:pathlib.Path ['{touched}']]\n"
        )
    )
    assert not touched.exists()


def test_a_missing_file_names_its_neighbours(write, tmp_path):
    write(MINIMAL)
    with pytest.raises(InputError, match=r"experiment\.yaml"):
        load_experiment(tmp_path / "experimnt.yaml")
    with pytest.raises(InputError, match="no configuration file"):
        load_experiment(tmp_path / "nowhere" / "x.yaml")
    with pytest.raises(InputError, match="no configuration file"):
        load_experiment(tmp_path)


def test_a_file_that_is_not_utf8_is_refused_in_words(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("output: caf\xe9\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"latin\.yaml"):
        load_experiment(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("1e-4", 1e-4),
        ("12:30:45", "12:30:45"),
        ("-5", -5),
        ("null", None),
        ("1.5", 1.5),
        ("'1'", "1"),
    ],
)
def test_plain_words_and_numbers_mean_what_they_look_like(text, value):
    parsed = parse_yaml(text, "here")
    assert parsed == value and type(parsed) is type(value)


KL = {**MINIMAL, "autoencoder": {"kind": "kl", "path": "stabilityai/sd-vae-ft-ema"}}


def test_a_vae_is_not_needed_to_check_a_configuration(write):
    experiment = load_experiment(write(KL), ["data.size=256"])
    section = experiment.autoencoder
    assert (section.patch, section.latent_channels, section.channels(3)) == (8, 4, 4)
    assert load_experiment(write(experiment.to_yaml())) == experiment


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("autoencoder.path=null", "kind kl needs a path"),
        ("autoencoder.latent_channels=null", "kind kl needs a latent_channels"),
        ("autoencoder.kind=none", "path is for kind kl and vq"),
        ("autoencoder.kind=pixels", "path is for kind kl and vq"),
        ("autoencoder.kind=vq", "set autoencoder.kind=none or kl"),
        ("autoencoder.kind=vae", "'autoencoder.kind'"),
        ("data.channels=1", "data.channels=3"),
        ("data.size=36", "not a multiple of autoencoder.patch 8"),
        ("model.in_channels=3", "the latents have 4 channels"),
    ],
)
def test_an_autoencoder_that_does_not_fit(write, override, words):
    assert words in refusal(write(KL), override)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.zoom=[0.5, 2]"], "'data.zoom.0'"),
        (["data.zoom=[2, 1]"], "low <= high"),
        (["data.zoom=1.5"], "'data.zoom'"),
        (["data.zoom=[1]"], "'data.zoom'"),
        (["data.zoom=[1, 2]", "data.fit=pad"], "needs fit: crop"),
        (["model.name=DiT-nano/2", "model.size_conditioning=true"], "set data.zoom"),
    ],
)
def test_a_zoom_that_does_not_fit(write, overrides, words):
    assert words in refusal(write(MINIMAL), *overrides)


@pytest.mark.parametrize("conditioning", ["true", "false"])
def test_a_zoom_with_and_without_conditioning(write, conditioning):
    overrides = ["model.name=DiT-nano/2", f"model.size_conditioning={conditioning}"]
    assert load_experiment(write(MINIMAL), [*overrides, "data.zoom=[1, 1.5]"]).data.zoom == [1, 1.5]


@pytest.mark.parametrize("mixer", ["softmax", "linear", "local", "rala", "inline", "nala"])
def test_regularizers_fit_every_mixer(mixer, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        f"output: {tmp_path}/run\n"
        "data: {channels: 1, fit: pad}\n"
        "autoencoder: {patch: 2}\n"
        f"model: {{name: DiT-nano/2, mixer: {mixer}}}\n"
        "objective: {name: flow}\n"
        "regularizers: [{name: layersync, pairs: [[blocks.1, blocks.3]]}]\n"
    )
    assert load_experiment(path).regularizers[0].name == "layersync"


def test_the_evaluation_section(write):
    path = write(MINIMAL)
    assert load_experiment(path).evaluation.every == 0
    section = load_experiment(path, ["evaluation.every=500", "evaluation.num=50"]).evaluation
    assert (section.every, section.num, section.extractor) == (500, 50, "lite0-64")
    assert "Did you mean 'evaluation.every'?" in refusal(path, "evaluation.evry=5")
    for override in ("evaluation.num=1", "evaluation.every=-1", "evaluation.batch_size=0"):
        assert f"'{override.partition('=')[0]}'" in refusal(path, override)


def test_a_tokenizer_is_not_evaluated_while_it_trains(write):
    tree = {**MINIMAL, "model": {"name": "VQ-nano"}, "objective": {"name": "reconstruction"}}
    assert load_experiment(write(tree)).evaluation.every == 0
    assert "evaluation.every is 5, but a tokenizer" in refusal(write(tree), "evaluation.every=5")


@pytest.mark.parametrize(
    "data",
    [
        "{source: encoded, path: tokens}",
        "{source: webdataset, path: shards, streaming: true, classes: [a]}",
    ],
)
def test_data_that_cannot_be_their_own_reference_need_one(write, data):
    path = write({**MINIMAL, "evaluation": {"every": 5}})
    assert "evaluation.reference is missing" in refusal(path, f"data={data}")
    given = load_experiment(path, [f"data={data}", "evaluation.reference=imagenet256"])
    assert given.evaluation.reference == "imagenet256"


def test_a_section_made_in_python_needs_no_name_and_one_in_yaml_does(write):
    parts = [Flow(), DDPM_SECTION(), Masked(), Reconstruction(), Dispersive(block="b")]
    parts += [Repa(block="b"), LayerSync(pairs=[["a", "b"]])]
    names = ["flow", "ddpm", "masked", "reconstruction", "dispersive", "repa", "layersync"]
    assert [part.name for part in parts] == names
    message = refusal(write({**MINIMAL, "objective": {"time_scale": 2.0}}))
    assert "'objective.name' must be one of flow, ddpm, masked, reconstruction" in message
    message = refusal(write({**MINIMAL, "regularizers": [{"block": "levels.2"}]}))
    assert "'regularizers.0.name' must be one of dispersive, layersync, repa" in message
