"""FLUX and SDXL in their real shapes with random weights: whole, or the blocks of a benchmark.

A stack is what `gensynth bench linearize` times: a function without arguments, of a number of image
tokens, with full attention or with linear attention in its place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import diffusers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gensynth
from gensynth.linearize.clear import NAME as CLEAR
from gensynth.linearize.linfusion import NAME as LINFUSION
from gensynth.ops import local_attention

FLUX: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}
SDXL: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "cross_attention_dim": 2048,
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],  # the number of heads, whatever its name
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
# Everything tiny, for a trial; the numbers say nothing.
TINY_FLUX = FLUX | {
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "pooled_projection_dim": 16,
    "axes_dims_rope": (4, 6, 6),
}
TINY_SDXL = SDXL | {
    "block_out_channels": (32, 32, 64),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "transformer_layers_per_block": [1, 2, 2],
    "attention_head_dim": [1, 2, 4],
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 64,
}
WINDOW = 8  # the smallest that is published
TEXT, TINY_TEXT = 512, 8  # tokens
BLOCKS = {"num_layers": 1, "num_single_layers": 1}  # a third of FLUX's are double blocks
ATTENTIONS = 2  # of a stack of SDXL


@dataclass(frozen=True)
class Stack:
    """Layers of a model at a number of image tokens.

    Attributes:
        method: what takes the place of full attention.
        text: tokens beside those of the image, by whether the stack is tiny.
        make: of the side of the image in tokens, whether it is linear, and whether it is tiny.
    """

    method: str
    text: tuple[int, int]
    make: Callable[[int, bool, bool], Callable[[], Tensor]]


def create(kind: type[nn.Module], config: Mapping[str, Any]) -> nn.Module:
    """A model of diffusers without weights yet: on the meta device."""
    with torch.device("meta"):
        return kind(**config).eval()


def fill(module: nn.Module, device: str, dtype: torch.dtype = torch.float32) -> None:
    """Gives a module random weights, nowhere all zero: zeros multiply faster."""
    assert not list(module.buffers()), "a buffer would hold whatever was in memory"
    nn.Module.to(module, dtype=dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, std=0.02, generator=generator)
        if parameter.dim() == 1 and name.endswith("weight"):  # of a norm
            parameter.data.add_(1)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def flux_blocks(side: int, linear: bool, tiny: bool) -> Callable[[], Tensor]:
    """A double and a single block of FLUX, between its first and its last layer."""
    config = TINY_FLUX if tiny else FLUX | BLOCKS
    model = create(diffusers.FluxTransformer2DModel, config)
    fill(model, "cpu")
    if linear:
        gensynth.linearize(model, CLEAR, window=WINDOW)
    text = TINY_TEXT if tiny else TEXT
    rows = torch.arange(side**2)
    call = partial(
        model,
        hidden_states=noise(1, side**2, config["in_channels"]),
        encoder_hidden_states=noise(1, text, config["joint_attention_dim"]),
        pooled_projections=noise(1, config["pooled_projection_dim"]),
        timestep=torch.tensor([0.5]),
        guidance=torch.tensor([3.5]),
        img_ids=torch.stack([torch.zeros(side**2), rows // side, rows % side], dim=1),
        txt_ids=torch.zeros(text, 3),
        return_dict=False,
    )
    return lambda: call()[0]


def flux_attention(side: int, linear: bool, tiny: bool) -> Callable[[], Tensor]:
    """Attention of one of FLUX's blocks alone, of queries, keys and values that are there."""
    config, text = (TINY_FLUX, TINY_TEXT) if tiny else (FLUX, TEXT)
    heads, dim = config["num_attention_heads"], config["attention_head_dim"]
    q, k, v = (noise(1, heads, text + side**2, dim, seed=seed) for seed in range(3))
    if not linear:
        return partial(F.scaled_dot_product_attention, q, k, v)
    sizes = {"height": side, "width": side, "text_length": text}
    return partial(local_attention, q, k, v, window=WINDOW, **sizes)


def sdxl_attentions(part: str, side: int, linear: bool, tiny: bool) -> Callable[[], Tensor]:
    """Self-attentions of one part of SDXL's UNet with their projections, one after the other."""
    few = {"layers_per_block": 1, "transformer_layers_per_block": [1, 2, 2]}
    unet = create(diffusers.UNet2DConditionModel, TINY_SDXL if tiny else SDXL | few)
    if linear:
        gensynth.linearize(unet, LINFUSION)
    own = unet.get_submodule(part).named_modules()
    stack = [one for name, one in own if name.endswith(".attn1")][:ATTENTIONS]
    for one in stack:
        fill(one, "cpu")
    tokens = noise(1, side**2, stack[0].to_q.in_features)

    def call() -> Tensor:
        x = tokens
        for one in stack:
            x = x + one(x)
        return x

    return call


FLUX_BLOCKS, FLUX_ATTENTION = "FLUX, 2 blocks", "FLUX, attention alone"
STACKS: dict[str, Stack] = {
    FLUX_ATTENTION: Stack(CLEAR, (TEXT, TINY_TEXT), flux_attention),
    "SDXL, 2 self-attentions 640 wide": Stack(
        LINFUSION, (0, 0), partial(sdxl_attentions, "down_blocks.1")
    ),
    "SDXL, 2 self-attentions 1280 wide": Stack(
        LINFUSION, (0, 0), partial(sdxl_attentions, "mid_block")
    ),
    FLUX_BLOCKS: Stack(CLEAR, (TEXT, TINY_TEXT), flux_blocks),
}
