import pytest
import torch

from gensynth.guidance import classifier_free

NULL = 10


class Recorder:
    """A model whose answer encodes label and channel: channel c of label k is 10 k + c + sample."""

    def __init__(self, out_channels: int):
        self.out_channels, self.calls = out_channels, []

    def __call__(self, sample, timestep, labels):
        self.calls.append((sample, timestep, labels))
        channel = torch.arange(self.out_channels)[None, :, None, None]
        return 10.0 * labels[:, None, None, None] + channel + sample.mean(1, keepdim=True)


@pytest.fixture
def inputs():
    sample = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    return sample, torch.tensor([5.0, 6.0]), torch.tensor([1, 3])


def expected(model, inputs, scale, guided):
    sample, timestep, labels = inputs
    conditional = model(sample, timestep, labels)
    null = model(sample, timestep, torch.full_like(labels, NULL))
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
    assert labels.tolist() == [1, 3, NULL, NULL]


@pytest.mark.parametrize("scale", [1.5, 2.0, 7.5])
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


@pytest.mark.parametrize("scale", [0.99, 0, -1, float("nan")])
def test_scales_below_one_are_refused(scale):
    with pytest.raises(ValueError, match="guidance must be at least 1"):
        classifier_free(Recorder(4), scale, NULL)
