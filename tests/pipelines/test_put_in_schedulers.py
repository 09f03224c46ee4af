"""Schedulers that somebody puts into a pipeline: they draw the right picture or are refused."""

import diffusers
import numpy as np
import pytest
from test_class_conditional import KnowsThePicture

import gensynth
from gensynth.errors import CorruptError, UsageError
from gensynth.samplers.registry import BY_HAND, SAMPLERS, create_scheduler

FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
OWN_PATH = ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"]
NOISE_ALONE = [
    n for n, e in {**BY_HAND, **SAMPLERS}.items() if e.kind is None and "epsilon" in e.fits
]


def put_in(pipeline, name: str, **changes) -> None:
    """diffusers' usual line."""
    kind = getattr(diffusers, name)
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **changes)


@pytest.mark.parametrize(
    ("prediction", "name", "changes"),
    [
        *(("velocity", name, {}) for name in OWN_PATH),
        ("velocity", "DPMSolverSinglestepScheduler", FLOW),
        ("velocity", "UniPCMultistepScheduler", FLOW),
        *(("epsilon", name, {}) for name in NOISE_ALONE),
    ],
)
@pytest.mark.parametrize("steps", [2, 7])
def test_a_fitting_one_draws_what_a_perfect_model_knows(
    make_pipeline, prediction, name, changes, steps
):
    draw = make_pipeline(prediction, model=KnowsThePicture(prediction, time_scale=1000.0))
    expected = draw.autoencoder.decode(draw.model.picture)[0, 0].int().numpy()
    put_in(draw, name, **changes)
    (picture,) = draw([0], [1], steps)
    # DEIS ends a little before the data.
    assert abs(np.asarray(picture).astype(int) - expected).max() <= (8 if "DEIS" in name else 1)


@pytest.mark.parametrize(
    ("prediction", "name", "changes", "words"),
    [
        (
            "velocity",
            "DDIMScheduler",
            {},
            "does not fit a model that predicts velocity. Fitting: Fl",
        ),
        ("velocity", "LCMScheduler", {}, "does not fit"),
        (
            "velocity",
            "UniPCMultistepScheduler",
            {},
            "make it with use_flow_sigmas=True, prediction_",
        ),
        (
            "velocity",
            "DPMSolverMultistepScheduler",
            {"use_flow_sigmas": True},
            "prediction_type='fl",
        ),
        (
            "epsilon",
            "FlowMatchEulerDiscreteScheduler",
            {},
            "does not fit a model that predicts eps",
        ),
        ("epsilon", "DDIMScheduler", {"prediction_type": "v_prediction"}, "prediction_type='epsil"),
        ("epsilon", "DDIMScheduler", {"beta_schedule": "scaled_linear"}, "beta_schedule='linear'"),
        ("epsilon", "DDPMScheduler", {"beta_end": 0.012}, "make it with beta_end=0.02"),
        ("epsilon", "EulerDiscreteScheduler", {"num_train_timesteps": 500}, "timesteps=1000"),
        ("epsilon", "IPNDMScheduler", {}, "does not fit"),
        ("tokens", "DDIMScheduler", {}, "predicts tokens. Fitting: HaltonDecoder"),
        ("x", "FlowMatchEulerDiscreteScheduler", {}, "predicts x. Fitting: FlowODE"),
    ],
)
def test_another_is_refused_and_the_pipeline_goes_on(
    make_pipeline, prediction, name, changes, words
):
    draw = make_pipeline(prediction)
    before = draw.scheduler
    with pytest.raises(UsageError, match=words):
        put_in(draw, name, **changes)
    assert draw.scheduler is before
    assert len(draw([0], [1], steps=2)) == 1


def test_the_advice_works(make_pipeline):
    draw = make_pipeline("velocity")
    with pytest.raises(UsageError) as refused:
        put_in(draw, "DPMSolverMultistepScheduler")
    advice = str(refused.value).split("make it with ")[1].rstrip(".")
    put_in(draw, "DPMSolverMultistepScheduler", **eval(f"dict({advice})"))
    by_name = make_pipeline("velocity")([0], [1], scheduler="DPMSolverMultistepScheduler")[0]
    assert np.array_equal(np.asarray(draw([0], [1])[0]), np.asarray(by_name))


def test_own_schedulers_are_those_of_the_models_prediction_and_path(make_pipeline):
    draw = make_pipeline("velocity")
    draw.scheduler = create_scheduler("FlowODEScheduler", "velocity", {"method": "heun"})
    for other in (
        create_scheduler("FlowODEScheduler", "x"),
        create_scheduler("FlowSDEScheduler", "velocity", path="vp"),
        None,
        "FlowODEScheduler",
    ):
        with pytest.raises(UsageError, match=r"make it with|does not fit"):
            draw.scheduler = other


def test_a_pipeline_with_a_foreign_scheduler_is_saved_and_loaded(make_pipeline, tmp_path):
    draw = make_pipeline("epsilon")
    put_in(draw, "DDIMScheduler")
    expected = np.asarray(draw([3], [4])[0])
    draw.save_pretrained(tmp_path)
    again = gensynth.load(tmp_path, device="cpu")
    assert type(again.scheduler).__name__ == "DDIMScheduler"
    assert abs(np.asarray(again([3], [4])[0]).astype(int) - expected).max() <= 1


def test_a_folder_with_a_scheduler_of_another_kind_is_damaged(make_pipeline, tmp_path):
    make_pipeline("velocity").save_pretrained(tmp_path)
    index = tmp_path / "model_index.json"
    text = index.read_text().replace("FlowMatchEulerDiscreteScheduler", "DDIMScheduler")
    index.write_text(text)
    with pytest.raises(CorruptError, match="DDIMScheduler does not fit"):
        gensynth.load(tmp_path, device="cpu")
