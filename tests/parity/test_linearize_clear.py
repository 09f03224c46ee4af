"""`gensynth.linearize(..., "clear")` is the published function: Huage001/CLEAR."""

import pytest
import torch
from diffusers import FluxTransformer2DModel
from reference import load_reference
from safetensors.torch import save_file
from test_clear import attended
from torch import nn

import gensynth


def flux(**config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FluxTransformer2DModel(**config).eval()


def trained(state):
    """Those that CLEAR trains and releases."""
    layers = ("attn.to_q.", "attn.to_k.", "attn.to_v.", "attn.to_out.", "spatial_weight")
    return {name: tensor for name, tensor in state.items() if any(n in name for n in layers)}


@pytest.mark.parametrize("name", ["flux_block", "flux_block_down"])
def test_flux(name, tmp_path):
    reference = load_reference(f"clear/{name}.safetensors")
    config, state = reference.config, reference.state
    model = flux(**config["transformer"])
    # other attentions than those of the file, so that its weights have to be loaded
    released = trained(state)
    before = {n: t for n, t in state.items() if "spatial_weight" not in n}
    model.load_state_dict({n: t + 1 if n in released else t for n, t in before.items()})
    down = f"_down_{config['down_factor']}" if config["down_factor"] > 1 else ""
    weights = tmp_path / f"clear_local_{config['window_size']}{down}.safetensors"
    save_file(released, weights)
    with torch.no_grad():
        softmax = model(**reference.input).sample
        for proportional, ntk in [(0, 1), (1, 1), (1, 10)]:
            done = gensynth.linearize(
                model,
                "clear",
                weights,
                proportional_attention=bool(proportional),
                ntk_factor=float(ntk),
            )
            assert len(done.replaced) == 3
            output = model(**reference.input).sample
            reference.check(f"out_prop{proportional}_ntk{ntk}", output)
            gensynth.restore(model)
            assert torch.equal(model(**reference.input).sample, softmax)
        model.load_state_dict(before)
        reference.check("out_softmax", model(**reference.input).sample)


def attend(q, k, v, height, width, text_length, window, down_factor, proportional=False, pool=None):
    """The attention of a single block of FLUX, linearized, on given queries, keys and values.

    Its three projections are made to take them out of tokens that hold all of them.
    """
    heads, dim = q.shape[1], q.shape[3]
    inner = heads * dim
    model = flux(
        in_channels=4,
        num_layers=0,
        num_single_layers=1,
        attention_head_dim=dim,
        num_attention_heads=heads,
        joint_attention_dim=4,
        pooled_projection_dim=4,
        axes_dims_rope=(0, 0, 0),
    )
    options = {"window": window, "down_factor": down_factor}
    gensynth.linearize(model, "clear", **options, proportional_attention=proportional)
    attention = model.single_transformer_blocks[0].attn
    for number, name in enumerate("qkv"):
        layer = nn.Linear(3 * inner, inner, bias=False)
        nn.init.zeros_(layer.weight)
        layer.weight.data[:, number * inner : (number + 1) * inner] = torch.eye(inner)
        setattr(attention, f"to_{name}", layer)
    attention.norm_q = attention.norm_k = nn.Identity()
    if pool is not None:
        attention.spatial_weight.data.copy_(pool)
    joined = torch.cat([x.transpose(1, 2).flatten(2) for x in (q, k, v)], dim=2)
    with torch.no_grad():
        output = attention(joined, grid=gensynth.models.layers.grid.Grid(height, width))
    return output.unflatten(2, (heads, dim)).transpose(1, 2)


def test_attention():
    """Every case, with pooled keys and the proportional scale where it has them."""
    reference = load_reference("clear/attention.safetensors")
    for index, case in enumerate(reference.config["cases"]):
        number = case["inputs"][1:]
        output = attend(
            *(reference.input[f"{letter}{number}"] for letter in "qkv"),
            case["height"],
            case["width"],
            case["text_length"],
            case["window_size"],
            case["down_factor"],
            case["proportional_attention"],
            reference.input.get(f"spatial_weight{number}"),
        )
        reference.check(f"out{index}", output)


@pytest.mark.parametrize("kind", ["local", "down"])
def test_masks(kind):
    reference = load_reference("clear/masks.safetensors")
    for index, case in enumerate(reference.config[kind]):
        seen = attended(**case, attention=attend)
        assert torch.equal(seen, reference.output[f"{kind}{index}"]), case
