"""What a step expects at the end, of every scheduler that is offered and of those of EDM."""

import diffusers
import numpy as np
import pytest
import tiny_pipelines
import torch

from gensynth.pipelines.pretrained import pictures
from gensynth.pipelines.pretrained.families import FAMILIES
from gensynth.pipelines.pretrained.pipeline import PretrainedPipeline
from gensynth.pipelines.pretrained.scheduling import end_in


def one_step(scheduler, call=0):
    """What a step gives of random latents, and what is expected of it without asking it."""
    generator = torch.Generator().manual_seed(0)
    sample, said = torch.randn(2, 1, 4, 8, 8, generator=generator)
    scheduler.set_timesteps(4)
    time = scheduler.timesteps[call]
    scheduler.scale_model_input(sample, time)
    found = scheduler.step(said, time, sample, return_dict=False)
    return found, pictures.expected(scheduler, call, said, time, sample)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_expected_is_what_schedulers_say_that_say_it(kind):
    how = {"prediction_type": kind, "clip_sample": False}
    for name in ("DDIMScheduler", "DDPMScheduler"):
        scheduler = getattr(diffusers, name)(**how)
        found, expected = one_step(scheduler)
        assert torch.allclose(end_in(found, scheduler), expected, rtol=1e-4, atol=1e-4)


def test_expected_of_edm():
    steps = diffusers.EDMEulerScheduler(), diffusers.EDMDPMSolverMultistepScheduler()
    (said, _), (silent, expected) = (one_step(one) for one in steps)
    assert end_in(silent, steps[1]) is None
    assert torch.allclose(end_in(said, steps[0]), expected, rtol=1e-4, atol=1e-5)


def test_what_tcd_says_beside_has_noise_in_it():
    tcd = diffusers.TCDScheduler()
    found, expected = one_step(tcd)
    assert len(found) == 2 and end_in(found, tcd) is None
    share = tcd.alphas_cumprod[int(tcd.timesteps[0])]
    sample, said = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(expected, (sample - (1 - share) ** 0.5 * said) / share**0.5, rtol=1e-4)
    assert not torch.allclose(expected, found[1], atol=0.1)


def told(pipe, **how):
    previews = []
    [image] = pipe(
        *("a cat", [1]),
        **{"steps": 4, "size": 64, **how},
        on_step=lambda progress: previews.append(progress.preview()),
    )
    drawn = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    return [(one[0].float() - drawn).abs().mean() for one in previews]


@pytest.mark.parametrize("name", FAMILIES["StableDiffusionPipeline"].schedulers)
def test_previews_of_every_scheduler_become_the_picture(drawing, name):
    away = told(drawing("sd"), scheduler=name)
    assert away[-1] < 2 and away[0] < 20  # of noise it would be 36


def test_previews_of_edm_become_the_picture():
    inner = tiny_pipelines.tiny_sdxl()
    inner.scheduler = diffusers.EDMDPMSolverMultistepScheduler()
    away = told(PretrainedPipeline(inner))
    assert away[-1] < 2
