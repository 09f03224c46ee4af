"""Kernels of the backward pass of circular local attention.

Scores are computed again from the saved sums of exponentials. Gradients of queries walk over keys
as the forward pass does. A disc is symmetric, so gradients of keys walk over queries in the same
way. Keys seen everywhere sum over all queries: in a few parts, which are added in a fixed order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gensynth.ops import launches
from gensynth.ops.local_attention.launches import LAUNCHES, key_of
from gensynth.ops.local_attention.triton import (
    LOG2_E,
    SIZES,
    all_near,
    box,
    constants,
    count,
    empty_heads,
    following,
    head_start,
    limited,
    load_tokens,
    near,
    readable,
    rectangle,
    store_tokens,
    strides,
    sum_kernel,
    tokens_of,
)

QUERIES_OF_PART = 1024  # at least, of a sum over all queries


@triton.jit
def add_to_queries(weights, grads, keys, values, delta, dq, PRECISION: tl.constexpr):
    """Gradient of queries / scale, with what comes through further keys."""
    # dS = P * (dO Vᵀ - rowsum(dO * O)), the gradient of softmax (FlashAttention, arXiv 2205.14135)
    through = tl.dot(grads, tl.trans(values), input_precision=PRECISION)
    of_scores = weights * (through - delta[:, None])
    return tl.dot(of_scores.to(keys.dtype), keys, dq, input_precision=PRECISION)


@triton.jit
def add_to_keys(weights, grads, queries, values, delta, dk, dv, PRECISION: tl.constexpr):
    """Gradients of keys / scale and of values, with what comes from further queries."""
    dv = tl.dot(weights.to(grads.dtype), grads, dv, input_precision=PRECISION)
    through = tl.dot(values, tl.trans(grads), input_precision=PRECISION)
    of_scores = weights * (through - delta[None, :])
    return tl.dot(of_scores.to(queries.dtype), queries, dk, input_precision=PRECISION), dv


@triton.jit(do_not_specialize=SIZES)
def gradient_q_kernel(
    q, k, v, everywhere_k, everywhere_v, output, grad, dq, remainder, lse, delta,
    q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token,
    ek_batch, ek_head, ek_token, ev_batch, ev_head, ev_token,
    output_batch, output_head, output_token, grad_batch, grad_head, grad_token,
    dq_batch, dq_head, dq_token,
    tokens_everywhere, height, width, window, heads, scale, scale_log2,
    D: tl.constexpr, WIDTH: tl.constexpr, TYPE: tl.constexpr, PRECISION: tl.constexpr,
    QUERY_ROWS: tl.constexpr, QUERY_COLUMNS: tl.constexpr,
    KEY_ROWS: tl.constexpr, KEY_COLUMNS: tl.constexpr, EVERYWHERE: tl.constexpr,
    REMAINDER: tl.constexpr,
):  # fmt: skip
    """Gradient of one rectangle of queries of one head; also writes their grad·output, `delta`."""
    index, top, left = rectangle(tl.program_id(0), height, width, QUERY_ROWS, QUERY_COLUMNS)
    query_y, query_x, query, real = tokens_of(top, left, height, width, QUERY_ROWS, QUERY_COLUMNS)
    q += head_start(index, heads, q_batch, q_head, D)
    k += head_start(index, heads, k_batch, k_head, D)
    v += head_start(index, heads, v_batch, v_head, D)
    everywhere_k += head_start(index, heads, ek_batch, ek_head, D)
    everywhere_v += head_start(index, heads, ev_batch, ev_head, D)
    output_start = head_start(index, heads, output_batch, output_head, D)
    grad += head_start(index, heads, grad_batch, grad_head, D)
    row = index.to(tl.int64) * height * width + query
    queries = load_tokens(q, query, q_token, real, D, WIDTH, TYPE)
    grads = load_tokens(grad, query, grad_token, real, D, WIDTH, TYPE)
    outputs = load_tokens(output + output_start, query, output_token, real, D, WIDTH, tl.float32)
    if REMAINDER:
        # The sum over keys of the gradients of scores is zero, so that what a rounded output gets
        # wrong in `delta` would not cancel where keys have a mean.
        outputs += load_tokens(
            remainder + output_start, query, output_token, real, D, WIDTH, tl.float32
        )
    of_query = tl.sum(grads.to(tl.float32) * outputs, 1)
    tl.store(delta + row, of_query, mask=real)
    # log2 of the sum of exponentials: with it weights come out without a second pass for maxima
    sums = tl.load(lse + row, mask=real, other=0.0)[:, None]
    gradient = tl.zeros([QUERY_ROWS * QUERY_COLUMNS, WIDTH], tl.float32)

    for first in range(0, tokens_everywhere, EVERYWHERE):
        shared = first + tl.arange(0, EVERYWHERE)
        shared_real = shared < tokens_everywhere
        keys = load_tokens(everywhere_k, shared, ek_token, shared_real, D, WIDTH, TYPE)
        values = load_tokens(everywhere_v, shared, ev_token, shared_real, D, WIDTH, TYPE)
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale_log2
        weights = tl.where(shared_real[None, :], tl.exp2(scores - sums), 0.0)
        gradient = add_to_queries(weights, grads, keys, values, of_query, gradient, PRECISION)

    y0, x0, y1, x1 = box(top, left, height, width, window, QUERY_ROWS, QUERY_COLUMNS)
    y, x = y0, x0
    for _ in range(0, tl.cdiv(y1 - y0 + 1, KEY_ROWS) * tl.cdiv(x1 - x0 + 1, KEY_COLUMNS)):
        key_y, key_x, key, key_real = tokens_of(y, x, height, width, KEY_ROWS, KEY_COLUMNS)
        keys = load_tokens(k, key, k_token, key_real, D, WIDTH, TYPE)
        values = load_tokens(v, key, v_token, key_real, D, WIDTH, TYPE)
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale_log2
        weights = tl.exp2(scores - sums)
        if not all_near(top, left, y, x, height, width, window, QUERY_ROWS, QUERY_COLUMNS,
                        KEY_ROWS, KEY_COLUMNS):  # fmt: skip
            seen = near(query_y, query_x, key_y, key_x, window) & key_real[None, :]
            weights = tl.where(seen, weights, 0.0)
        gradient = add_to_queries(weights, grads, keys, values, of_query, gradient, PRECISION)
        y, x = following(y, x, x0, x1, KEY_ROWS, KEY_COLUMNS)

    dq += head_start(index, heads, dq_batch, dq_head, D)
    store_tokens(dq, query, dq_token, real, gradient * scale, D, WIDTH)


@triton.jit(do_not_specialize=SIZES)
def gradient_kv_kernel(
    q, k, v, grad, dk, dv, lse, delta,
    q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token,
    grad_batch, grad_head, grad_token, dk_batch, dk_head, dk_token, dv_batch, dv_head, dv_token,
    height, width, window, heads, scale, scale_log2,
    D: tl.constexpr, WIDTH: tl.constexpr, TYPE: tl.constexpr, PRECISION: tl.constexpr,
    QUERY_ROWS: tl.constexpr, QUERY_COLUMNS: tl.constexpr,
    KEY_ROWS: tl.constexpr, KEY_COLUMNS: tl.constexpr,
):  # fmt: skip
    """Gradients of one rectangle of keys and values of one head."""
    index, top, left = rectangle(tl.program_id(0), height, width, KEY_ROWS, KEY_COLUMNS)
    key_y, key_x, key, real = tokens_of(top, left, height, width, KEY_ROWS, KEY_COLUMNS)
    q += head_start(index, heads, q_batch, q_head, D)
    k += head_start(index, heads, k_batch, k_head, D)
    v += head_start(index, heads, v_batch, v_head, D)
    grad += head_start(index, heads, grad_batch, grad_head, D)
    lse += index.to(tl.int64) * height * width
    delta += index.to(tl.int64) * height * width
    keys = load_tokens(k, key, k_token, real, D, WIDTH, TYPE)
    values = load_tokens(v, key, v_token, real, D, WIDTH, TYPE)
    key_gradient = tl.zeros([KEY_ROWS * KEY_COLUMNS, WIDTH], tl.float32)
    value_gradient = tl.zeros([KEY_ROWS * KEY_COLUMNS, WIDTH], tl.float32)

    y0, x0, y1, x1 = box(top, left, height, width, window, KEY_ROWS, KEY_COLUMNS)
    y, x = y0, x0
    for _ in range(0, tl.cdiv(y1 - y0 + 1, QUERY_ROWS) * tl.cdiv(x1 - x0 + 1, QUERY_COLUMNS)):
        query_y, query_x, query, query_real = tokens_of(
            y, x, height, width, QUERY_ROWS, QUERY_COLUMNS
        )
        queries = load_tokens(q, query, q_token, query_real, D, WIDTH, TYPE)
        grads = load_tokens(grad, query, grad_token, query_real, D, WIDTH, TYPE)
        sums = tl.load(lse + query, mask=query_real, other=0.0)
        of_query = tl.load(delta + query, mask=query_real, other=0.0)
        scores = tl.dot(keys, tl.trans(queries), input_precision=PRECISION) * scale_log2
        weights = tl.exp2(scores - sums[None, :])
        if not all_near(top, left, y, x, height, width, window, KEY_ROWS, KEY_COLUMNS,
                        QUERY_ROWS, QUERY_COLUMNS):  # fmt: skip
            seen = near(key_y, key_x, query_y, query_x, window) & query_real[None, :]
            weights = tl.where(seen, weights, 0.0)
        key_gradient, value_gradient = add_to_keys(
            weights, grads, queries, values, of_query, key_gradient, value_gradient, PRECISION
        )
        y, x = following(y, x, x0, x1, QUERY_ROWS, QUERY_COLUMNS)

    dk += head_start(index, heads, dk_batch, dk_head, D)
    dv += head_start(index, heads, dv_batch, dv_head, D)
    store_tokens(dk, key, dk_token, real, key_gradient * scale, D, WIDTH)
    store_tokens(dv, key, dv_token, real, value_gradient, D, WIDTH)


@triton.jit(do_not_specialize=(*SIZES, "tokens", "per_part", "parts", "all_heads"))
def gradient_everywhere_kernel(
    q, k, v, grad, parts_k, parts_v, lse, delta,
    q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token,
    grad_batch, grad_head, grad_token,
    tokens_everywhere, tokens, per_part, parts, heads, all_heads, scale, scale_log2,
    D: tl.constexpr, WIDTH: tl.constexpr, TYPE: tl.constexpr, PRECISION: tl.constexpr,
    QUERIES: tl.constexpr, EVERYWHERE: tl.constexpr,
):  # fmt: skip
    """Gradients of some keys and values seen everywhere, from one part of the queries of a head.

    Written to float32 `parts_k` and `parts_v` [parts, B, H, tokens_everywhere, D].
    """
    blocks = tl.cdiv(tokens_everywhere, EVERYWHERE)
    block = tl.program_id(0) % blocks
    part = tl.program_id(0) // blocks % parts
    index = tl.program_id(0) // (blocks * parts)
    q += head_start(index, heads, q_batch, q_head, D)
    k += head_start(index, heads, k_batch, k_head, D)
    v += head_start(index, heads, v_batch, v_head, D)
    grad += head_start(index, heads, grad_batch, grad_head, D)
    lse += index.to(tl.int64) * tokens
    delta += index.to(tl.int64) * tokens
    key = block * EVERYWHERE + tl.arange(0, EVERYWHERE)
    real = key < tokens_everywhere
    keys = load_tokens(k, key, k_token, real, D, WIDTH, TYPE)
    values = load_tokens(v, key, v_token, real, D, WIDTH, TYPE)
    key_gradient = tl.zeros([EVERYWHERE, WIDTH], tl.float32)
    value_gradient = tl.zeros([EVERYWHERE, WIDTH], tl.float32)

    for first in range(part * per_part, tl.minimum((part + 1) * per_part, tokens), QUERIES):
        query = first + tl.arange(0, QUERIES)
        query_real = query < tokens
        queries = load_tokens(q, query, q_token, query_real, D, WIDTH, TYPE)
        grads = load_tokens(grad, query, grad_token, query_real, D, WIDTH, TYPE)
        sums = tl.load(lse + query, mask=query_real, other=0.0)
        of_query = tl.load(delta + query, mask=query_real, other=0.0)
        scores = tl.dot(keys, tl.trans(queries), input_precision=PRECISION) * scale_log2
        weights = tl.where(query_real[None, :], tl.exp2(scores - sums[None, :]), 0.0)
        key_gradient, value_gradient = add_to_keys(
            weights, grads, queries, values, of_query, key_gradient, value_gradient, PRECISION
        )

    start = (part.to(tl.int64) * all_heads + index) * tokens_everywhere * D
    store_tokens(parts_k + start, key, D, real, key_gradient * scale, D, WIDTH)
    store_tokens(parts_v + start, key, D, real, value_gradient, D, WIDTH)


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, everywhere_k: Tensor, everywhere_v: Tensor,
    output: Tensor, remainder: Tensor, lse: Tensor,
    height: int, width: int, window: int, scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k, v [B, H, N, D], stored [B, N, H, D], and everywhere_k, everywhere_v."""
    grad, q, k, v = map(readable, (grad, q, k, v))
    everywhere_k, everywhere_v = readable(everywhere_k), readable(everywhere_v)
    dq, dk, dv = (empty_heads(q) for _ in range(3))
    if q.numel() == 0:
        dek, dev = (everywhere_k.new_zeros(everywhere_k.shape) for _ in range(2))
        return dq, dk, dv, dek, dev
    # The kernel reads both by the same strides.
    if remainder.numel() and remainder.stride() != output.stride():
        output, remainder = output.contiguous(), remainder.contiguous()
    delta = torch.empty_like(lse)
    image = (height, width, limited(window), q.shape[1])
    factors = (scale, scale * LOG2_E)

    launch = launches.find("local_attention", LAUNCHES, key_of("gradient_q", q.shape[3], q.dtype))
    tensors: tuple[Tensor, ...] = (q, k, v, everywhere_k, everywhere_v, output, grad, dq)
    gradient_q_kernel[count(q, height, width, launch, "QUERY")](
        *tensors, remainder, lse, delta, *strides(tensors), everywhere_k.shape[2], *image,
        *factors, **constants(q), **launch.keywords(), REMAINDER=remainder.numel() > 0,
    )  # fmt: skip
    # After the queries' kernel, which writes the `delta` that this one reads.
    launch = launches.find("local_attention", LAUNCHES, key_of("gradient_kv", q.shape[3], q.dtype))
    tensors = (q, k, v, grad, dk, dv)
    gradient_kv_kernel[count(q, height, width, launch, "KEY")](
        *tensors, lse, delta, *strides(tensors), *image, *factors,
        **constants(q), **launch.keywords(),
    )  # fmt: skip
    dek, dev = gradient_everywhere(grad, q, everywhere_k, everywhere_v, lse, delta, factors)
    return dq, dk, dv, dek, dev


def gradient_everywhere(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, lse: Tensor, delta: Tensor,
    factors: tuple[float, float],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of keys and values [B, H, E, D] that all queries [B, H, N, D] see."""
    batch, heads, tokens, dim = q.shape
    tokens_everywhere = k.shape[2]
    dk, dv = (torch.empty(k.shape, dtype=k.dtype, device=k.device) for _ in range(2))
    if tokens_everywhere == 0:
        return dk, dv
    parts, per_part = parts_of(tokens, tokens_everywhere)
    shape = (parts, batch, heads, tokens_everywhere, dim)
    # float32 also in half precision: parts are added up, and rounded once at the end
    parts_k, parts_v = (q.new_empty(shape, dtype=torch.float32) for _ in range(2))
    key = key_of("gradient_everywhere", dim, q.dtype)
    launch = launches.find("local_attention", LAUNCHES, key)
    blocks = triton.cdiv(tokens_everywhere, launch.blocks["EVERYWHERE"])
    tensors = (q, k, v, grad)
    gradient_everywhere_kernel[(blocks * parts * batch * heads,)](
        *tensors, parts_k, parts_v, lse, delta, *strides(tensors),
        tokens_everywhere, tokens, per_part, parts, heads, batch * heads, *factors,
        **constants(q), **launch.keywords(),
    )  # fmt: skip
    launch = launches.find("local_attention", LAUNCHES, "sum")
    for partial, total in ((parts_k, dk), (parts_v, dv)):
        size = total.numel()
        grid = (triton.cdiv(size, launch.blocks["BLOCK"]),)
        sum_kernel[grid](partial, total, size, parts, **launch.keywords())
    return dk, dv


def parts_of(tokens: int, tokens_everywhere: int) -> tuple[int, int]:
    """In how many parts queries are summed, and queries in each, a multiple of 128.

    Of one sample's sizes only, so that a gradient does not depend on the batch. The parts of a
    head are at most as many numbers as 4096 keys, or as there are keys.
    """
    most = max(1, 64 // triton.cdiv(tokens_everywhere, 64))
    wanted = min(most, triton.cdiv(tokens, QUERIES_OF_PART))
    per_part = triton.cdiv(triton.cdiv(tokens, wanted), 128) * 128
    return triton.cdiv(tokens, per_part), per_part
