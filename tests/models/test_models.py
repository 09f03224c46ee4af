"""What every backbone promises."""

import pytest
import torch

from gensynth.errors import UsageError
from gensynth.models import MODELS, constructor_keywords, create_model

# The smallest version of each class: keywords that keep a test in milliseconds.
SMALL = {"DiCo": {"hidden_size": 8, "depth": [1, 1, 1, 1, 1], "num_classes": 5}}
CLASSES = sorted({entry[0].__name__ for entry in MODELS.values()})


def small(name: str, **keywords):
    """A small model of a class, every weight drawn at random, also those that start at zero."""
    model_name = next(key for key, entry in MODELS.items() if entry[0].__name__ == name)
    model = create_model(model_name, **{**SMALL[name], **keywords}).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return model


def inputs(batch: int = 3, height: int = 8, width: int = 8):
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(batch, 4, height, width, generator=generator)
    return sample, torch.tensor([0.0, 0.5, 1.0][:batch]), torch.tensor([0, 4, 5][:batch])


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("learn_sigma", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (4, 12), (16, 8)])
def test_output_has_the_size_of_the_input(name, learn_sigma, size):
    model = small(name, learn_sigma=learn_sigma)
    output = model(*inputs(2, *size))
    assert output.shape == (2, 8 if learn_sigma else 4, *size)


@pytest.mark.parametrize("name", CLASSES)
def test_every_input_and_parameter_matters(name):
    model = small(name)
    sample, timestep, labels = inputs()
    sample.requires_grad_()
    output = model(sample, timestep, labels)
    output.square().sum().backward()
    assert sample.grad.abs().amin(dim=(1, 2, 3)).min() >= 0 and sample.grad.abs().max() > 0
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    assert not torch.equal(output, model(sample, timestep + 0.1, labels))
    assert not torch.equal(output, model(sample, timestep, labels.flip(0)))


@pytest.mark.parametrize("name", CLASSES)
def test_a_row_does_not_depend_on_its_batch(name):
    model = small(name)
    sample, timestep, labels = inputs()
    with torch.inference_mode():
        together = model(sample, timestep, labels)
        alone = model(sample[1:2], timestep[1:2], labels[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CLASSES)
def test_save_and_load(name, tmp_path):
    model = small(name)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    torch.testing.assert_close(again(*inputs()), model(*inputs()), atol=0, rtol=0)


@pytest.mark.parametrize("name", CLASSES)
def test_gradient_checkpointing_changes_nothing(name):
    model = small(name).train()
    model(*inputs()).square().sum().backward()
    plain = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model.enable_gradient_checkpointing()
    model(*inputs()).square().sum().backward()
    for parameter, expected in zip(model.parameters(), plain, strict=True):
        torch.testing.assert_close(parameter.grad, expected)


@pytest.mark.parametrize("name", CLASSES)
def test_a_fresh_model_predicts_zero(name):
    """adaLN-Zero: the output layer starts at zero."""
    model_name = next(key for key, entry in MODELS.items() if entry[0].__name__ == name)
    assert create_model(model_name, **SMALL[name])(*inputs()).abs().max() == 0


def test_impossible_size_is_refused():
    with pytest.raises(ValueError, match="divisible by 4, got 6x8"):
        small("DiCo")(*inputs(2, 6, 8))


def test_names_and_keywords():
    with pytest.raises(UsageError, match="Did you mean 'dico-nano'"):
        create_model("dico-nanno")
    with pytest.raises(TypeError, match="hidden_sise"):
        create_model("dico-nano", hidden_sise=8)
    assert "hidden_size" in constructor_keywords("dico-s")
