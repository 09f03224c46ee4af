"""Each section of a configuration: what it takes, and what of it does not fit the others."""

import pytest

from configs import DDPM, MINIMAL, refusal
from gensynth.config import DDPM as DDPM_SECTION
from gensynth.config import Dispersive, Flow, LayerSync, Masked, Reconstruction, Repa
from gensynth.experiments.read import load_experiment


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


MIXERS = ["softmax", "linear", "local", "rala", "inline", "nala", "linfusion"]


@pytest.mark.parametrize("mixer", MIXERS)
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
