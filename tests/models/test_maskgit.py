"""What is particular to models of tokens; the rest of their contract is in test_models.py."""

import pytest
import torch

from gensynth.models import create_model

SMALL = {"codebook_size": 30, "hidden_size": 32, "num_heads": 2, "depth": 2, "num_classes": 5}
VARIANTS = {
    "plain": {},
    "merged": {"proj": 2, "num_registers": 3},
    "no registers": {"num_registers": 0},
}
every = pytest.mark.parametrize("variant", VARIANTS)


def small(variant="plain", **keywords):
    """A small model, every weight drawn at random, also those that start at zero."""
    keywords = {"input_size": 8, **SMALL, **VARIANTS[variant], **keywords}
    model = create_model("MaskGIT-nano", **keywords).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return model


def inputs(height=8, width=8):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(31, (3, height, width), generator=generator)
    return tokens, torch.tensor([0, 4, 2]), torch.tensor([False, False, True])


@every
@pytest.mark.parametrize("size", [(8, 8), (4, 12), (16, 8)])
def test_logits_of_every_place_and_token(variant, size):
    assert small(variant)(*inputs(*size)).shape == (3, size[0] * size[1], 31)


@every
def test_every_input_and_parameter_matters(variant):
    model = small(variant)
    tokens, labels, drop = inputs()
    output = model(tokens, labels, drop)
    output.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name
    changed = tokens.clone()
    changed[0, 0, 0] = (tokens[0, 0, 0] + 1) % 31
    difference = (model(changed, labels, drop) - output).abs().amax(dim=(1, 2))
    assert difference[0] > 0 and not difference[1:].any()
    assert (model(changed, labels, drop) - output)[0, -1].abs().max() > 0  # also far away
    difference = (model(tokens, (labels + 1) % 5, drop) - output).abs().amax(dim=(1, 2))
    assert (difference[:2] > 0).all() and difference[2] == 0  # the class of the third is dropped
    assert (model(tokens, labels, ~drop) - output).abs().amax(dim=(1, 2)).all()


def test_a_dropped_class_is_the_last_row_of_the_table():
    model = small()
    tokens, labels, _ = inputs()
    drop = torch.ones(3, dtype=torch.bool)
    last = model(tokens, torch.full((3,), 5), ~drop)
    torch.testing.assert_close(model(tokens, labels, drop), last)


def test_places_are_told_apart():
    """One and the same token everywhere: without positions every place would say the same."""
    model = small()
    tokens = torch.full((1, 8, 8), 30)
    labels, drop = torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.bool)
    assert (model(tokens, labels, drop).std(dim=1) > 1e-4).all()
    torch.nn.init.zeros_(model.positions)
    assert model(tokens, labels, drop).std(dim=1).max() < 1e-5


def test_a_fresh_model_is_the_final_layer_of_its_embeddings():
    """The gates start at zero: blocks change nothing, so tokens do not see each other."""
    model = create_model("MaskGIT-nano", input_size=8, **SMALL).eval()
    tokens, labels, drop = inputs()
    before = model(tokens, labels, drop)
    tokens[:, 0, 0] = (tokens[:, 0, 0] + 1) % 31
    after = model(tokens, labels, drop)
    torch.testing.assert_close(after[:, 1:], before[:, 1:])
    assert (after[:, 0] - before[:, 0]).abs().max() > 0


def test_impossible_size_and_keywords_are_refused():
    with pytest.raises(ValueError, match="divisible by 2, got 5x8 tokens"):
        small("merged")(*inputs(5, 8))
    with pytest.raises(ValueError, match="proj must be 1 or 2, got 3"):
        small(proj=3)
    with pytest.raises(ValueError, match="codebook_size must be a whole number from 1, got 0"):
        small(codebook_size=0)
