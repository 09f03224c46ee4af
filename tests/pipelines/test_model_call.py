"""Models that do not predict what the scheduler wants; guidance by settings and by a guide."""

import copy
import math

import numpy as np
import pytest
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin

import gensynth
from gensynth.errors import UsageError
from gensynth.models.backbone import Backbone
from gensynth.pipelines.model_call import asked, guided_model
from gensynth.samplers.registry import create_scheduler, fitting
from gensynth.settings import Settings


def arrays(pictures) -> np.ndarray:
    return np.stack([np.asarray(picture).astype(int) for picture in pictures])


class KnowsThePicture(ModelMixin, ConfigMixin, Backbone):
    """A diffusion model that training on one picture would end in."""

    size_multiple = 4

    @register_to_config
    def __init__(self, kind: str, learn_sigma: bool = True, num_classes: int = 10):
        super().__init__()
        values = torch.linspace(-0.9, 0.9, 4 * 16 * 16).view(1, 4, 16, 16)
        self.register_buffer("picture", values)
        alphas = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
        self.register_buffer("sigmas", ((1 - alphas) / alphas).sqrt())

    def forward(self, sample, timestep, class_labels):
        sigma = np.interp(timestep[0].item(), np.arange(1000), self.sigmas.numpy())
        signal = 1 / math.sqrt(1 + sigma**2)
        noise = (sample - signal * self.picture) / (signal * sigma)
        output = {
            "epsilon": noise,
            "x": self.picture.expand_as(sample),
            "v": signal * noise - signal * sigma * self.picture,
        }[self.config.kind]
        if not self.config.learn_sigma:
            return output
        return torch.cat([output, torch.zeros_like(output)], dim=1)


@pytest.mark.parametrize("scheduler", fitting("epsilon"))
@pytest.mark.parametrize("kind", ["x", "v"])
@pytest.mark.parametrize("learn_sigma", [True, False])
def test_every_prediction_draws_its_picture(make_pipeline, scheduler, kind, learn_sigma):
    model = KnowsThePicture(kind, learn_sigma)
    draw = make_pipeline("epsilon", model, ddpm_prediction=kind)
    expected = draw.autoencoder.decode(model.picture)[0].int()
    previews = []
    drawn = draw(
        [0, 3], [1, 2], 7, scheduler=scheduler, on_step=lambda p: previews.append(p.preview())
    )
    for picture in arrays(drawn):
        assert abs(picture - expected[0].numpy()).max() <= 1
    assert max(int((preview.int() - expected).abs().max()) for preview in previews) <= 1


def test_a_fixed_variance_is_the_large_one(make_pipeline, make_model):
    draw = make_pipeline("epsilon", make_model(learn_sigma=False))
    assert draw.resolve().sampler.scheduler.config.variance_type == "fixed_large"
    assert draw.scheduler.config.variance_type == "learned_range"
    learned = make_pipeline("epsilon")
    assert learned.resolve().sampler.scheduler.config.variance_type == "learned_range"
    assert np.array_equal(arrays(draw([1], [1])), arrays(draw([1], [1])))


def test_another_scheduler_has_the_betas_of_the_model(make_pipeline):
    draw = make_pipeline("epsilon", scheduler=create_scheduler(None, "epsilon", betas="cosine"))
    for name in [None, *fitting("epsilon")]:
        chosen = draw.resolve(Settings(scheduler=name)).sampler.scheduler
        assert chosen.config.beta_schedule == "squaredcos_cap_v2"


class Counting(torch.nn.Module):
    """Counts the samples that a model is called with."""

    def __init__(self, model):
        super().__init__()
        self.sizes = []
        model.register_forward_pre_hook(lambda module, args: self.sizes.append(len(args[0])))


def test_guidance_acts_in_its_interval_only(make_pipeline):
    draw = make_pipeline(guidance=2.0, guidance_interval=(0.3, 0.7))
    counting = Counting(draw.model)
    first = arrays(draw([1, 2], [1, 2], 10))
    # Euler's noise levels are 1, 0.9, ..., 0.1.
    assert counting.sizes == [2, 2, 2, 4, 4, 4, 4, 4, 2, 2]
    counting.sizes.clear()
    everywhere = arrays(draw([1, 2], [1, 2], 10, guidance_interval=(0, 1)))
    assert counting.sizes == [4] * 10
    assert not np.array_equal(first, everywhere)
    assert np.array_equal(everywhere, arrays(make_pipeline(guidance=2.0)([1, 2], [1, 2], 10)))


def test_power_cosine_reaches_the_model(make_pipeline):
    plain, cosine = make_pipeline(), make_pipeline(guidance_schedule="power-cosine")
    request = {"labels": [1], "seeds": [1], "steps": 5, "guidance": 3.0}
    assert not np.array_equal(arrays(plain(**request)), arrays(cosine(**request)))
    request["guidance"] = 1.0
    assert np.array_equal(arrays(plain(**request)), arrays(cosine(**request)))


def test_guidance_settings_are_saved(make_pipeline, tmp_path):
    settings = {"guidance_schedule": "power-cosine", "guidance_power": 2.0}
    draw = make_pipeline(guidance=2.0, guidance_interval=[0.1, 0.9], **settings)
    draw.save_pretrained(tmp_path)
    loaded = gensynth.load(tmp_path, device="cpu")
    assert loaded.resolve().settings.guidance_interval == (0.1, 0.9)
    assert np.array_equal(arrays(draw([1], [1])), arrays(loaded([1], [1])))


@pytest.mark.parametrize("interval", [(0.5, 0.2), (0.5,), (-1, 1)])
def test_intervals_that_are_refused(tiny_pipeline, interval):
    with pytest.raises(UsageError, match="guidance_interval"):
        tiny_pipeline([1], [1], guidance=2.0, guidance_interval=interval)


def test_a_guide_leads_away_from_itself(make_pipeline, make_model):
    draw, worse = make_pipeline(), make_pipeline(model=make_model(hidden_size=4))
    request = {"labels": [1, 2], "seeds": [1, 2], "guidance": 2.0}
    guided = arrays(draw(**request, guide=worse))
    assert not np.array_equal(guided, arrays(draw(**request)))
    # A model that guides itself changes nothing.
    request["guidance"] = 3.0
    own = arrays(draw(**request, guide=make_pipeline()))
    request["guidance"] = 1.0
    assert abs(own - arrays(draw(**request))).max() <= 1


def test_model_and_guide_of_texts_each_read_a_prompt_once(text_pipeline):
    """With encoders of their own, whose readings differ; the pictures are those of each step's."""
    draw, guide = text_pipeline, copy.deepcopy(text_pipeline)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in guide.model.text_input.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.2)
    readers = [draw.model.text_input.encoder, guide.model.text_input.encoder]
    counts = [0, 0]

    def count(which):
        def hook(*_):
            counts[which] += 1

        return hook

    hooks = [reader.register_forward_hook(count(n)) for n, reader in enumerate(readers)]
    request = {"guidance": 3.0, "guide": guide, "steps": 4}
    drawn = arrays(draw(["a cat", "red apple"], [1, 2], **request))
    for hook in hooks:
        hook.remove()
    assert counts == [1, 1] and drawn.std() > 1
    settings = Settings(guidance=3.0, guide=guide, steps=4)
    walk = draw.resolve(settings)
    told = draw.condition.encode(["a cat", "red apple"], torch.device("cpu"))
    predict, conditions = guided_model(draw, walk, told)
    sample, time = torch.randn(2, 4, 16, 16, generator=generator), torch.full((2,), 0.5)
    with torch.inference_mode():
        strong, weak = (asked(one.model, sample, time, told) for one in (draw, guide))
        assert not torch.equal(strong, weak)
        assert torch.equal(predict(sample, time, conditions), weak.lerp(strong, 3.0))


def test_a_guide_is_asked_in_the_interval_only(make_pipeline):
    draw, worse = make_pipeline(), make_pipeline()
    counting = Counting(worse.model)
    draw([1], [1], 10, guidance=2.0, guidance_interval=(0.3, 0.7), guide=worse)
    assert counting.sizes == [1] * 5


def test_a_guide_replaces_the_null_label(make_pipeline, make_model):
    draw = make_pipeline(model=trained_without_null_label(make_model()))
    for guidance in (0, 0.5, 2.0):
        with pytest.raises(
            UsageError, match="no way to draw without its condition; guidance must be 1"
        ):
            draw([1], [1], guidance=guidance)
    assert len(draw([1], [1])) == 1
    assert len(draw([1], [1], guidance=2.0, guide=make_pipeline())) == 1


def trained_without_null_label(model):
    model.register_to_config(null_label=False)
    return model


@pytest.mark.parametrize(
    ("prediction", "settings", "words"),
    [
        ("epsilon", {}, "its prediction is 'epsilon', not 'velocity'"),
        ("velocity", {"time_scale": 1.0}, "its time_scale is 1.0, not 1000.0"),
    ],
)
def test_guides_of_another_kind_are_refused(
    tiny_pipeline, make_pipeline, prediction, settings, words
):
    guide = make_pipeline(prediction, **settings)
    with pytest.raises(UsageError, match=words):
        tiny_pipeline([1], [1], guidance=2.0, guide=guide)


def test_guides_with_other_classes_or_latents_are_refused(tiny_pipeline, make_pipeline, make_model):
    guide = make_pipeline()
    guide.classes = [*guide.classes[:3], "Dodo", *guide.classes[4:]]
    with pytest.raises(UsageError, match="its class 3 is 'Dodo', not 'Dog'"):
        tiny_pipeline([1], [1], guidance=2.0, guide=guide)
    coarse = make_pipeline(model=make_model(in_channels=16))
    coarse.register_modules(autoencoder=type(coarse.autoencoder)(1, 4))
    with pytest.raises(UsageError, match=r"its latent shape is \(16, 8, 8\), not \(4, 16, 16\)"):
        tiny_pipeline([1], [1], guidance=2.0, guide=coarse)


def test_a_guide_without_guidance_is_refused(tiny_pipeline, make_pipeline):
    with pytest.raises(UsageError, match="no effect with guidance 1"):
        tiny_pipeline([1], [1], guide=make_pipeline())
