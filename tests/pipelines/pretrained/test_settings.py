"""What a family cannot be told is refused in a sentence, and what the sentence advises works."""

import numpy as np
import pytest

from gensynth.errors import UsageError
from gensynth.pipelines.pretrained.families import FAMILIES
from gensynth.settings import Settings


@pytest.mark.parametrize(
    ("kind", "steps", "guidance", "size"),
    [
        ("sd", 50, 7.5, 64),
        ("sdxl", 50, 5.0, 64),
        ("sd3", 28, 7.0, 64),
        ("flux", 28, 3.5, 1024),
        ("flux-schnell", 4, 1.0, 1024),
        ("pixart-alpha", 20, 4.5, 64),
        ("sana", 20, 4.5, 64),
    ],
)
def test_own_settings_are_those_of_the_call(drawing, kind, steps, guidance, size):
    own = drawing(kind).resolve()
    assert (own.steps, own.guidance, own.size) == (steps, guidance, (size, size))


@pytest.mark.parametrize(
    ("kind", "settings", "words", "instead"),
    [
        ("sd", {"size": (60, 200)}, "multiple of 8. Nearest: 64x200", {"size": (64, 200)}),
        ("sd3", {"size": 40}, "multiple of 16. Nearest: 32x32", {"size": 32}),
        ("sd3", {"size": 512}, "for 256 pixels of a side. Nearest: 256x256", {"size": 256}),
        ("flux", {"size": 8}, "multiple of 16. Nearest: 16x16", {"size": 16}),
        ("pixart-sigma", {"size": 72}, "multiple of 16. Nearest: 64x64", {"size": 64}),
        ("sana", {"size": 80}, "multiple of 32. Nearest: 64x64", {"size": 64}),
        ("sdxl", {"guidance": 0.0}, "from 1 upwards .1 is none., got 0", {"guidance": 1}),
        ("sd", {"guidance": float("nan")}, "from 1 upwards", {"guidance": 1}),
        ("flux", {"guidance": -1.0}, "from 0 upwards, got -1", {"guidance": 0}),
        ("sd", {"guidance": 1000.0}, "a guidance below 1000", {"guidance": 999.5}),
        ("flux-schnell", {"guidance": 3.5}, "without guidance; leave it out, or", {"guidance": 1}),
        ("flux-schnell", {"negative": "x"}, "leads away from no prompt; leave the neg", {}),
        ("flux", {"negative": "x"}, "leads away from no prompt; leave the negative one out", {}),
        (
            "sd",
            {"timesteps": [900, 5]},
            "give steps, or take DDPMScheduler or Euler.* or LCMScheduler or TCDScheduler",
            {"scheduler": "LCMScheduler", "timesteps": [900, 5]},
        ),
        ("sd3", {"timesteps": [900, 5]}, "Stable Diffusion 3 cannot be told timesteps; give", {}),
        (
            "sd",
            {"scheduler": "LCMScheduler", "steps": 51},
            "steps must be from 1 to 50, got 51",
            {"scheduler": "LCMScheduler", "steps": 50},
        ),
        (
            "sana",
            {
                "scheduler": "FlowMatchEulerDiscreteScheduler",
                "scheduler_options": {"use_dynamic_shifting": True},
            },
            "give the option use_dynamic_shifting=false",
            {"scheduler_options": {"use_dynamic_shifting": False}},
        ),
        (
            "pixart-alpha",
            {"scheduler_options": {"variance_type": "learned_range"}},
            "give the option variance_type=null of DPMSolverMultistepScheduler",
            {"scheduler_options": {"variance_type": None}},
        ),
        (
            "sd",
            {"scheduler": "DDPMScheduler", "scheduler_options": {"variance_type": "learned"}},
            "give the option variance_type=fixed_small",
            {"scheduler": "DDPMScheduler", "scheduler_options": {"variance_type": "fixed_small"}},
        ),
        (
            "sdxl",
            {"timesteps": [1000, 5]},
            "the timesteps of this pipeline end at 999, got 1000",
            {"timesteps": [999, 5]},
        ),
        ("flux", {"eta": 0.5}, "cannot be told eta", {}),
        ("sd", {"steps": 0}, "steps must be from 1 to 1000, got 0", {"steps": 1}),
        ("sd", {"negative": "a\0"}, "NUL", {"negative": "a"}),
        ("pixart-alpha", {"steps": 1}, "steps must be from 2 to 1000", {"steps": 2}),
        ("sd3", {"scheduler_options": {"stochastic_sampling": True}}, "no seed decides", {}),
        ("sana", {"scheduler": "DDIMScheduler"}, "does not fit Sana. Fitting: DPMSolver", {}),
    ],
)
def test_refused_and_the_advice_taken(drawing, kind, settings, words, instead):
    pipe = drawing(kind)
    with pytest.raises(UsageError, match=words):
        pipe.resolve(Settings.of(**settings))
    pipe.resolve(Settings.of(**instead))


def test_a_guide_of_diffusers_is_refused(drawing):
    import gensynth

    with pytest.raises(UsageError, match="is a pipeline of diffusers; give a model of gensynth"):
        gensynth.load(device="cpu").resolve(Settings(guide=drawing("flux"), guidance=2))


def test_eta_and_timesteps_reach_the_scheduler(drawing):
    pipe, how = drawing("sd"), {"scheduler": "DDIMScheduler", "size": 64}
    drawn = [
        np.asarray(pipe("a cat", [1], **how, **told)[0]).astype(int)
        for told in ({"steps": 3}, {"steps": 3, "eta": 1.0}, {"steps": 3, "eta": 0.0})
    ]
    assert np.abs(drawn[0] - drawn[1]).max() > 1 and np.array_equal(drawn[0], drawn[2])
    times = []
    pipe.draw(
        ["a cat"],
        [1],
        Settings.of(scheduler="EulerDiscreteScheduler", timesteps=[900, 400, 100], size=64),
        lambda progress: times.append((progress.step, progress.steps)),
    )
    assert times == [(1, 3), (2, 3), (3, 3)]


def test_another_scheduler_of_a_flow_keeps_its_shift(drawing):
    for name in FAMILIES["SanaPipeline"].schedulers:
        scheduler = drawing("sana").resolve(Settings(scheduler=name)).sampler.scheduler
        assert type(scheduler).__name__ == name
        kept = {scheduler.config.get("shift"), scheduler.config.get("flow_shift")} - {None}
        assert kept == {3.0}
        assert scheduler.config.get("prediction_type", "flow_prediction") == "flow_prediction"


def test_schedulers_that_are_offered_are_compatible(made):
    from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

    offered = set(FAMILIES["StableDiffusionPipeline"].schedulers)
    needs_more = {"LMSDiscreteScheduler", "DPMSolverSDEScheduler", "EDMEulerScheduler"}
    others = {"LCMScheduler", "TCDScheduler"}
    assert offered == {one.name for one in KarrasDiffusionSchedulers} - needs_more | others


def test_shifting_by_size_stays_where_the_pipeline_knows_it(drawing):
    for kind in ("sd3", "flux"):
        how = Settings(scheduler_options={"use_dynamic_shifting": True})
        assert drawing(kind).resolve(how).sampler.scheduler.config.use_dynamic_shifting
