"""The kernel of the forward pass, and what the kernels of the backward pass share with it.

Softmax of scores q·k of the keys in a disc and of keys seen everywhere, in float32.

A program holds a rectangle of queries. It walks first over the keys seen everywhere, then over the
rectangles of keys that cover the discs of its queries: as wide as the queries and `window - 1` on
every side, cut at the image's borders. Tokens are read where they lie, row by row of the image.
"""

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor

from gensynth.ops import choice, launches
from gensynth.ops.local_attention.launches import LAUNCHES, key_of
from gensynth.ops.precision import dot_precision

LOG2_E = 1.4426950408889634  # powers of 2 are one instruction on a GPU, powers of e are two
SIZES = ("tokens_everywhere", "height", "width", "window", "heads")  # fork no binaries


@triton.jit
def load_tokens(
    base, token, stride, real, D: tl.constexpr, WIDTH: tl.constexpr, TYPE: tl.constexpr
):
    """Rows [tokens, WIDTH] in TYPE; zero beyond D channels and where a token is not real."""
    if D % 8 == 0:
        stride = stride // 8 * 8  # it is one already (`readable`), which the compiler must know
    channel = tl.arange(0, WIDTH)
    keep = real[:, None]
    if D < WIDTH:
        keep = keep & (channel < D)[None, :]
    offsets = token.to(tl.int64)[:, None] * stride + channel[None, :]
    return tl.load(base + offsets, mask=keep, other=0.0).to(TYPE)


@triton.jit
def store_tokens(base, token, stride, real, rows, D: tl.constexpr, WIDTH: tl.constexpr):
    """Writes rows [tokens, WIDTH] of real tokens, D channels of each."""
    if D % 8 == 0:
        stride = stride // 8 * 8
    channel = tl.arange(0, WIDTH)
    keep = real[:, None]
    if D < WIDTH:
        keep = keep & (channel < D)[None, :]
    offsets = token.to(tl.int64)[:, None] * stride + channel[None, :]
    tl.store(base + offsets, rows.to(base.dtype.element_ty), mask=keep)


@triton.jit
def head_start(index, heads, batch_stride, head_stride, D: tl.constexpr):
    """Elements from the start of a tensor [B, H, ...] to those of head `index` of B * H."""
    if D % 8 == 0:
        batch_stride = batch_stride // 8 * 8
        head_stride = head_stride // 8 * 8
    return (index // heads).to(tl.int64) * batch_stride + (index % heads).to(tl.int64) * head_stride


@triton.jit
def rectangle(program, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Of B * H, the index of a program, and the corner of its ROWS x COLUMNS of the image."""
    across = tl.cdiv(width, COLUMNS)
    count = tl.cdiv(height, ROWS) * across
    place = program % count
    return program // count, place // across * ROWS, place % across * COLUMNS


@triton.jit
def tokens_of(top, left, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Rows, columns and numbers of the tokens of a rectangle, and which lie in the image."""
    inner = tl.arange(0, ROWS * COLUMNS)
    y = top + inner // COLUMNS
    x = left + inner % COLUMNS
    return y, x, y * width + x, (y < height) & (x < width)


@triton.jit
def box(top, left, height, width, window, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """First row and column, last row and column of the image near a rectangle of ROWS x COLUMNS."""
    return (
        tl.maximum(top - window + 1, 0),
        tl.maximum(left - window + 1, 0),
        tl.minimum(top + ROWS + window - 2, height - 1),
        tl.minimum(left + COLUMNS + window - 2, width - 1),
    )


@triton.jit
def following(y, x, first_x, last_x, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The corner of the next rectangle of a box, row by row."""
    wraps = x + COLUMNS > last_x
    return tl.where(wraps, y + ROWS, y), tl.where(wraps, first_x, x + COLUMNS)


@triton.jit
def all_near(
    top, left, other_top, other_left, height, width, window,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    OTHER_ROWS: tl.constexpr, OTHER_COLUMNS: tl.constexpr,
):  # fmt: skip
    """Whether all tokens of a rectangle see all of the other one, which has none off the image."""
    dy = tl.maximum(top + ROWS - 1 - other_top, other_top + OTHER_ROWS - 1 - top)
    dx = tl.maximum(left + COLUMNS - 1 - other_left, other_left + OTHER_COLUMNS - 1 - left)
    whole = (other_top + OTHER_ROWS <= height) & (other_left + OTHER_COLUMNS <= width)
    return whole & (dy * dy + dx * dx < window * window)


@triton.jit
def near(y, x, other_y, other_x, window):
    """Which tokens see which, [tokens, other tokens]."""
    dy = y[:, None] - other_y[None, :]
    dx = x[:, None] - other_x[None, :]
    return dy * dy + dx * dx < window * window


@triton.jit
def add_to_softmax(scores, v, peak, total, mean, PRECISION: tl.constexpr):
    """Running maximum, sum of weights and weighted sum of values, with further keys."""
    new_peak = tl.maximum(peak, tl.max(scores, 1))
    # A query may have seen no key yet: -inf - -inf is NaN.
    finite = tl.where(new_peak == float("-inf"), 0.0, new_peak)
    weights = tl.exp2(scores - finite[:, None])
    shrink = tl.exp2(peak - finite)  # what was summed so far, to the new maximum
    total = total * shrink + tl.sum(weights, 1)
    mean = mean * shrink[:, None]
    mean = tl.dot(weights.to(v.dtype), v, mean, input_precision=PRECISION)
    return new_peak, total, mean


@triton.jit(do_not_specialize=SIZES)
def forward_kernel(
    q, k, v, everywhere_k, everywhere_v, output, remainder, lse,
    q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token,
    ek_batch, ek_head, ek_token, ev_batch, ev_head, ev_token,
    output_batch, output_head, output_token,
    tokens_everywhere, height, width, window, heads, scale_log2,
    D: tl.constexpr, WIDTH: tl.constexpr, TYPE: tl.constexpr, PRECISION: tl.constexpr,
    QUERY_ROWS: tl.constexpr, QUERY_COLUMNS: tl.constexpr,
    KEY_ROWS: tl.constexpr, KEY_COLUMNS: tl.constexpr, EVERYWHERE: tl.constexpr,
    REMAINDER: tl.constexpr,
):  # fmt: skip
    """Attention of one rectangle of queries of one head, and log2 of its sums of exponentials.

    With REMAINDER also what rounding takes from the output.
    """
    index, top, left = rectangle(tl.program_id(0), height, width, QUERY_ROWS, QUERY_COLUMNS)
    query_y, query_x, query, real = tokens_of(top, left, height, width, QUERY_ROWS, QUERY_COLUMNS)
    q += head_start(index, heads, q_batch, q_head, D)
    k += head_start(index, heads, k_batch, k_head, D)
    v += head_start(index, heads, v_batch, v_head, D)
    everywhere_k += head_start(index, heads, ek_batch, ek_head, D)
    everywhere_v += head_start(index, heads, ev_batch, ev_head, D)
    queries = load_tokens(q, query, q_token, real, D, WIDTH, TYPE)
    # Online softmax: maximum, sum and weighted mean of the keys so far, in float32.
    peak = tl.full([QUERY_ROWS * QUERY_COLUMNS], float("-inf"), tl.float32)
    total = tl.zeros([QUERY_ROWS * QUERY_COLUMNS], tl.float32)
    mean = tl.zeros([QUERY_ROWS * QUERY_COLUMNS, WIDTH], tl.float32)

    for first in range(0, tokens_everywhere, EVERYWHERE):
        shared = first + tl.arange(0, EVERYWHERE)
        shared_real = shared < tokens_everywhere
        keys = load_tokens(everywhere_k, shared, ek_token, shared_real, D, WIDTH, TYPE)
        values = load_tokens(everywhere_v, shared, ev_token, shared_real, D, WIDTH, TYPE)
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale_log2
        scores = tl.where(shared_real[None, :], scores, float("-inf"))
        peak, total, mean = add_to_softmax(scores, values, peak, total, mean, PRECISION)

    first_y, first_x, last_y, last_x = box(
        top, left, height, width, window, QUERY_ROWS, QUERY_COLUMNS
    )
    steps = tl.cdiv(last_y - first_y + 1, KEY_ROWS) * tl.cdiv(last_x - first_x + 1, KEY_COLUMNS)
    y, x = first_y, first_x
    for _ in range(0, steps):
        key_y, key_x, key, key_real = tokens_of(y, x, height, width, KEY_ROWS, KEY_COLUMNS)
        keys = load_tokens(k, key, k_token, key_real, D, WIDTH, TYPE)
        values = load_tokens(v, key, v_token, key_real, D, WIDTH, TYPE)
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale_log2
        # Most rectangles lie inside the disc as a whole; the mask is for those on its edge.
        if not all_near(top, left, y, x, height, width, window, QUERY_ROWS, QUERY_COLUMNS,
                        KEY_ROWS, KEY_COLUMNS):  # fmt: skip
            seen = near(query_y, query_x, key_y, key_x, window) & key_real[None, :]
            scores = tl.where(seen, scores, float("-inf"))
        peak, total, mean = add_to_softmax(scores, values, peak, total, mean, PRECISION)
        y, x = following(y, x, first_x, last_x, KEY_ROWS, KEY_COLUMNS)

    total = tl.where(real, total, 1.0)  # queries beyond the image have seen nothing
    mean = mean / total[:, None]
    start = head_start(index, heads, output_batch, output_head, D)
    store_tokens(output + start, query, output_token, real, mean, D, WIDTH)
    if REMAINDER:
        # The gradient needs the output's product with its own gradient, all digits of it.
        mean -= mean.to(output.dtype.element_ty).to(tl.float32)
        store_tokens(remainder + start, query, output_token, real, mean, D, WIDTH)
    lse += index.to(tl.int64) * height * width
    tl.store(lse + query, peak + tl.log2(total), mask=real)


@triton.jit(do_not_specialize=("size", "count"))
def sum_kernel(parts, total, size, count, BLOCK: tl.constexpr):
    """Sums [count, size] over the first dimension, one after the other."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    result = tl.zeros([BLOCK], tl.float32)
    for part in range(0, count):
        result += tl.load(parts + part * size.to(tl.int64) + place, mask=inside, other=0.0)
    tl.store(total + place, result.to(total.dtype.element_ty), mask=inside)


def forward(
    q: Tensor, k: Tensor, v: Tensor, everywhere_k: Tensor, everywhere_v: Tensor,
    height: int, width: int, window: int, scale: float, differentiable: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Attention [B, H, N, D], its remainder and log2 Σ exp of the scores [B, H, N].

    The remainder is what rounding took from the output, [B, H, N, D] if `differentiable` in a half
    precision, else empty. The first two are stored as [B, N, H, D].
    """
    q, k, v, everywhere_k, everywhere_v = map(readable, (q, k, v, everywhere_k, everywhere_v))
    output = empty_heads(q)
    remainder = empty_remainder(q, differentiable)
    lse = q.new_empty(q.shape[:3], dtype=torch.float32)
    if output.numel() == 0:
        return output, remainder, lse
    launch = launches.find("local_attention", LAUNCHES, key_of("forward", q.shape[3], q.dtype))
    tensors = (q, k, v, everywhere_k, everywhere_v, output)
    forward_kernel[count(q, height, width, launch, "QUERY")](
        *tensors, remainder, lse, *strides(tensors), everywhere_k.shape[2], height, width,
        limited(window), q.shape[1], scale * LOG2_E,
        **constants(q), **launch.keywords(), REMAINDER=remainder.numel() > 0,
    )  # fmt: skip
    return output, remainder, lse


def readable(tensor: Tensor) -> Tensor:
    """The tensor, copied where its channels do not lie side by side or rows are not aligned.

    Rows of a multiple of 8 channels must begin at multiples of 8: they are read 8 at a time.
    """
    step = 8 if tensor.shape[3] % 8 == 0 else 1
    if tensor.stride(3) == 1 and all(stride % step == 0 for stride in tensor.stride()[:3]):
        return tensor
    return tensor.contiguous()


def empty_heads(like: Tensor) -> Tensor:
    """Unwritten [B, H, N, D] stored as [B, N, H, D], so that heads merge without a copy."""
    batch, heads, tokens, dim = like.shape
    return like.new_empty(batch, tokens, heads, dim).transpose(1, 2)


def empty_remainder(like: Tensor, differentiable: bool) -> Tensor:
    """Unwritten remainder of an output; of float32 there is none, and it is empty."""
    if differentiable and like.dtype != torch.float32:
        return empty_heads(like)
    return like.new_empty(0)


def limited(window: int) -> int:
    """A radius whose square fits 32 bits; it reaches beyond any image that the kernel takes."""
    return min(window, 46340)


def constants(q: Tensor) -> Mapping[str, object]:
    """Constants of every kernel: channels, padded and not, and in what they multiply."""
    types = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
    # The interpreter computes bfloat16 on its bit patterns.
    wide = choice.INTERPRETING and q.dtype == torch.bfloat16
    return {
        "D": q.shape[3],
        "WIDTH": max(16, triton.next_power_of_2(q.shape[3])),
        "TYPE": tl.float32 if wide else types[q.dtype],
        "PRECISION": dot_precision(),
    }


def count(q: Tensor, height: int, width: int, launch: launches.Launch, side: str) -> tuple[int]:
    """The grid: one program per head and rectangle of queries or keys."""
    down = triton.cdiv(height, launch.blocks[f"{side}_ROWS"])
    across = triton.cdiv(width, launch.blocks[f"{side}_COLUMNS"])
    return (q.shape[0] * q.shape[1] * down * across,)


def strides(tensors: tuple[Tensor, ...]) -> tuple[int, ...]:
    """Of batch, head and token, tensor by tensor."""
    return tuple(stride for tensor in tensors for stride in tensor.stride()[:3])
