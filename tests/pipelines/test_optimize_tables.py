import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimized import TINY, assert_same, count_products, drawn, tiny_model
from torch import nn

from gensynth.errors import UsageError
from gensynth.pipelines.acceleration import optimize as optimizing
from gensynth.pipelines.acceleration.step_tables import Modulations, StepTable, conditions_of
from gensynth.pipelines.model_call import asked


def test_many_pictures_at_once_have_no_table(pair):
    plain, optimized = pair()
    optimized.optimize(tables=True)
    products = count_products(optimized)
    many = optimizing.MOST_PICTURES + 1
    assert_same(plain, optimized, labels=[3] * many, seeds=range(many), steps=2)
    assert products == [2 * len(Modulations(optimized.model).layers)]


def test_a_table_that_would_be_too_large_is_not_made(pair, monkeypatch, caplog):
    plain, optimized = pair()
    optimized.optimize(tables=True)
    monkeypatch.setattr(optimizing, "MOST_TABLE_BYTES", 2**10)
    with caplog.at_level(logging.WARNING):
        assert_same(plain, optimized)
        drawn(optimized)
    assert caplog.text.count("no table of modulations") == 1


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    times=st.lists(st.floats(0, 1000, width=32), min_size=1, max_size=5),
    labels=st.lists(st.integers(0, 10), min_size=1, max_size=4),
    data=st.data(),
)
@pytest.mark.parametrize("name", sorted(TINY))
@torch.inference_mode()
def test_rows_of_a_table_are_what_the_layers_give(name, times, labels, data):
    model = tiny_model(name)
    modulations = Modulations(model)
    table = StepTable(modulations, times, labels)
    time = data.draw(st.sampled_from(times))
    asked_for = torch.tensor(data.draw(st.lists(st.sampled_from(labels), min_size=1)))
    timestep = torch.full((len(asked_for),), time)
    expected = modulations.rows(conditions_of(model, timestep, asked_for))
    torch.testing.assert_close(table.find(timestep, asked_for), expected)


@torch.inference_mode()
def test_what_is_not_in_a_table_is_never_taken_from_it(pair):
    pipeline = pair()[0]
    pipeline.optimize(tables=True)
    ask = pipeline.optimized.at([100.0, 200.0], torch.tensor([3, 5, 5]))
    sample = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([5, 3])
    for times in ([150.0, 150.0], [100.0, 200.0], [100.0, 150.0]):
        timestep = torch.tensor(times)
        expected = asked(pipeline.model, sample, timestep, labels)
        torch.testing.assert_close(ask(sample, timestep, labels), expected, rtol=0, atol=0)
    for unknown in (4, 9):
        with pytest.raises(IndexError):
            ask(sample, torch.full((2,), 100.0), torch.tensor([5, unknown]))


def test_gradients_flow_as_ever(pair):
    plain, optimized = pair()
    optimized.optimize(tables=True)
    ask = optimized.optimized.at([100.0], torch.tensor([3]))
    gradients = []
    for call in (lambda *inputs: asked(plain.model, *inputs), ask):
        sample = torch.ones(1, 4, 16, 16, requires_grad=True)
        call(sample, torch.tensor([100.0]), torch.tensor([3])).square().sum().backward()
        gradients.append(sample.grad)
    torch.testing.assert_close(*gradients)
    model = optimized.model
    assert all(layer.weight.grad is not None for layer in Modulations(model).layers)


def test_weights_that_change_are_seen_at_once(pair):
    plain, optimized = pair()
    optimized.optimize(tables=True)
    before = drawn(optimized)
    with torch.no_grad():
        for pipeline in (plain, optimized):
            pipeline.model.final_layer.modulation.weight.mul_(-2)
            pipeline.model.final_layer.modulation.bias.add_(0.5)
    assert np.abs(drawn(optimized) - before).max() > 10
    assert_same(plain, optimized)


def test_another_model_in_a_pipeline_is_not_the_optimized_one(pair):
    plain, optimized = pair()
    optimized.optimize(tables=True)
    plain.model = optimized.model = tiny_model("DiCo", hidden_size=12)
    products = count_products(optimized)
    assert_same(plain, optimized, steps=3)
    assert products[0] == 2 * 3 * len(Modulations(plain.model).layers)


def test_a_layer_that_is_no_longer_plain_is_asked(pair, caplog):
    class Adapted(nn.Module):
        def __init__(self, layer: nn.Linear):
            super().__init__()
            self.layer = layer

        def forward(self, condition):
            return self.layer(condition) - 0.3

    plain, optimized = pair()
    optimized.optimize(tables=True)
    drawn(optimized)
    for pipeline in (plain, optimized):
        layer = pipeline.model.final_layer.modulation
        pipeline.model.final_layer.modulation = Adapted(layer)
    with caplog.at_level(logging.WARNING):
        assert_same(plain, optimized)
    assert "final_layer.modulation is a Adapted, not a Linear" in caplog.text
    assert isinstance(optimized.model.final_layer.modulation, Adapted)


@torch.inference_mode()
def test_layers_are_back_after_an_error(pair):
    pipeline = pair()[0]
    pipeline.optimize(tables=True)
    before = list(pipeline.model.modules())
    ask = pipeline.optimized.at([100.0], torch.tensor([3]))
    with pytest.raises(ValueError, match="divisible by 4"):
        ask(torch.zeros(1, 4, 15, 16), torch.tensor([100.0]), torch.tensor([3]))
    assert all(a is b for a, b in zip(before, pipeline.model.modules(), strict=True))


def test_a_model_that_is_told_more_has_no_table(pair, make_pipeline):
    plain, optimized = (
        make_pipeline(model=tiny_model("DiT", size_conditioning=True)) for _ in range(2)
    )
    assert any("size and a crop" in sentence for sentence in optimized.optimize())
    assert_same(plain, optimized, guidance=2.0)
    with pytest.raises(UsageError, match="tables cannot be True"):
        optimized.optimize(tables=True)
