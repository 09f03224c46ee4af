"""Linear attention as operators: forward, its gradient, and the state alone."""

from typing import Any

import torch
from torch import Tensor

from gensynth.ops import launches
from gensynth.ops.choice import INTERPRETING
from gensynth.ops.launches import Launch
from gensynth.ops.library import register
from gensynth.ops.linear_attention.launches import LAUNCHES, key
from gensynth.ops.precision import dot_precision

# A span of tokens is summed by one program. Of the length only, never of the batch or of the GPU:
# a sample is the same in every batch. 64 spans fill a GPU with few heads.
SPANS, SHORTEST_SPAN, SPAN_UNIT = 64, 256, 128
WHOLE = 128  # widest head whose state [D, E] one program holds
TILE = 64  # of wider ones


def padded(width: int) -> int:
    """The next power of two, at least the 16 that a tensor core takes."""
    return max(16, 1 << (int(width) - 1).bit_length())


def span_of(tokens: int) -> int:
    return max(SHORTEST_SPAN, -(-tokens // (SPANS * SPAN_UNIT)) * SPAN_UNIT)


def in_token_order(like: Tensor, tokens: int, width: int) -> Tensor:
    """Uninitialised [B, H, tokens, width] whose memory is [B, tokens, H, width].

    So that heads are merged without a copy.
    """
    batch, heads = like.shape[:2]
    return like.new_empty(batch, tokens, heads, width).transpose(1, 2)


class Sizes:
    """Constants and launches of the kernels for the shapes of one call."""

    def __init__(self, keys: int, values: int, dtype: torch.dtype, feature: str):
        import triton.language as tl

        wide = max(padded(keys), padded(values)) > WHOLE
        types = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
        # The interpreter computes with the bits of a bfloat16 as if they were an integer.
        narrow = dtype != torch.float32 and not (INTERPRETING and dtype == torch.bfloat16)
        self.keys, self.values, self.itemsize, self.feature = keys, values, dtype.itemsize, feature
        self.padded = {"DP": padded(keys), "EP": padded(values)}
        # What a program holds has to fit the registers: 32-bit and wide heads take smaller tiles.
        tile = WHOLE if dtype.itemsize == 2 and not wide else TILE
        self.tiles = {"BD": min(tile, self.padded["DP"]), "BE": min(tile, self.padded["EP"])}
        self.one_tile = tuple(self.tiles.values()) == tuple(self.padded.values())
        self.shape = {"D": keys, "E": values, **self.padded, "FEATURE": feature}
        self.numbers = {
            "DT": types[dtype] if narrow else tl.float32,
            "PRECISION": dot_precision(),
        }

    def launch(self, kernel: str) -> Launch:
        name = key(kernel, self.padded["DP"], self.padded["EP"], self.itemsize)
        return launches.find("linear_attention", LAUNCHES, name)

    def held(self) -> dict[str, int]:
        """Columns of the state at a time in the gradients, and whether a program keeps all of it.

        Where the registers are too few, in 32 bits too, it is read again for each block of tokens.
        """
        keep = self.itemsize == 2 and max(self.padded.values()) <= WHOLE
        columns = 16 if self.itemsize == 2 else min(32, self.padded["EP"])
        return {"BE": self.padded["EP"] if keep else columns, "HELD": keep}

    def empty_state(self, like: Tensor, *before: int) -> tuple[Tensor, Tensor, Tensor]:
        """Uninitialised float32 [*before, B, H, DP, EP], [..., DP] and [..., EP]."""
        lead, (keys, values) = (*before, *like.shape[:2]), self.padded.values()
        new = [(*lead, keys, values), (*lead, keys), (*lead, values)]
        first, second, third = (like.new_empty(shape, dtype=torch.float32) for shape in new)
        return first, second, third


def strided(*tensors: Tensor) -> tuple[list[Tensor], list[list[int]], int]:
    """The tensors with neighbouring channels, their strides of batch, head, token, and the unit
    in which these are given: 8 channels where all are multiples, so that they load as one."""
    # heads are read where they lie in the projection; only scattered channels are copied
    dense = [x if x.stride(-1) == 1 else x.contiguous() for x in tensors]
    strides = [x.stride()[:3] for x in dense]
    unit = 1 if any(step % 8 for steps in strides for step in steps) else 8
    return dense, [[step // unit for step in steps] for steps in strides], unit


def sum_state(k: Tensor, v: Tensor, queries: int, sizes: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    from gensynth.ops.linear_attention import triton as kernels

    tokens = k.shape[2]
    outputs = sizes.empty_state(k)
    totals, sums = sum_products(k, v, sizes)
    if k.shape[0] * k.shape[1]:  # a grid of no programs is an error
        launch, lines = lines_of(sizes.launch("state sum"))
        pairs, splits = k.shape[0] * k.shape[1], len(totals)
        kernels.state_sum_kernel[pairs, sizes.padded["EP"] // lines](
            totals, sums, *outputs, splits, pairs, 1.0 / max(queries, 1), 1.0 / tokens,
            **sizes.padded, FEATURE=sizes.feature, **launch,
        )  # fmt: skip
    return outputs


def lines_of(launch: Launch) -> tuple[dict[str, int], int]:
    return launch.keywords(), launch.blocks["LINES"]


def sum_products(
    a: Tensor, b: Tensor, sizes: Sizes, rows: tuple[Tensor, Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Of each span Σ φ(a)ᵀ b and Σ φ(a).

    Args:
        rows: scales and weights [B, H, tokens] of the rows and the mean of the keys: the sums
            of a gradient, see `state_kernel`.
    """
    from gensynth.ops.linear_attention import triton as kernels

    heads, tokens = a.shape[1:3]
    pairs, span = a.shape[0] * heads, span_of(tokens)
    splits = -(-tokens // span)
    totals, sums, _ = sizes.empty_state(a, splits)
    (a, b), (a_strides, b_strides), unit = strided(a, b)
    tiles = (sizes.padded["DP"] // sizes.tiles["BD"]) * (sizes.padded["EP"] // sizes.tiles["BE"])
    if pairs * splits:
        kernels.state_kernel[pairs * splits, tiles](
            a, b, *(rows or (None, None, None)), totals, sums, *a_strides, *b_strides,
            heads, tokens, span, splits, pairs, **sizes.shape, **sizes.tiles, UNIT=unit,
            WEIGHTED=rows is not None, **sizes.numbers,
            **sizes.launch("state").keywords(),
        )  # fmt: skip
    return totals, sums


def forward(
    q: Tensor, k: Tensor, v: Tensor, feature: str, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from gensynth.ops.linear_attention import triton as kernels

    sizes = Sizes(q.shape[-1], v.shape[-1], q.dtype, feature)
    heads, tokens = q.shape[1:3]
    pairs = q.shape[0] * heads
    state, key_mean, center = sum_state(k, v, tokens, sizes)
    out = in_token_order(q, tokens, v.shape[-1])
    (q,), (strides,), unit = strided(q)
    launch = sizes.launch("output")
    programs = -(-tokens // (launch.blocks["TOKENS"] * launch.blocks["STEPS"]))
    if pairs * programs:
        kernels.output_kernel[pairs * programs, sizes.padded["EP"] // sizes.tiles["BE"]](
            q, state, key_mean, center, out, *strides, heads, tokens, programs, eps,
            **sizes.shape, **sizes.tiles, HELD=sizes.one_tile, UNIT=unit, **sizes.numbers,
            **launch.keywords(),
        )  # fmt: skip
    return out, state, key_mean, center


def backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor, key_mean: Tensor,
    center: Tensor, feature: str, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    sizes = Sizes(q.shape[-1], v.shape[-1], q.dtype, feature)
    q_gradient, totals, sums = query_side(gradient, q, (state, key_mean, center), eps, sizes)
    k_gradient, v_gradient = key_side(k, v, totals, sums, key_mean, center, q.shape[2], sizes)
    return q_gradient, k_gradient, v_gradient


def query_side(
    gradient: Tensor, q: Tensor, saved: tuple[Tensor, Tensor, Tensor], eps: float, sizes: Sizes
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of q and, of each span, Σ wᵀ g and Σ r φ(q)."""
    from gensynth.ops.linear_attention import triton_backward as kernels

    heads, tokens = q.shape[1:3]
    pairs, span = q.shape[0] * heads, span_of(tokens)
    splits = -(-tokens // span)
    one_tile = max(sizes.padded.values()) <= WHOLE
    out = in_token_order(q, tokens, q.shape[-1])
    totals, sums, _ = sizes.empty_state(q, splits if one_tile else 0)
    # One number for each query, with which `state_kernel` sums where the state is several tiles.
    scales, weights = q.new_empty(2, *q.shape[:2], 0 if one_tile else tokens, dtype=torch.float32)
    (dense, g), (q_strides, g_strides), unit = strided(q, gradient)
    if pairs * splits:
        kernels.query_gradient_kernel[(pairs * splits,)](
            dense, g, *saved, out, totals, sums, scales, weights, *q_strides, *g_strides,
            heads, tokens, span, splits, pairs, eps, **sizes.shape, ONE_TILE=one_tile,
            **sizes.held(), UNIT=unit, **sizes.numbers,
            **sizes.launch("query gradient").keywords(),
        )  # fmt: skip
    if not one_tile:
        totals, sums = sum_products(q, gradient, sizes, (scales, weights, saved[1]))
    return out, totals, sums


def key_side(
    k: Tensor, v: Tensor, totals: Tensor, sums: Tensor, key_mean: Tensor, center: Tensor,
    queries: int, sizes: Sizes,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The gradients of k and v from the sums of the queries' side."""
    from gensynth.ops.linear_attention import triton_backward as kernels

    heads, tokens = k.shape[1:3]
    pairs = k.shape[0] * heads
    k_gradient, v_gradient = (in_token_order(x, tokens, x.shape[-1]) for x in (k, v))
    slopes, offsets, _ = sizes.empty_state(k)
    (k, v), (k_strides, v_strides), unit = strided(k, v)
    launch = sizes.launch("key gradient")
    programs = -(-tokens // (launch.blocks["TOKENS"] * launch.blocks["STEPS"]))
    if pairs:
        keywords, lines = lines_of(sizes.launch("gradient sum"))
        kernels.gradient_sum_kernel[pairs, sizes.padded["DP"] // lines](
            totals, sums, key_mean, center, slopes, offsets, len(totals), pairs,
            1.0 / max(queries, 1), 1.0 / tokens,
            **sizes.padded, FEATURE=sizes.feature, **keywords,
        )  # fmt: skip
        (rows, columns), (all_rows, all_columns) = sizes.tiles.values(), sizes.padded.values()
        across = max(all_rows // rows, all_columns // columns)
        kernels.key_gradient_kernel[pairs * programs, across](
            k, v, slopes, offsets, k_gradient, v_gradient, *k_strides, *v_strides,
            heads, tokens, programs, **sizes.shape, **sizes.tiles, HELD=sizes.one_tile,
            UNIT=unit, **sizes.numbers, **launch.keywords(),
        )  # fmt: skip
    return k_gradient, v_gradient


def fake_state(k: Tensor, v: Tensor, queries: int, feature: str) -> tuple[Tensor, Tensor, Tensor]:
    return Sizes(k.shape[-1], v.shape[-1], k.dtype, feature).empty_state(k)


def fake_forward(
    q: Tensor, k: Tensor, v: Tensor, feature: str, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    out = in_token_order(q, q.shape[2], v.shape[-1])
    return out, *fake_state(k, v, q.shape[2], feature)


def fake_backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    first, second, third = (in_token_order(x, x.shape[2], x.shape[3]) for x in (q, k, v))
    return first, second, third


def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    q, k, v, ctx.feature, ctx.eps = inputs
    ctx.save_for_backward(q, k, v, *output[1:])


def differentiate(ctx: Any, gradient: Tensor, *unused: Any) -> tuple[Any, ...]:
    found = backward_operator(gradient, *ctx.saved_tensors, ctx.feature, ctx.eps)
    return *found, None, None


def state(k: Tensor, v: Tensor, queries: int, feature: str) -> tuple[Tensor, Tensor, Tensor]:
    return sum_state(k, v, queries, Sizes(k.shape[-1], v.shape[-1], k.dtype, feature))


backward_operator = register(
    "linear_attention_backward(Tensor gradient, Tensor q, Tensor k, Tensor v, Tensor state, "
    "Tensor key_mean, Tensor center, str feature, float eps) -> (Tensor, Tensor, Tensor)",
    backward,
    fake_backward,
)
# The output, and for the gradient T, m and c of `triton.py`.
forward_operator = register(
    "linear_attention(Tensor q, Tensor k, Tensor v, str feature, float eps) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    forward,
    fake_forward,
    backward=differentiate,
    setup_context=save,
)
# T, m and c alone; without a gradient.
state_operator = register(
    "linear_attention_state(Tensor k, Tensor v, SymInt queries, str feature) "
    "-> (Tensor, Tensor, Tensor)",
    state,
    fake_state,
)
