"""Our own DiT: its mixers are replaced, and its configuration says so."""

import pytest
import torch
from torch import nn

import gensynth
from gensynth.errors import UsageError
from gensynth.models.dit import DiT
from gensynth.models.layers.mixers.linear import GeneralizedLinearAttention
from gensynth.models.layers.mixers.linfusion import LinFusionAttention

HOW = [
    ("clear", {"window": 2}),
    ("clear", {"window": 3, "down_factor": 2}),
    ("linfusion", {}),
    ("linfusion", {"projection_dim": 3}),
]


def shake(model, std=0.2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for parameter in model.parameters():
            parameter.data.add_(torch.randn(parameter.shape) * std)
    return model.eval()


@pytest.fixture
def pipe(make_pipeline):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DiT(
            input_size=16,
            hidden_size=16,
            depth=2,
            num_heads=2,
            num_classes=10,
            learn_sigma=False,
            positions="rope",
        )
    return make_pipeline(model=shake(model))


def draw(pipe, size=32):
    pictures = pipe(labels=[3, 4], seeds=[0, 1], steps=2, size=size)
    return torch.stack([torch.tensor(list(one.getdata())) for one in pictures])


@pytest.mark.parametrize("method, options", HOW)
def test_restored_and_saved(pipe, method, options, tmp_path):
    before, config = draw(pipe), dict(pipe.model.config)
    gensynth.linearize(pipe, method, **options)
    shake(pipe.model, 0.05)  # as after a training
    linear = draw(pipe)
    assert not torch.equal(linear, before)
    pipe.save_pretrained(tmp_path / "model")
    assert torch.equal(draw(gensynth.load(tmp_path / "model")), linear)
    gensynth.linearize.save(pipe, tmp_path / "weights")
    state = {n: p.clone() for n, p in pipe.model.state_dict().items()}
    gensynth.restore(pipe)
    assert dict(pipe.model.config) == config
    pipe.model.load_state_dict({n: state[n] for n in pipe.model.state_dict()})
    softmax = draw(pipe)
    for layer in (module for module in pipe.model.modules() if hasattr(module, "qkv")):
        nn.init.zeros_(layer.qkv.weight)  # the saved weights are to replace them
    gensynth.linearize(pipe, method, tmp_path / "weights")
    assert torch.equal(draw(pipe), linear)
    gensynth.restore(pipe)
    pipe.model.load_state_dict({n: state[n] for n in pipe.model.state_dict()})
    assert torch.equal(draw(pipe), softmax)


def test_a_wide_window_is_full_attention_at_any_size(pipe):
    expected = [draw(pipe), draw(pipe, size=16)]
    gensynth.linearize(pipe, "clear", window=10)  # 8 x 8 tokens
    for size, full in zip((32, 16, 32), (*expected, expected[0]), strict=True):
        assert (draw(pipe, size) - full).abs().max() <= 1  # of 255


def test_sizes_follow_the_factor(pipe):
    gensynth.linearize(pipe, "clear", window=2, down_factor=4)
    assert pipe.model.size_multiple == 8
    with pytest.raises(ValueError, match="divisible by 8"):
        pipe.model(torch.zeros(1, 4, 12, 16), torch.zeros(1))
    gensynth.restore(pipe)
    assert pipe.model.size_multiple == 2


def test_what_is_refused(pipe):
    with pytest.raises(UsageError, match="proportional_attention is for models of diffusers"):
        gensynth.linearize(pipe, "clear", window=2, proportional_attention=True)
    other = DiT(hidden_size=16, depth=1, num_heads=2, mixer="linear")
    with pytest.raises(UsageError, match="no self-attention that could be replaced"):
        gensynth.linearize(other)


def test_linfusion_is_the_published_attention_with_one_matrix_and_biases():
    """Without biases it is the mixer that is compared with the official tensors."""
    mixer, published = LinFusionAttention(8, 2), GeneralizedLinearAttention(8, 2)
    for layer, other in (("to_q_", "query_mlp"), ("to_k_", "key_mlp")):
        getattr(published, other).load_state_dict(getattr(mixer, layer).state_dict())
    for part, name in enumerate(("to_q", "to_k", "to_v")):
        getattr(published, name).weight.data.copy_(mixer.qkv.weight[8 * part : 8 * part + 8])
    published.to_out.load_state_dict(mixer.proj.state_dict())
    nn.init.zeros_(mixer.qkv.bias)
    tokens = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    grid = gensynth.models.layers.grid.Grid(2, 3)
    torch.testing.assert_close(mixer(tokens, grid), published(tokens, grid))
    # an adapter around the layer sees and gives whole projections
    around, inside = nn.Sequential(mixer.qkv), mixer(tokens, grid)
    mixer.qkv = around
    torch.testing.assert_close(mixer(tokens, grid), inside)
