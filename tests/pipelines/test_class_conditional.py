import json
import math

import numpy as np
import pytest
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin

import gensynth
from gensynth.errors import UsageError
from gensynth.models.backbone import Backbone
from gensynth.samplers.registry import SAMPLERS, create_scheduler, fitting, predictions

EVERY = [(prediction, name) for prediction in predictions() for name in fitting(prediction)]
every_scheduler = pytest.mark.parametrize(("prediction", "scheduler"), EVERY)


@pytest.fixture(scope="module")
def pipelines(make_pipeline):
    return {prediction: make_pipeline(prediction) for prediction in predictions()}


def arrays(pictures) -> np.ndarray:
    return np.stack([np.asarray(picture).astype(int) for picture in pictures])


@every_scheduler
def test_a_picture_does_not_depend_on_its_batch(pipelines, prediction, scheduler):
    draw = pipelines[prediction]
    labels, seeds = [1, 2, 2, 7], [5, 5, 6, 9]
    settings = {"steps": 4, "guidance": 1.5, "scheduler": scheduler}
    together = arrays(draw(labels, seeds, **settings))
    apart = arrays(
        draw([label], [seed], **settings)[0] for label, seed in zip(labels, seeds, strict=True)
    )
    backwards = arrays(draw(labels[::-1], seeds[::-1], **settings))[::-1]
    assert abs(together - apart).max() <= 1
    assert abs(together - backwards).max() <= 1
    for one in range(4):  # and yet label and seed both matter
        for other in range(one):
            assert abs(together[one] - together[other]).max() > 1


class KnowsThePicture(ModelMixin, ConfigMixin, Backbone):
    """The model that training on one picture would end in: exact noise, velocity, score, data."""

    size_multiple = 4

    @register_to_config
    def __init__(self, prediction: str, time_scale: float, num_classes: int = 10):
        super().__init__()
        values = torch.linspace(-0.9, 0.9, 4 * 16 * 16).view(1, 4, 16, 16)
        self.register_buffer("picture", values)
        betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        alphas = (1 - betas).cumprod(0)
        self.register_buffer("sigmas", ((1 - alphas) / alphas).sqrt())

    def forward(self, sample, timestep, class_labels):
        if self.config.prediction != "epsilon":
            sigma = 1 - timestep[:, None, None, None] / self.config.time_scale
            noise = (sample - (1 - sigma) * self.picture) / sigma
            return {
                "velocity": self.picture - noise,
                "noise": noise,
                "score": -noise / sigma,
                "x": self.picture.expand_as(sample),
            }[self.config.prediction]
        # Euler's and Heun's timesteps may lie between two training steps.
        sigma = np.interp(timestep[0].item(), np.arange(1000), self.sigmas.numpy())
        signal = 1 / math.sqrt(1 + sigma**2)
        noise = (sample - signal * self.picture) / (signal * sigma)
        return torch.cat([noise, torch.zeros_like(noise)], dim=1)


class KnowsTheTokens(ModelMixin, ConfigMixin, Backbone):
    """The model that training on the tokens of one picture would end in."""

    size_multiple = 1
    works_on = "tokens"

    @register_to_config
    def __init__(self, num_classes: int = 10, codebook_size: int = 16):
        super().__init__()
        self.mask_token = codebook_size
        self.register_buffer("picture", (torch.arange(64) * 5 % 16).view(1, 8, 8))

    def forward(self, token_ids, time, class_labels):
        logits = torch.nn.functional.one_hot(self.picture.flatten(1), self.mask_token + 1)
        return 100.0 * logits.expand(len(token_ids), -1, -1)


# At time 1 the velocity of this model is 0 / 0; and few steps of an SDE leave noise.
OPTIONS = {
    "FlowODEScheduler": {"sample_eps": 1e-3},
    "FlowSDEScheduler": {"last_step": "tweedie"},
}


@every_scheduler
@pytest.mark.parametrize("steps", [2, 7])
def test_a_perfect_model_draws_its_picture_and_previews_it_at_every_step(
    make_pipeline, prediction, scheduler, steps
):
    tokens = prediction == "tokens"
    model = KnowsTheTokens() if tokens else KnowsThePicture(prediction, time_scale=1000.0)
    draw = make_pipeline(prediction, model)
    draw.scheduler = create_scheduler(scheduler, prediction, OPTIONS.get(scheduler))
    expected = draw.autoencoder.decode(model.picture)[0].int()
    previews = []
    drawn = draw(
        [0, 3], [1, 2], steps, scheduler=scheduler, on_step=lambda p: previews.append(p.preview())
    )
    for picture in arrays(drawn):
        assert abs(picture - expected[0].numpy()).max() <= 1
    errors = [int((preview.int() - expected).abs().max()) for preview in previews]
    assert max(errors) <= 1, errors


@pytest.mark.parametrize("time_scale", [1.0, 1000.0])
def test_the_model_sees_time_in_its_own_scale(make_pipeline, time_scale):
    model = KnowsThePicture("velocity", time_scale)
    draw = make_pipeline(model=model, time_scale=time_scale)
    expected = draw.autoencoder.decode(model.picture)[0, 0].int().numpy()
    assert abs(arrays(draw([0], [0], 5))[0] - expected).max() <= 1


@every_scheduler
def test_progress_counts_every_step(pipelines, prediction, scheduler):
    seen = []
    pipelines[prediction]([1, 2, 3], [1, 2, 3], 3, scheduler=scheduler, on_step=seen.append)
    assert [progress.step for progress in seen] == list(range(1, seen[0].steps + 1))
    assert {progress.steps for progress in seen} == {len(seen)}
    assert len(seen) in ((3,) if "Heun" not in scheduler else (5,))
    for progress in seen:
        preview = progress.preview()
        assert preview.shape == (3, 1, 32, 32)
        assert preview.dtype == torch.uint8


def test_the_last_preview_of_eulers_path_is_the_picture(tiny_pipeline):
    seen = []
    (picture,) = tiny_pipeline([4], [4], 5, on_step=seen.append)
    assert abs(seen[-1].preview()[0, 0].int().numpy() - arrays([picture])[0]).max() <= 1


def test_an_exception_from_on_step_ends_the_call(tiny_pipeline):
    class Enough(BaseException):
        pass

    steps = []

    def stop(progress):
        steps.append(progress.step)
        if progress.step == 2:
            raise Enough

    with pytest.raises(Enough):
        tiny_pipeline([1], [1], 5, on_step=stop)
    assert steps == [1, 2]
    assert len(tiny_pipeline([1], [1], 1)) == 1


def test_the_call_leaves_no_trace(tiny_pipeline):
    state = torch.get_rng_state()
    first = arrays(tiny_pipeline([1], [1], 4))
    tiny_pipeline([1], [1], 2, scheduler="UniPCMultistepScheduler")
    assert np.array_equal(first, arrays(tiny_pipeline([1], [1], 4)))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("label", [2, "2", "Cat", "cat", " CAT "])
def test_labels_by_number_and_name(tiny_pipeline, label):
    assert tiny_pipeline.label_id(label) == 2


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("Jackel", ["'Jackel'", "Did you mean 'Jackal'", "Ant, Bear"]),
        ("zzz", ["'zzz'", "Classes: Ant"]),
        ("", ["''"]),
        ("²", ["'²'"]),
        ("-1", ["-1"]),
        (10, ["class 10", "0-9"]),
        ("10", ["class 10", "0-9"]),
        (-1, ["class -1", "0-9"]),
    ],
)
def test_unknown_classes_are_refused(tiny_pipeline, label, expected):
    with pytest.raises(UsageError) as caught:
        tiny_pipeline([label], [0])
    for words in expected:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"steps": 0}, "steps must be from 1 to 1000, got 0"),
        ({"steps": -3}, "steps must be from 1 to 1000, got -3"),
        ({"guidance": -0.5}, "guidance .* -0.5"),
        ({"stepz": 5}, "no setting 'stepz'. Did you mean '?steps.* Known: steps"),
        ({"guidance": float("nan")}, "guidance .* nan"),
        ({"guidance": float("inf")}, "guidance .* inf"),
        ({"size": 30}, "30x30 .* multiple of 8.* 32x32"),
        ({"size": 0}, "0x0 .* Nearest: 8x8"),
        ({"size": -8}, "-8x-8 .* Nearest: 8x8"),
        ({"size": (32, 20)}, "32x20 .* multiple of 8"),
        ({"seeds": [1, 2]}, "1 labels and 2 seeds"),
        ({"labels": []}, "0 labels and 1 seeds"),
        ({"labels": [], "seeds": []}, "label"),
        ({"seeds": [2**64]}, "seed"),
        ({"scheduler": "FlowMatchEulerDiscreteSchedule"}, "Did you mean '?FlowMatchEuler"),
        ({"scheduler": "DDPMScheduler"}, "does not fit .* velocity.* Fitting: FlowMatch"),
        ({"scheduler": "os.system"}, "Fitting: FlowMatch"),
    ],
)
def test_impossible_requests_are_refused(tiny_pipeline, changes, expected):
    with pytest.raises(UsageError, match=expected):
        tiny_pipeline(**{"labels": [1], "seeds": [1], "steps": 1, **changes})


@pytest.mark.parametrize(
    ("prediction", "scheduler"),
    [
        ("epsilon", "DDPMScheduler"),
        ("epsilon", "DPMSolverMultistepScheduler"),
        ("velocity", "UniPCMultistepScheduler"),
    ],
)
def test_more_steps_than_a_scheduler_has_are_refused_in_words(pipelines, prediction, scheduler):
    with pytest.raises(UsageError, match="steps"):
        pipelines[prediction]([1], [1], 1001, size=8, scheduler=scheduler)


@pytest.mark.parametrize("path", ["gvp", "vp"])
@pytest.mark.parametrize("prediction", ["velocity", "x"])
def test_another_path_has_samplers_of_its_own(make_pipeline, tmp_path, path, prediction):
    options = {"last_step": "tweedie", "form": "constant"}
    scheduler = create_scheduler("FlowSDEScheduler", prediction, options, path)
    draw = make_pipeline(prediction, scheduler=scheduler, path=path)
    draw.save_pretrained(tmp_path)
    loaded = gensynth.load(tmp_path, device="cpu")
    assert loaded.scheduler.config["path"] == loaded.config["path"] == path
    request = {"labels": [1, 2], "seeds": [3, 4], "steps": 4}
    drawn = arrays(draw(**request))
    assert np.array_equal(arrays(loaded(**request)), drawn)
    assert np.array_equal(arrays(draw(**request, scheduler="FlowSDEScheduler")), drawn)
    assert not np.array_equal(arrays(draw(**request, scheduler="FlowODEScheduler")), drawn)
    with pytest.raises(UsageError, match=f"on the {path} path. Fitting: FlowODE"):
        draw(**request, scheduler="FlowMatchEulerDiscreteScheduler")
    with pytest.raises(UsageError, match="steps must be from 2 to 10000, got 1"):
        draw(**{**request, "steps": 1})


@pytest.mark.parametrize("method", ["heun", "dopri5"])
def test_pictures_of_every_ode_method_are_apart(make_pipeline, method):
    draw = make_pipeline()
    draw.scheduler = create_scheduler("FlowODEScheduler", "velocity", {"method": method})
    together = arrays(draw([1, 2, 7], [5, 6, 7]))
    apart = arrays(draw([label], [seed])[0] for label, seed in ((1, 5), (2, 6), (7, 7)))
    assert abs(together - apart).max() <= 1


@every_scheduler
def test_one_step_is_enough(pipelines, prediction, scheduler):
    steps = 2 if scheduler == "FlowSDEScheduler" else 1  # one with noise, and the last
    assert len(pipelines[prediction]([1], [1], steps, scheduler=scheduler)) == 1


@pytest.mark.parametrize(
    ("size", "expected"), [(16, (16, 16)), ((16, 40), (40, 16)), (None, (32, 32))]
)
def test_size_is_height_and_width(tiny_pipeline, size, expected):
    (picture,) = tiny_pipeline([1], [1], 1, size=size)
    assert picture.size == expected  # Pillow says width first
    assert picture.mode == "L"


def test_settings_of_the_model_are_the_defaults(make_pipeline):
    draw = make_pipeline(steps=3, guidance=2.0, size=16)
    given = make_pipeline()([1], [1], steps=3, guidance=2.0, size=16)
    assert np.array_equal(arrays(draw([1], [1])), arrays(given))
    assert not np.array_equal(arrays(draw([1], [1], guidance=1.0)), arrays(given))


def test_a_folder_holds_the_whole_pipeline(tiny_pipeline, tiny_model_folder):
    loaded = gensynth.load(tiny_model_folder, device="cpu")
    assert loaded.classes == tiny_pipeline.classes
    assert dict(loaded.config)["time_scale"] == 1000.0
    assert not loaded.model.training
    for name, tensor in tiny_pipeline.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    request = {"labels": ["Cat", 7], "seeds": [3, 4], "guidance": 1.5}
    assert abs(arrays(loaded(**request)) - arrays(tiny_pipeline(**request))).max() <= 1
    again = gensynth.load(tiny_model_folder, device="cpu")
    assert np.array_equal(arrays(loaded(**request)), arrays(again(**request)))


def test_class_names_keep_their_letters(make_pipeline, tmp_path):
    pipeline = make_pipeline()
    pipeline.classes = ["Zürich", "猫", *pipeline.classes[2:]]
    pipeline.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "labels.json").read_text(encoding="utf-8"))[1] == "猫"
    assert gensynth.load(tmp_path).label_id("猫") == 1


DEFAULTS = {
    "velocity": "FlowMatchEulerDiscreteScheduler",
    "epsilon": "DDPMScheduler",
    "noise": "FlowODEScheduler",
    "score": "FlowODEScheduler",
    "x": "FlowODEScheduler",
    "tokens": "HaltonDecoder",
}


@pytest.mark.parametrize("prediction", predictions())
def test_the_default_scheduler_is_the_first(prediction):
    assert type(create_scheduler(None, prediction)).__name__ == DEFAULTS[prediction]
    assert fitting(prediction)[0] == DEFAULTS[prediction]


def test_every_scheduler_fits_something():
    assert {name for _, name in EVERY} == set(SAMPLERS)


@pytest.mark.parametrize("prediction", predictions())
def test_guidance_of_nought_draws_no_class_in_particular(pipelines, prediction, monkeypatch):
    draw = pipelines[prediction]
    zero = arrays(draw([1, 7], [5, 5], guidance=0))
    assert abs(zero[0] - zero[1]).max() <= 1
    half, plain = (arrays(draw([1, 7], [5, 5], guidance=scale)) for scale in (0.5, 1))
    assert not np.array_equal(half, plain) and not np.array_equal(half, zero)
    null = {"class_labels": torch.full((2,), draw.model.config.num_classes)}
    monkeypatch.setattr(draw.condition, "encode", lambda *_: null)
    assert abs(arrays(draw([1, 7], [5, 5])) - zero).max() <= 1
