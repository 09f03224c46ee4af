"""What linearizing does can be undone, saved and loaded, for each family."""

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from linear_models import CASES, bare, call, draw, network, shaken, tiny

import gensynth
from gensynth.linearize import grids
from gensynth.linearize.changes import Change, Hook, apply
from gensynth.linearize.grids import Positions
from gensynth.models.layers.grid import Grid

families = pytest.mark.parametrize("name", CASES)


@families
def test_restore_gives_the_same_picture_and_leaves_nothing(name):
    pipe = tiny(name)
    before = draw(pipe)
    state = {key: value.clone() for key, value in network(pipe).state_dict().items()}
    attributes = {path: set(vars(module)) for path, module in network(pipe).named_modules()}
    method, options = CASES[name]
    done = gensynth.linearize(pipe, method, **options)
    assert not torch.equal(draw(pipe), before)
    assert done.replaced and str(done).startswith(f"{method}: {len(done.replaced)} self-attentions")
    gensynth.restore(pipe)
    assert torch.equal(draw(pipe), before)
    after = network(pipe).state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[key], value) for key, value in state.items())
    assert attributes == {path: set(vars(m)) for path, m in network(pipe).named_modules()}
    assert not network(pipe)._forward_pre_hooks


@families
def test_saved_weights_give_the_same_picture(name, tmp_path):
    method, options = CASES[name]
    pipe, other = tiny(name), tiny(name)
    original = draw(other)
    made = gensynth.linearize(pipe, method, **options)
    expected = draw(shaken(pipe))
    gensynth.linearize.save(pipe, tmp_path / "weights")
    done = gensynth.linearize(other, method, tmp_path / "weights")
    assert torch.equal(draw(other), expected)
    assert done.options == made.options
    gensynth.restore(other)
    assert torch.equal(draw(other), original)


@families
def test_a_copy_is_a_model_of_its_own(name, saved):
    """With weights in the place of the model's, which wait in the record to be put back."""
    pipe = tiny(name)
    before = draw(pipe)
    gensynth.linearize(pipe, CASES[name][0], saved(name))
    linear, twin = draw(pipe), copy.deepcopy(pipe)
    gensynth.restore(twin)
    assert torch.equal(draw(twin), before)
    assert torch.equal(draw(pipe), linear)
    gensynth.restore(pipe)
    assert torch.equal(draw(pipe), before)


class Stubborn:
    """Its attribute cannot be set."""

    @property
    def name(self):
        return 1


def test_changes_are_all_made_or_none():
    """The third of four fails, after a hook."""
    model = bare("sd")
    told, weight = [], model.conv_in.bias
    changes = [
        Change(model.conv_in, "bias", torch.nn.Parameter(weight + 1)),
        Hook(model, lambda module, args, keywords: told.append(1)),
        Change(Stubborn(), "name", 2),
        Change(model, "further", 3),
    ]
    before = call(model)
    with pytest.raises(AttributeError, match="setter"):
        apply(changes)
    assert model.conv_in.bias is weight and torch.equal(call(model), before)
    assert not told and not hasattr(model, "further")


def test_what_has_drawn_can_be_pickled():
    model = bare("flux")
    gensynth.linearize(model, "clear", window=2)
    linear = call(model)
    twin = pickle.loads(pickle.dumps(model))
    assert torch.equal(call(twin), linear)


def test_threads_that_draw_other_sizes_get_their_own(monkeypatch):
    """One is held between finding a grid and keeping it, while the other does both."""
    positions, tall, wide = Positions(), ids(3, 2), ids(2, 3)
    find = grids.of_positions

    def held(given):
        grid = find(given)
        if given is tall:
            assert positions(None, {"img_ids": wide}) == Grid(2, 3)
        return grid

    monkeypatch.setattr(grids, "of_positions", held)
    for _ in range(2):
        assert positions(None, {"img_ids": tall}) == Grid(3, 2)
        assert positions(None, {"img_ids": wide}) == Grid(2, 3)


def ids(height, width):
    """FLUX's positions of a grid."""
    down, across = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(down), down, across], -1).view(-1, 3).float()


def test_restored_in_the_precision_that_the_model_has_now():
    pipe = tiny("sd")
    gensynth.linearize(pipe)
    pipe.unet.to(torch.bfloat16)
    gensynth.restore(pipe)
    assert {parameter.dtype for parameter in pipe.unet.parameters()} == {torch.bfloat16}


def test_a_pipeline_that_holds_one_of_diffusers():
    """As pretrained pipelines of ours do."""
    model = bare("flux")
    holder = SimpleNamespace(inner=SimpleNamespace(transformer=model, vae_scale_factor=8))
    before = call(model)
    done = gensynth.linearize(holder, "clear", window=1)
    assert len(done.replaced) == 3 and not torch.equal(call(model), before)
    gensynth.restore(holder)
    assert torch.equal(call(model), before)


def test_linfusion_begins_with_the_queries_of_the_model_and_draws_from_its_seed():
    state = torch.random.get_rng_state()
    firsts = []
    for seed in (3, 3, 4):
        model = bare("sd")
        done = gensynth.linearize(model, seed=seed)
        network_of = [model.get_submodule(one.name).to_q_ for one in done.replaced]
        assert not any(one(torch.ones(1, 2, one[0].in_features)).any() for one in network_of)
        firsts.append(torch.cat([one[0].weight.flatten() for one in network_of]))
    assert torch.equal(firsts[0], firsts[1]) and not torch.equal(firsts[0], firsts[2])
    assert torch.equal(torch.random.get_rng_state(), state)
