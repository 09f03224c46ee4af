import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimized import TINY, assert_same, count_products, drawn, tiny_model
from torch import nn

from gensynth.errors import UsageError
from gensynth.models.dit import DiT
from gensynth.pipelines.acceleration import optimize as optimizing
from gensynth.pipelines.acceleration.step_tables import Modulations, StepTable
from gensynth.pipelines.model_call import ROW, asked, with_rows


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
    table = StepTable(modulations, times, {"class_labels": torch.tensor(labels)})
    assert table.num_columns == len(set(labels))
    time = data.draw(st.sampled_from(times))
    row = torch.tensor(data.draw(st.lists(st.integers(0, len(labels) - 1), min_size=1)))
    timestep = torch.full((len(row),), time)
    expected = modulations.rows(model.embed(timestep, torch.tensor(labels)[row]))
    torch.testing.assert_close(table.find(timestep, row), expected)


@torch.inference_mode()
@pytest.mark.parametrize("name", sorted(TINY))
def test_a_table_without_conditions_has_one_row_a_step(name):
    model = tiny_model(name, num_classes=0)
    modulations = Modulations(model)
    table = StepTable(modulations, [100.0, 300.0, 100.0], {})
    assert len(table.rows) == 2
    timestep = torch.full((3,), 300.0)
    torch.testing.assert_close(table.find(timestep, None), modulations.rows(model.embed(timestep)))
    assert table.find(torch.full((3,), 200.0), None) is None


@torch.inference_mode()
def test_rows_are_found_by_number_whatever_the_conditions_are():
    """Several tensors of any shape and format; equal pictures share a row of the table."""
    seen = []

    class Model(nn.Module):
        device = torch.device("cpu")
        steers = ("text", "size")

        def __init__(self):
            super().__init__()
            self.modulation = nn.Linear(8, 3)

        def embed(self, time, text, size):
            seen.append(len(time))
            return [torch.cat([time[:, None], text.flatten(1), size[:, None].float()], dim=1)]

    generator = torch.Generator().manual_seed(0)
    text = torch.randn(3, 2, 3, generator=generator)[[0, 1, 0, 2, 0]]
    size = torch.tensor([1, 1, 1, 1, 2])
    model = Model()
    modulations = Modulations(model)
    table = StepTable(modulations, [0.25, 0.75], {"text": text, "size": size})
    assert seen == [2 * 4]  # rows 0 and 2 are alike, and 4 has another size
    row, timestep = torch.tensor([4, 2, 3, 0, 1]), torch.full((5,), 0.75)
    expected = model.modulation(model.embed(timestep, text[row], size[row])[0])
    torch.testing.assert_close(table.find(timestep, row), expected)


def told(*labels: int) -> dict[str, torch.Tensor]:
    """The conditions of pictures, with the numbers of their rows."""
    return with_rows({"class_labels": torch.tensor(labels)}, None)[0]


def rows(conditions, *numbers: int) -> dict[str, torch.Tensor]:
    """Some rows of conditions."""
    return {name: tensor[list(numbers)] for name, tensor in conditions.items()}


def test_nothing_follows_the_pictures():
    pictures, none = {"class_labels": torch.tensor([3, 5])}, {"class_labels": torch.tensor([10])}
    conditions, nothing = with_rows(pictures, none)
    assert {name: tensor.tolist() for name, tensor in conditions.items()} == {
        "class_labels": [3, 5],
        ROW: [0, 1],
    }
    assert {name: tensor.tolist() for name, tensor in nothing.items()} == {
        "class_labels": [10],
        ROW: [2],
    }
    assert set(pictures) == set(none) == {"class_labels"}
    assert with_rows({}, None) == ({}, None)


@torch.inference_mode()
def test_what_is_not_in_a_table_is_never_taken_from_it(pair):
    pipeline = pair()[0]
    pipeline.optimize(tables=True)
    products = count_products(pipeline)
    one_call = len(Modulations(pipeline.model).layers)
    walk = told(3, 5, 5)
    ask = pipeline.optimized.at([100.0, 200.0], walk, None)
    assert products == [one_call]
    sample = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    some = rows(walk, 2, 0)
    for times in ([150.0, 150.0], [100.0, 200.0], [100.0, 150.0]):
        timestep = torch.tensor(times)
        expected = asked(pipeline.model, sample, timestep, some)
        before = products[0]
        torch.testing.assert_close(ask(sample, timestep, some), expected, rtol=0, atol=0)
        assert products[0] == before + one_call
    before, timestep = products[0], torch.full((2,), 200.0)
    found = ask(sample, timestep, some)
    assert products[0] == before
    torch.testing.assert_close(found, asked(pipeline.model, sample, timestep, some))
    for unknown in (3, 9):  # there are rows 0 to 2
        with pytest.raises(IndexError):
            ask(sample, timestep, {**some, ROW: torch.tensor([1, unknown])})


class Prompted(DiT):
    """Reads a condition beside its modulations, as attention to a prompt does."""

    takes = ("class_labels", "words")

    def forward(self, sample, timestep, class_labels=None, words=None, embedded=None):
        output = super().forward(sample, timestep, class_labels, embedded=embedded)
        return output + words[:, None, None, None]

    def embed(self, timestep, class_labels=None, crops=None, words=None):
        return super().embed(timestep, class_labels, crops)


@torch.inference_mode()
def test_conditions_that_act_beside_the_modulations_are_kept():
    model = Prompted(**TINY["DiT"][1], num_classes=10, in_channels=4, learn_sigma=False).eval()
    optimized = optimizing.OptimizedModel(model, tables=True, graphs=False)
    # In another order than the model takes them: they are told apart by name.
    conditions = {"words": torch.tensor([5.0, 7.0]), "class_labels": torch.tensor([1, 2])}
    walk, _ = with_rows(conditions, None)
    sample = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    timestep = torch.full((2,), 100.0)
    given = optimized.at([100.0], walk, None)(sample, timestep, walk)
    torch.testing.assert_close(given, asked(model, sample, timestep, walk))
    assert (given.mean(dim=(1, 2, 3)) > 4).all()


@torch.inference_mode()
def test_nothing_is_in_the_table_where_it_will_be_asked_for(pair):
    pipeline = pair()[0]
    pipeline.optimize(tables=True)
    walk, none = with_rows(
        {"class_labels": torch.tensor([3, 5])}, {"class_labels": torch.tensor([10])}
    )
    sample = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    timestep = torch.tensor([100.0])
    ask = pipeline.optimized.at([100.0], walk, none)
    expected = asked(pipeline.model, sample, timestep, none)
    torch.testing.assert_close(ask(sample, timestep, none), expected)
    ask = pipeline.optimized.at([100.0], walk, None)
    with pytest.raises(IndexError):
        ask(sample, timestep, none)


def test_gradients_flow_as_ever(pair):
    plain, optimized = pair()
    optimized.optimize(tables=True)
    ask = optimized.optimized.at([100.0], told(3), None)
    gradients = []
    for call in (lambda *inputs: asked(plain.model, *inputs), ask):
        sample = torch.ones(1, 4, 16, 16, requires_grad=True)
        call(sample, torch.tensor([100.0]), told(3)).square().sum().backward()
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
    ask = pipeline.optimized.at([100.0], told(3), None)
    with pytest.raises(ValueError, match="divisible by 4"):
        ask(torch.zeros(1, 4, 15, 16), torch.tensor([100.0]), told(3))
    assert all(a is b for a, b in zip(before, pipeline.model.modules(), strict=True))


def test_a_model_that_is_told_more_has_no_table(pair, make_pipeline):
    plain, optimized = (
        make_pipeline(model=tiny_model("DiT", size_conditioning=True)) for _ in range(2)
    )
    assert any("size and a crop" in sentence for sentence in optimized.optimize())
    assert_same(plain, optimized, guidance=2.0)
    with pytest.raises(UsageError, match="tables cannot be True"):
        optimized.optimize(tables=True)
