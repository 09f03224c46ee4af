"""What an experiment says about objective and guidance reaches the pipeline it builds."""

import pytest
from diffusers import DDPMScheduler

from gensynth.config import Experiment
from gensynth.experiments.build import (
    build_autoencoder,
    build_condition,
    build_model,
    build_pipeline,
)

MODEL = {"name": "dico-nano", "hidden_size": 8, "depth": [1, 1, 1, 1, 1]}
CLASSES = [str(number) for number in range(10)]


def built(objective: dict, model: dict, sampling: dict):
    experiment = Experiment.model_validate(
        {
            "output": "out",
            "data": {"size": 16, "channels": 1},
            "autoencoder": {"patch": 2},
            "model": {**MODEL, **model},
            "objective": objective,
            "sampling": {"steps": 3, **sampling},
        }
    )
    return pipeline_of(experiment)


def pipeline_of(experiment: Experiment):
    condition = build_condition(experiment, CLASSES)
    backbone = build_model(experiment, condition).eval()
    return build_pipeline(experiment, backbone, condition, build_autoencoder(experiment))


@pytest.mark.parametrize("scheduler", [None, "DPMSolverMultistepScheduler"])
@pytest.mark.parametrize("learn_sigma", [True, False])
def test_every_diffusion_samples(scheduler, learn_sigma):
    objective = {"name": "ddpm", "prediction": "v", "min_snr": 5.0, "betas": "cosine"}
    pipeline = built(objective, {"learn_sigma": learn_sigma}, {"scheduler": scheduler})
    assert pipeline.config.ddpm_prediction == "v"
    assert pipeline.scheduler.config.beta_schedule == "squaredcos_cap_v2"
    assert len(pipeline([1], [1])) == 1


def test_guidance_reaches_the_pipeline():
    sampling = {
        "guidance": 3.8,
        "guided_channels": 3,
        "guidance_schedule": "power-cosine",
        "guidance_power": 0.01,
        "guidance_interval": [0.2, 0.7],
    }
    pipeline = built({"name": "ddpm"}, {}, sampling)
    for key in ("guidance", "guided_channels", "guidance_schedule", "guidance_power"):
        assert pipeline.config[key] == sampling[key]
    assert pipeline.resolve().settings.guidance_interval == (0.2, 0.7)
    assert isinstance(pipeline.scheduler, DDPMScheduler)
    assert len(pipeline([1], [1])) == 1


def test_decoder_and_guidance_reach_a_pipeline_of_tokens(tokenizer_folder):
    sampling = {
        "scheduler": "ConfidenceDecoder",
        "scheduler_options": {"noise_temperature": 2.0},
        "guidance": 3.0,
        "guidance_schedule": "linear",
        "guidance_interval": [0.1, 0.9],
    }
    experiment = Experiment.model_validate(
        {
            "output": "out",
            "data": {"size": 32, "channels": 1},
            "autoencoder": {
                "kind": "vq",
                "path": str(tokenizer_folder),
                "patch": 4,
                "codebook_size": 16,
            },
            "model": {"name": "MaskGIT-nano", "hidden_size": 16, "num_heads": 2, "depth": 1},
            "objective": {"name": "masked"},
            "sampling": {"steps": 3, **sampling},
        }
    )
    pipeline = pipeline_of(experiment)
    resolved = pipeline.resolve()
    scheduler = resolved.sampler.scheduler
    assert type(scheduler).__name__ == resolved.settings.scheduler == "ConfidenceDecoder"
    assert scheduler.config.noise_temperature == 2.0
    assert (resolved.guidance, resolved.settings.guidance_interval) == (3.0, (0.1, 0.9))
    assert pipeline.config.guidance_schedule == "linear"
    assert len(pipeline([1], [1])) == 1
