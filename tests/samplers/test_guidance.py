import math

import pytest
import torch

from gensynth.errors import UsageError
from gensynth.samplers.guidance import (
    autoguidance,
    check_interval,
    classifier_free,
    limited_interval,
    power_cosine,
    scheduled,
)

NULL = {"class_labels": torch.tensor([10])}


class Recorder:
    """A model whose answer encodes label and channel: channel c of label k is 10 k + c + sample."""

    def __init__(self, out_channels: int):
        self.out_channels, self.calls = out_channels, []

    def __call__(self, sample, timestep, conditions):
        labels = conditions["class_labels"]
        self.calls.append((sample, timestep, labels))
        channel = torch.arange(self.out_channels)[None, :, None, None]
        return 10.0 * labels[:, None, None, None] + channel + sample.mean(1, keepdim=True)


@pytest.fixture
def inputs():
    sample = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    return sample, torch.tensor([5.0, 6.0]), {"class_labels": torch.tensor([1, 3])}


def expected(model, inputs, scale, guided):
    sample, timestep, conditions = inputs
    conditional = model(sample, timestep, conditions)
    null = model(sample, timestep, {"class_labels": torch.full((len(sample),), 10)})
    mixed = null + scale * (conditional - null)
    return torch.cat([mixed[:, :guided], conditional[:, guided:]], dim=1)


def test_scale_one_is_the_model_itself():
    model = Recorder(4)
    assert classifier_free(model, 1, NULL) is model


def test_one_call_with_the_batch_twice(inputs):
    model = Recorder(4)
    classifier_free(model, 2.0, NULL)(*inputs)
    ((sample, timestep, labels),) = model.calls
    assert torch.equal(sample, torch.cat([inputs[0]] * 2))
    assert timestep.tolist() == [5, 6, 5, 6]
    assert labels.tolist() == [1, 3, 10, 10]


@pytest.mark.parametrize("scale", [0, 0.5, 1.5, 2.0, 7.5])
@pytest.mark.parametrize(("channels", "guided"), [(None, 4), (3, 3), (1, 1)])
@pytest.mark.parametrize("out_channels", [4, 8])
def test_formula(inputs, scale, channels, guided, out_channels):
    model = Recorder(out_channels)
    output = classifier_free(model, scale, NULL, channels)(*inputs)
    torch.testing.assert_close(output, expected(model, inputs, scale, guided))


def test_variances_keep_the_conditional_value(inputs):
    model = Recorder(8)
    output = classifier_free(model, 4.0, NULL)(*inputs)
    torch.testing.assert_close(output[:, 4:], model(*inputs)[:, 4:])
    assert not torch.allclose(output[:, :4], model(*inputs)[:, :4])


def test_scale_zero_draws_nothing_in_particular(inputs):
    model = Recorder(4)
    output = classifier_free(model, 0, NULL)(*inputs)
    null = {"class_labels": torch.tensor([10, 10])}
    torch.testing.assert_close(output, model(*inputs[:2], null))
    guide = Recorder(4)
    output = autoguidance(model, lambda *given: 0.5 * guide(*given), 0)(*inputs)
    torch.testing.assert_close(output, 0.5 * model(*inputs))


@pytest.mark.parametrize("scale", [-0.01, -1, float("nan")])
def test_scales_below_zero_are_refused(scale):
    with pytest.raises(ValueError, match="guidance must be at least 0"):
        classifier_free(Recorder(4), scale, NULL)
    with pytest.raises(ValueError, match="guidance must be at least 0"):
        autoguidance(Recorder(4), Recorder(4), scale)


def test_without_nothing_there_is_nothing_to_lead_away_from():
    model = Recorder(4)
    assert classifier_free(model, 1, None) is model
    for scale in (2.0, 0, power_cosine(2.5, 1.0, level)):
        with pytest.raises(ValueError, match="lead away from; guidance must be 1"):
            classifier_free(model, scale, None)


def test_every_tensor_of_a_condition_is_doubled():
    """Of any shape and format, also where "nothing" is one row of another format."""
    seen = {}

    def predict(sample, time, conditions):
        seen.update(conditions)
        return sample

    text = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)).half()
    mask, empty = torch.tensor([[True, False], [True, True]]), torch.full((1, 3, 5), 0.25)
    none = {"mask": torch.tensor([[False, True]]), "text": empty, "pooled": torch.ones(1, 2)}
    told = {"text": text, "mask": mask}
    classifier_free(predict, 2.0, none)(torch.zeros(2, 1, 2, 2), torch.zeros(2), told)
    assert set(seen) == {"text", "mask"}
    assert torch.equal(seen["text"], torch.cat([text, empty.half().expand(2, -1, -1)]))
    assert torch.equal(seen["mask"][2:], torch.tensor([[False, True]] * 2))


@pytest.mark.parametrize("scale", [0, 0.5, 3.0, lambda time: 1 + time])
def test_what_a_model_returned_is_never_written_to(scale):
    """It may be a tensor that the model keeps, as one that replays a graph does."""
    generator = torch.Generator().manual_seed(0)
    kept = torch.randn(4, 8, 3, 3, generator=generator)
    weak = torch.randn(2, 8, 3, 3, generator=generator)
    before, weak_before = kept.clone(), weak.clone()
    given = torch.zeros(2, 4, 3, 3), torch.tensor([0.3, 0.7]), {"class_labels": torch.zeros(2)}
    free = classifier_free(lambda *_: kept, scale, NULL, 3)
    auto = autoguidance(lambda *_: kept[:2], lambda *_: weak, scale, 3)
    for guided in (free, auto):
        first = guided(*given).clone()
        assert not torch.equal(first, kept[:2])
        assert torch.equal(guided(*given), first)
        guided(*given).add_(1)  # the result is the caller's own
        assert torch.equal(kept, before) and torch.equal(weak, weak_before)


@pytest.mark.parametrize("shape", [(5, 2, 3), (6, 5)], ids=["[B, V, h, w]", "[B, N, V]"])
@pytest.mark.parametrize("by", ["nothing", "guide"])
@pytest.mark.parametrize("scale", [0.5, 3.0, lambda time: 1 + time])
def test_logits_of_tokens_are_guided_whole(shape, by, scale):
    generator = torch.Generator().manual_seed(0)
    strong, weak = (torch.randn(2, *shape, generator=generator) for _ in range(2))
    tokens, time = torch.zeros(2, 2, 3, dtype=torch.int64), torch.tensor([0.25, 0.75])
    told = {"class_labels": torch.tensor([1, 3])}
    if by == "nothing":
        guided = classifier_free(lambda *_: torch.cat([strong, weak]), scale, NULL)
    else:
        guided = autoguidance(lambda *_: strong, lambda *_: weak, scale)
    factor = scale(time).view(2, *[1] * len(shape)) if callable(scale) else scale
    expected = weak + factor * (strong - weak)
    torch.testing.assert_close(guided(tokens, time, told), expected)


def test_tokens_have_no_channels():
    tokens, time = torch.zeros(2, 2, 3, dtype=torch.int64), torch.zeros(2)
    logits, told = torch.zeros(4, 5, 2, 3), {"class_labels": torch.tensor([1, 3])}
    with pytest.raises(ValueError, match="guided whole, got channels 3"):
        classifier_free(lambda *_: logits, 2.0, NULL, 3)(tokens, time, told)
    with pytest.raises(ValueError, match="guided whole, got channels 3"):
        autoguidance(lambda *_: logits, lambda *_: logits, 2.0, 3)(tokens, time, told)


def level(timestep):
    """Diffusion's: timesteps run to 1000 at pure noise."""
    return timestep / 1000


def test_power_cosine_runs_from_one_at_noise_to_the_scale_at_data():
    scale = power_cosine(3.0, 4.0, level)
    values = scale(torch.arange(0.0, 1001.0, 50.0))
    assert values[0] == 3
    assert values[-1] == 1
    assert (values.diff() <= 0).all()
    halfway = 1 + 2 * (1 - math.cos(math.pi * 0.5**4)) / 2
    torch.testing.assert_close(values[10].item(), halfway)


@pytest.mark.parametrize("scale", [2.5, power_cosine(2.5, 1.0, level)])
def test_an_interval_holds_its_bounds(scale):
    timesteps = torch.tensor([0.0, 299.0, 300.0, 500.0, 700.0, 701.0, 999.0])
    values = limited_interval(scale, 0.3, 0.7, level)(timesteps)
    inside = scale(timesteps) if callable(scale) else torch.full((7,), scale)
    assert torch.equal(values[2:5], inside[2:5])
    assert values[[0, 1, 5, 6]].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("time_scale", [1.0, 1000.0])
def test_an_interval_of_a_flow_holds_its_bounds(time_scale):
    """SiT's time runs the other way, and in float32."""
    time = torch.linspace(0, 1, 11) * time_scale
    values = limited_interval(2.0, 0.2, 0.7, lambda t: 1 - t / time_scale)(time)
    assert (values == 2).nonzero().flatten().tolist() == [3, 4, 5, 6, 7, 8]


def test_each_sample_has_its_own_scale(inputs):
    model = Recorder(4)
    sample, _, labels = inputs
    timestep = torch.tensor([100.0, 900.0])
    scale = limited_interval(power_cosine(3.0, 4.0, level), 0.0, 0.5, level)
    output = classifier_free(model, scale, NULL)(sample, timestep, labels)
    first = expected(model, (sample, timestep, labels), scale(timestep)[0].item(), 4)[0]
    torch.testing.assert_close(output[0], first)
    assert torch.equal(output[1], model(sample, timestep, labels)[1])


def test_no_second_pass_where_the_scale_is_one(inputs):
    model, guide = Recorder(4), Recorder(4)
    scale = limited_interval(2.0, 0.3, 0.7, level)
    sample, _, labels = inputs
    outside, partly = torch.tensor([900.0, 100.0]), torch.tensor([900.0, 500.0])
    free, auto = classifier_free(model, scale, NULL), autoguidance(model, guide, scale)
    for wrapped in (free, auto):
        assert torch.equal(wrapped(sample, outside, labels), model(sample, outside, labels))
    assert [len(call[0]) for call in model.calls] == [2, 2, 2, 2]
    assert guide.calls == []
    free(sample, partly, labels)
    auto(sample, partly, labels)
    assert [len(call[0]) for call in model.calls[4:]] == [4, 2]
    assert len(guide.calls) == 1


@pytest.mark.parametrize(("channels", "guided"), [(None, 4), (3, 3)])
@pytest.mark.parametrize("guide_channels", [4, 8])
def test_autoguidance(inputs, channels, guided, guide_channels):
    """model + (scale - 1) (model - guide), both with the label."""
    model, worse = Recorder(8), Recorder(guide_channels)
    weak = lambda *arguments: 0.5 * worse(*arguments)  # noqa: E731
    output = autoguidance(model, weak, 2.5, channels)(*inputs)
    strong = model(*inputs)
    mixed = strong[:, :guided] + 1.5 * (strong[:, :guided] - weak(*inputs)[:, :guided])
    torch.testing.assert_close(output, torch.cat([mixed, strong[:, guided:]], dim=1))
    assert [call[2].tolist() for call in worse.calls] == [[1, 3]] * 2


def test_autoguidance_with_scale_one_is_the_model_itself():
    model = Recorder(4)
    assert autoguidance(model, Recorder(4), 1.0) is model


def test_settings_make_the_scale():
    t = torch.tensor([100.0, 700.0])
    assert scheduled(1.0, level, "power-cosine", interval=(0.2, 0.3)) == 1
    assert scheduled(2.0, level) == 2
    assert scheduled(2.0, level, interval=(0.0, 0.5))(t).tolist() == [2, 1]
    cosine = scheduled(3.0, level, "power-cosine", 2.0)
    assert torch.equal(cosine(t), power_cosine(3.0, 2.0, level)(t))
    both = scheduled(3.0, level, "power-cosine", 2.0, (0.5, 1.0))(t)
    assert both.tolist() == [1.0, cosine(t)[1].item()]
    with pytest.raises(UsageError, match="constant, linear, power-cosine, got 'cosine'"):
        scheduled(2.0, level, "cosine")


@pytest.mark.parametrize(
    "interval", [(0.5, 0.5), (0.6, 0.2), (-0.1, 1), (0, 2), (0.1,), (0, math.nan)]
)
def test_intervals_that_are_refused(interval):
    with pytest.raises(UsageError, match="0 <= low < high <= 1"):
        check_interval(interval)
