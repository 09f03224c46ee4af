"""The token mixers are the published functions: LinFusion, RALA, InLine. (CLEAR: test_clear.py.)"""

import pytest
import torch
from reference import load_reference
from torch import nn

from gensynth.models.layers.grid import Grid
from gensynth.models.layers.mixers.inline import InLineAttention
from gensynth.models.layers.mixers.linear import GeneralizedLinearAttention
from gensynth.models.layers.mixers.rala import RALABlock, RankAugmentedLinearAttention
from gensynth.models.layers.positions import places, rotary_2d
from gensynth.ops import choice

# Rotary positions are left to the definition, so RALA is not among those that run the kernel.
forced = pytest.mark.parametrize(
    "mode",
    [
        "reference",
        pytest.param(
            "triton",
            marks=pytest.mark.skipif(
                choice.refusal_of_device("cpu", None) is not None, reason="no kernel runs here"
            ),
        ),
    ],
)


def load(module: nn.Module, state: dict, names: dict[str, str]) -> nn.Module:
    """The module with an official state; 1x1 convolutions become matrices."""
    own = module.state_dict()
    renamed = {}
    for name, tensor in state.items():
        prefix = next(prefix for prefix in names if name.startswith(prefix))
        ours = names[prefix] + name[len(prefix) :]
        renamed[ours] = tensor.reshape(own[ours].shape)
    module.load_state_dict(renamed)
    return module.eval()


def check_gradients(module: nn.Module, output: torch.Tensor) -> None:
    module.zero_grad()
    output.square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


LINFUSION = {
    "to_q_.": "query_mlp.",
    "to_k_.": "key_mlp.",
    "to_out.0.": "to_out.",
    "to_": "to_",
}


@forced
@pytest.mark.parametrize("name", ["attention", "attention_identity", "attention_mid"])
def test_linfusion(name, mode):
    reference = load_reference(f"linfusion/{name}.safetensors")
    config = reference.config
    module = GeneralizedLinearAttention(
        config["query_dim"], config["heads"], config["projection_mid_dim"]
    )
    load(module, reference.state, LINFUSION)
    grid = Grid(1, 1)  # the mixer does not look at the grid
    with choice.use(mode):
        for count in config["token_counts"]:
            reference.check(f"out{count}", module(reference.input[f"x{count}"], grid))
        x = reference.input[f"x{config['context_query']}"]
        output = module(x, grid, reference.input["context"])
        reference.check("out_context", output)
        check_gradients(module, output)


INLINE = {
    "qkv.": "qkv.",
    "proj.": "proj.",
    "residual.0.": "kernel_in.",
    "residual.2.": "kernel_out.",
}


@forced
def test_inline_with_class_token(mode):
    reference = load_reference("linear_attention/inline_deit.safetensors")
    config = reference.config
    module = InLineAttention(config["dim"], config["num_heads"], num_prefix_tokens=1)
    load(module, reference.state, INLINE)
    with choice.use(mode):
        output = module(reference.input["x"], Grid(4, 4))
        reference.check("out", output)
        check_gradients(module, output)


@forced
def test_inline_on_a_grid(mode):
    reference = load_reference("linear_attention/inline_pvt.safetensors")
    config = reference.config
    state = dict(reference.state)
    for kind in ("weight", "bias"):
        state[f"qkv.{kind}"] = torch.cat([state.pop(f"q.{kind}"), state.pop(f"kv.{kind}")])
    module = load(InLineAttention(config["dim"], config["num_heads"]), state, INLINE)
    with choice.use(mode):
        output = module(reference.input["x"], Grid(config["H"], config["W"]))
        reference.check("out", output)
        check_gradients(module, output)


RALA = {"qkvo.": "qkvo.", "lepe.": "local_values.", "proj.": "proj."}


def rala_grid(height: int, width: int, head_dim: int) -> Grid:
    rows, columns = (places(n, None, torch.device("cpu")) for n in (height, width))
    return Grid(height, width, rotary_2d(head_dim, rows, columns, inclusive=True))


@pytest.mark.parametrize("name, softmax", [("rala_attention", False), ("rala_vanilla", True)])
def test_rala(name, softmax):
    reference = load_reference(f"linear_attention/{name}.safetensors")
    config = reference.config
    module = RankAugmentedLinearAttention(config["dim"], config["num_heads"], softmax=softmax)
    load(module, reference.state, RALA)
    for index, (height, width) in enumerate(config["sizes"]):
        grid = rala_grid(height, width, config["dim"] // config["num_heads"])
        reference.check(f"cos{index}", grid.rotary[0][0, 0])
        reference.check(f"sin{index}", grid.rotary[1][0, 0])
        output = grid.to_image(module(grid.to_tokens(reference.input[f"x{index}"]), grid))
        reference.check(f"out{index}", output)
    check_gradients(module, output)


def test_rala_block():
    reference = load_reference("linear_attention/rala_block.safetensors")
    config = reference.config
    module = RALABlock(config["embed_dim"], config["num_heads"], config["ffn_dim"])
    names = {
        **{f"attn.{official}": f"attention.{own}" for official, own in RALA.items()},
        "pos.": "position.",
        "norm1.norm.": "norm_attention.",
        "norm2.norm.": "norm_mlp.",
        "ffn.fc1.": "mlp_in.",
        "ffn.fc2.": "mlp_out.",
        "ffn.dwconv.": "depthwise.",
        "gamma_1": "scale_attention",
        "gamma_2": "scale_mlp",
    }
    load(module, reference.state, names)
    height, width = reference.input["x"].shape[2:]
    grid = rala_grid(height, width, config["embed_dim"] // config["num_heads"])
    output = module(reference.input["x"], grid)
    reference.check("out", output)
    check_gradients(module, output)
