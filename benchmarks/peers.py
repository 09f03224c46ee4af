"""What others compute in the place of our operators, to be timed beside them.

Written from reading the published code; each in the number format of its inputs, as published.
"""

import importlib.util
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_SOFTMAX_TOKENS = 65536


def linfusion(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """LinFusion's attention in plain PyTorch (Huage001/LinFusion, src/linfusion/attention.py)."""
    q, k = F.elu(q) + 1, F.elu(k) + 1
    normalizer = q @ k.mean(dim=-2, keepdim=True).transpose(-2, -1) + 1e-4
    share = k.shape[-2] ** -0.5
    return q @ ((k.transpose(-2, -1) * share) @ (v * share)) / normalizer


def dico(
    x: Tensor, weight: Tensor, bias: Tensor, approximate: str = "none"
) -> tuple[Tensor, Tensor]:
    """DiCo's depthwise convolution, GELU and channel means (shallowdream204/DiCo)."""
    hidden = F.conv2d(x, weight, bias, padding=1, groups=x.shape[1])
    hidden = F.gelu(hidden, approximate=approximate)
    return hidden, hidden.mean(dim=(2, 3))


class DicoInRows:
    """`dico` on images of PyTorch's own layout, as published; changing it is not timed."""

    def __init__(self, approximate: str):
        self.approximate, self.image = approximate, torch.empty(0)

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        if self.image.shape != x.shape or self.image.requires_grad != x.requires_grad:
            self.image = x.detach().contiguous().requires_grad_(x.requires_grad)
        return dico(self.image, weight, bias, self.approximate)


def clear(side: int, window: int, text: int, device: str) -> Callable[..., Tensor]:
    """CLEAR as published: FlexAttention over tokens row by row (Huage001/CLEAR)."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        place, other = query - text, key - text
        down, right = place // side - other // side, place % side - other % side
        return (query < text) | (key < text) | (down * down + right * right < window * window)

    tokens = text + side * side
    mask = create_block_mask(seen, None, None, tokens, tokens, device=device, _compile=True)
    compiled = torch.compile(flex_attention)
    return lambda q, k, v: compiled(q, k, v, block_mask=mask)


def depthwise(x: Tensor, weight: Tensor) -> Tensor:
    """A depthwise convolution and nothing else."""
    return F.conv2d(x, weight, padding=1, groups=x.shape[1])


def beside_linear_attention(tokens: int) -> dict[str, Callable[[str], Callable[..., Tensor]]]:
    """What stands in the place of LinFusion's attention elsewhere and is another function."""
    found: dict[str, Callable[[str], Callable[..., Tensor]]] = {}
    if tokens <= MOST_SOFTMAX_TOKENS:
        found["softmax (SDPA)"] = lambda device: softmax
    if importlib.util.find_spec("fla") is not None:
        found["causal (fla)"] = lambda device: causal
    return found


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Linear attention to the tokens before, of flash-linear-attention, on its own layout."""
    from fla.ops.linear_attn import chunk_linear_attn

    q, k = F.elu(q) + 1, F.elu(k) + 1
    return chunk_linear_attn(*(x.transpose(1, 2).contiguous() for x in (q, k, v)))[0]


def softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of all tokens to all."""
    return F.scaled_dot_product_attention(q, k, v)


def group_norm_act(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GroupNorm and SiLU, as in the decoders of latents."""
    return F.silu(F.group_norm(x, 32, weight, bias))


def modulated_norm(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The modulated LayerNorm of DiT."""
    return F.layer_norm(tokens, tokens.shape[-1:]) * (1 + scale[:, None]) + shift[:, None]


def draw_tokens(conditional: Tensor, null: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A token for each row of guided logits by Gumbel's trick, and its log-probability."""
    logits = 2.5 * conditional.float() - 1.5 * null.float()
    tokens = (logits - (-noise.log()).log()).argmax(dim=-1)
    return tokens, torch.log_softmax(logits, dim=-1).gather(-1, tokens[..., None])[..., 0]
