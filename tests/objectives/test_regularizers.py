import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from gensynth import create_model
from gensynth.config import LayerSync, Repa
from gensynth.errors import UsageError
from gensynth.objectives.hidden_states import (
    as_tokens,
    hidden_shapes,
    hidden_states,
    numbered,
    token_grid,
)
from gensynth.objectives.regularizers import (
    RepaTerm,
    check_states,
    dispersive_loss,
    layersync_loss,
    resize_target,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dispersive_by_hand(z, tau):
    """The definition, in float64, with the whole matrix."""
    z = z.double().flatten(1)
    distances = (z[:, None] - z[None]).square().sum(dim=-1)
    return (-distances / (z.shape[1] * tau)).exp().mean().log()


@pytest.mark.parametrize("tau", [0.5, 1.0])
@pytest.mark.parametrize("shape", [(6, 5, 3), (6, 3, 2, 2)])
def test_dispersive_is_the_definition(shape, tau):
    states = normal(*shape).requires_grad_()
    value = dispersive_loss(states, tau, group_size=6)
    expected = dispersive_by_hand(states, tau)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(value, states)
    (right,) = torch.autograd.grad(expected, states)
    torch.testing.assert_close(gradient, right, atol=1e-7, rtol=1e-4)
    assert dispersive_loss(states - 0.1 * gradient, tau, 6) < value


def test_dispersive_does_not_depend_on_the_split_of_a_batch():
    states = normal(12, 7)
    whole = dispersive_loss(states, 0.5, group_size=4)
    parts = [dispersive_loss(part, 0.5, group_size=4) for part in states.split(4)]
    assert float(whole) == pytest.approx(float(torch.stack(parts).mean()), rel=1e-6)
    assert float(whole) != pytest.approx(float(dispersive_loss(states, 0.5, 12)), rel=1e-3)


def test_equal_states_have_finite_gradients():
    states = torch.ones(4, 3, requires_grad=True)
    value = dispersive_loss(states, 0.5, 4)
    value.backward()
    assert value == 0 and states.grad.isfinite().all()


def test_layersync_teaches_the_earlier_block_only():
    first, second = normal(2, 4, 5).requires_grad_(), normal(2, 4, 5, seed=1).requires_grad_()
    layersync_loss([(first, second)]).mean().backward()
    assert first.grad.any() and second.grad is None
    assert layersync_loss([(second, 3 * second)]).mean().item() == pytest.approx(-1)


def test_every_pair_counts():
    a, b, c = (normal(2, 4, 5, seed=n).requires_grad_() for n in range(3))
    layersync_loss([(a, b), (b, c)]).mean().backward()
    assert a.grad.any() and b.grad.any()


def test_half_precision_is_normalised_in_float32():
    """Squares of these overflow or vanish in fp16."""
    large, small = normal(2, 4, 64) * 500, normal(2, 4, 64) * 1e-4
    for states in (large.half(), small.half()):
        assert layersync_loss([(states, states)]) == pytest.approx(-1, abs=1e-5)
    assert dispersive_loss(large.half(), 0.5, 2).isfinite()


def test_target_is_resized_to_the_hidden_grid():
    ramp = torch.arange(4.0).expand(1, 2, 4, 4)
    assert torch.equal(resize_target(ramp, (4, 4)), as_tokens(ramp))
    smaller = resize_target(ramp, (2, 2))
    assert smaller.shape == (1, 4, 2)
    assert smaller[0, 0, 0] < smaller[0, 1, 0]
    assert float(smaller.mean()) == pytest.approx(1.5)
    assert resize_target(ramp, (8, 8)).shape == (1, 64, 2)


@pytest.mark.parametrize("shape", [(2, 9, 6), (2, 6, 3, 3)])
def test_repa_trains_projector_and_state(shape):
    term = RepaTerm(Repa(name="repa", block="b", projector_dim=8), hidden_size=6, target_dim=5)
    state = normal(*shape).requires_grad_()
    term({"b": state}, normal(2, 5, 4, 4)).backward()
    assert state.grad.any()
    assert all(weight.grad.any() for weight in term.parameters())


class Blocks(nn.Module):
    """Three blocks, checkpointed if asked to be."""

    def __init__(self, checkpointed=False):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.checkpointed = checkpointed

    def forward(self, tokens):
        for block in self.blocks:
            if self.checkpointed:
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        return tokens


def test_states_are_those_of_the_first_pass():
    model, inputs = Blocks(), normal(2, 3, 4)
    with hidden_states(model, ["blocks.0", "blocks.2"]) as states:
        output = model(inputs)
        model(inputs + 1)
    assert list(states) == ["blocks.0", "blocks.2"]
    assert states["blocks.2"] is output
    assert torch.equal(states["blocks.0"], model.blocks[0](inputs))


def test_nothing_is_left_behind():
    model = Blocks()
    with pytest.raises(RuntimeError), hidden_states(model, ["blocks.1"]):
        raise RuntimeError
    with hidden_states(model, ["blocks.1"]) as states:
        pass
    model(normal(2, 3, 4))
    assert states == {}
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("inside", [True, False])
def test_recomputation_changes_nothing(inside):
    """Backward inside of the block or after it; gradients equal those without checkpointing."""
    inputs, gradients = normal(2, 3, 4), []
    for checkpointed in (False, True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = Blocks(checkpointed)
        with hidden_states(model, ["blocks.0", "blocks.1"]) as states:
            loss = model(inputs).square().mean() + states["blocks.0"].square().mean()
            loss = loss + layersync_loss([(states["blocks.0"], states["blocks.1"])]).mean()
            kept = dict(states)
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        assert all(states[name] is kept[name] for name in kept)
        gradients.append([weight.grad for weight in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)


def test_states_under_autocast():
    model = Blocks()
    with torch.autocast("cpu", torch.bfloat16), hidden_states(model, ["blocks.1"]) as states:
        model(normal(2, 3, 4))
    assert states["blocks.1"].dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["", "blocks.7", "block.1"])
def test_unknown_state_is_refused(name):
    with (
        pytest.raises(UsageError, match=r"no hidden state.*Blocks: blocks.0 to 2"),
        hidden_states(Blocks(), [name]),
    ):
        pass


NAMED = {
    "DiT-nano/2": ["blocks.0", "blocks.4"],
    "SiT-S/4": ["blocks.11"],
    "DiC-S": ["levels.0.0", "levels.4.5"],
    "DiCo-nano": ["levels.0.0", "levels.2.3"],
    "MDTv2-S/2": ["encoder_in.0", "encoder_out.3", "decoder.3"],
}


@pytest.mark.parametrize("name", NAMED)
def test_every_backbone_has_hidden_states(name):
    with torch.device("meta"):
        model = create_model(name).eval()
        sample, label = torch.zeros(2, 4, 16, 16), torch.zeros(2, dtype=torch.int64)
        shapes = hidden_shapes(model, sample, torch.zeros(2), label)
    known = numbered(list(shapes))
    order = list(shapes)
    for block in NAMED[name]:
        assert block.split(".")[0] in known
        rows, columns = token_grid(shapes[block])
        assert rows == columns and rows in (4, 8, 16)
    assert [order.index(block) for block in NAMED[name]] == sorted(
        order.index(block) for block in NAMED[name]
    )


SHAPES = {"blocks.0": (1, 16, 8), "blocks.1": (1, 16, 8), "blocks.2": (1, 4, 8), "last": (1, 7, 8)}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (["blocks.1", "blocks.1"], "with itself: the cosine is 1 and its gradient zero"),
        (["blocks.1", "blocks.0"], r"wrong way round.*Write \[blocks.0, blocks.1\]"),
        (["blocks.0", "blocks.2"], "16 tokens of width 8 and 4 of width 8"),
        (["blocks.0", "blocks.3"], "no hidden state 'blocks.3'. Did you mean 'blocks.2'"),
    ],
)
def test_pairs_that_cannot_be_aligned(pair, message):
    fine = ["blocks.0", "blocks.1"]
    check_states(LayerSync(name="layersync", pairs=[fine]), SHAPES)
    with pytest.raises(UsageError, match=message):
        check_states(LayerSync(name="layersync", pairs=[fine, pair]), SHAPES)


def test_tokens_without_a_grid_are_refused_for_repa():
    with pytest.raises(UsageError, match="7 tokens does not form a square grid"):
        check_states(Repa(name="repa", block="last"), SHAPES)
