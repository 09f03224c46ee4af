"""Kernels of linear attention, for tokens that lie by strides and heads padded to powers of two.

With S = Σ φ(k)ᵀ v / N, m = Σ φ(k) / M and z = φ(q)·m + eps the output is φ(q) S / z. The kernels
keep S about its mean: c = Sᵀ m / |m|² and T = (S - m cᵀ) / n, where n is m for features that are
never negative and else 1. Then, with w = φ(q) n / z,

    output = w T + c (φ(q)·m) / z

and nothing large cancels in the gradients: of S itself, rounded to 16 bits, nearly all of the
gradient of q would be rounding error. With n = m the weights w of a query sum to at most 1 and T is
no larger than v, so that float16 does not overflow either.

A product of 16-bit numbers takes one factor as a sum of two where its rounding would add to that
of the result (`dot_exact`). Names: D, E are widths of keys and values; DP, EP padded; BD, BE tiles.
"""

import triton
import triton.language as tl

SIZES = ["heads", "tokens", "span", "splits", "pairs", "programs", "per_query", "per_key", "eps"]


@triton.jit
def phi(x, FEATURE: tl.constexpr):
    if FEATURE == "elu1":
        return tl.where(x > 0, x + 1, tl.exp(tl.where(x > 0, 0.0, x)))
    if FEATURE == "relu":
        return tl.where(x < 0, 0.0, x)  # a NaN stays one
    return x


@triton.jit
def scale_of(mean, FEATURE: tl.constexpr):
    """n: the mean of a feature that is never negative; 0 where no key has it."""
    if FEATURE == "identity":
        return tl.full(mean.shape, 1.0, tl.float32)
    return tl.where(mean > 1e-30, mean, 0.0)


@triton.jit
def over(x, n):
    """x / n, 0 where n is 0."""
    return tl.where(n != 0, x / tl.where(n != 0, n, 1.0), 0.0)


@triton.jit
def head_of(pointer, pair, heads, batch_stride, head_stride, UNIT: tl.constexpr):
    batch, head = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    # In this order: in 32 bits a stride times its unit may not fit.
    return pointer + (batch * batch_stride + head * head_stride) * UNIT


@triton.jit
def places(channels, tokens, token_stride, end, WIDTH: tl.constexpr, UNIT: tl.constexpr):
    """Offsets [channels, tokens] and which of them exist."""
    offsets = channels[:, None] + tokens.to(tl.int64)[None, :] * token_stride * UNIT
    return offsets, (channels < WIDTH)[:, None] & (tokens < end)[None, :]


@triton.jit
def load_features(
    base, channels, tokens, token_stride, end,
    WIDTH: tl.constexpr, UNIT: tl.constexpr, FEATURE: tl.constexpr,
):  # fmt: skip
    """φ [channels, tokens] in float32, 0 where there is none: φ(0) may be 1."""
    offsets, there = places(channels, tokens, token_stride, end, WIDTH, UNIT)
    x = tl.load(base + offsets, mask=there, other=0.0).to(tl.float32)
    return tl.where(there, phi(x, FEATURE), 0.0)


@triton.jit
def dot_exact(a, b, total, DT: tl.constexpr, PRECISION: tl.constexpr):
    """total + a b for b of type DT and a in float32: two numbers of type DT stand for one of a."""
    high = a.to(DT)
    total = tl.dot(high, b, total, input_precision=PRECISION)
    if DT != tl.float32:  # noqa: SIM300
        low = (a - high.to(tl.float32)).to(DT)
        total = tl.dot(low, b, total, input_precision=PRECISION)
    return total


@triton.jit
def matrix(pointer, pair, rows, columns, DP: tl.constexpr, EP: tl.constexpr, DT: tl.constexpr):
    """Part of a matrix [pair, DP, EP] as high + low, times `size`, which float16 needs."""
    offsets = pair.to(tl.int64) * (DP * EP) + rows[:, None] * EP + columns[None, :]
    x = tl.load(pointer + offsets, mask=(rows < DP)[:, None] & (columns < EP)[None, :], other=0.0)
    size = 1.0
    if DT == tl.float16:  # noqa: SIM300
        peak = tl.max(tl.abs(x))
        size = tl.where(peak > 0, peak, 1.0)
        x = x / size
    high = x.to(DT)
    return high, (x - high.to(tl.float32)).to(DT), size


@triton.jit(do_not_specialize=SIZES)
def state_kernel(
    keys, values, scales, weights, key_mean, totals, sums,
    k_batch, k_head, k_row, v_batch, v_head, v_row, heads, tokens, span, splits, pairs,
    D: tl.constexpr, E: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr, BD: tl.constexpr,
    BE: tl.constexpr, UNIT: tl.constexpr, FEATURE: tl.constexpr, WEIGHTED: tl.constexpr,
    DT: tl.constexpr, PRECISION: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """Over one span of tokens: totals Σ φ(k)ᵀ v and sums Σ φ(k), float32.

    WEIGHTED: the queries' side of the gradient, Σ (φ(q) n scale)ᵀ v and Σ weight φ(q).
    """
    # One program for a span of tokens, a pair of batch and head, and a tile of the state.
    split, pair = tl.program_id(0) % splits, tl.program_id(0) // splits
    d = tl.program_id(1) // (EP // BE) * BD + tl.arange(0, BD)
    e = tl.program_id(1) % (EP // BE) * BE + tl.arange(0, BE)
    k_base = head_of(keys, pair, heads, k_batch, k_head, UNIT)
    v_base = head_of(values, pair, heads, v_batch, v_head, UNIT)
    total, summed = tl.zeros([BD, BE], tl.float32), tl.zeros([BD], tl.float32)
    if WEIGHTED:
        n = scale_of(tl.load(key_mean + pair.to(tl.int64) * DP + d), FEATURE)
    end = tl.minimum((split + 1) * span, tokens)
    for start in range(split * span, end, TOKENS):
        rows = start + tl.arange(0, TOKENS)
        offsets, there = places(d, rows, k_row, end, D, UNIT)
        k = tl.load(k_base + offsets, mask=there, other=0.0).to(tl.float32)
        features = tl.where(there, phi(k, FEATURE), 0.0)  # φ(0) may be 1
        if WEIGHTED:
            row = pair.to(tl.int64) * tokens + rows
            weight = tl.load(weights + row, mask=rows < end, other=0.0)
            scale = tl.load(scales + row, mask=rows < end, other=0.0)
            summed += tl.sum(features * weight[None, :], 1)
            features *= n[:, None] * scale[None, :]
        else:
            summed += tl.sum(features, 1)
        offsets, there = places(e, rows, v_row, end, E, UNIT)
        v = tl.load(v_base + offsets, mask=there, other=0.0).to(DT)
        total = dot_exact(features, tl.trans(v), total, DT, PRECISION)
    place = (split.to(tl.int64) * pairs + pair) * DP + d
    tl.store(totals + place[:, None] * EP + e[None, :], total)
    # The sums have no columns: of the tiles side by side only the first one writes them.
    tl.store(sums + place, summed, mask=tl.program_id(1) % (EP // BE) + d * 0 == 0)


@triton.jit(do_not_specialize=SIZES)
def state_sum_kernel(
    totals, sums, state, key_mean, center, splits, pairs, per_query, per_key,
    DP: tl.constexpr, EP: tl.constexpr, FEATURE: tl.constexpr, LINES: tl.constexpr,
):  # fmt: skip
    """T, m and c from the totals and sums of all spans, added in their order."""
    pair = tl.program_id(0).to(tl.int64)
    d, e = tl.arange(0, DP), tl.program_id(1) * LINES + tl.arange(0, LINES)
    s, mean = tl.zeros([DP, LINES], tl.float32), tl.zeros([DP], tl.float32)
    # Spans one after the other: atomics would add them in another order every time.
    for split in range(splits):
        place = (split * pairs + pair) * DP + d
        s += tl.load(totals + place[:, None] * EP + e[None, :])
        mean += tl.load(sums + place)
    s, mean = s * per_query, mean * per_key
    peak = tl.max(tl.abs(mean))
    unit = mean / tl.where(peak > 0, peak, 1.0)  # its square does not overflow
    square = tl.sum(unit * unit)
    # c = Sᵀ m / |m|², with m = peak * unit
    c = tl.sum(s * unit[:, None], 0) / tl.where(peak > 0, peak * square, 1.0)
    t = over(s - mean[:, None] * c[None, :], scale_of(mean, FEATURE)[:, None])
    tl.store(state + (pair * DP + d)[:, None] * EP + e[None, :], t)
    tl.store(center + pair * EP + e, c)
    tl.store(key_mean + pair * DP + d, mean, mask=tl.program_id(1) + d * 0 == 0)


@triton.jit(do_not_specialize=SIZES)
def output_kernel(
    queries, state, key_mean, center, output,
    q_batch, q_head, q_row, heads, tokens, programs, eps,
    D: tl.constexpr, E: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr, BD: tl.constexpr,
    BE: tl.constexpr, HELD: tl.constexpr, UNIT: tl.constexpr, FEATURE: tl.constexpr,
    DT: tl.constexpr, PRECISION: tl.constexpr, TOKENS: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """w T + c (φ(q)·m) / z for STEPS blocks of tokens; T is HELD if it is one tile."""
    pair = tl.program_id(0) // programs
    first_d, e = tl.arange(0, BD), tl.program_id(1) * BE + tl.arange(0, BE)
    q_base = head_of(queries, pair, heads, q_batch, q_head, UNIT)
    o_base = head_of(output, pair, heads, tokens.to(tl.int64) * heads * E, E, 1)
    means = key_mean + pair.to(tl.int64) * DP
    c = tl.load(center + pair.to(tl.int64) * EP + e, mask=e < EP, other=0.0)
    if HELD:
        t, _, size = matrix(state, pair, first_d, e, DP, EP, DT)
    first = tl.program_id(0) % programs * (TOKENS * STEPS)
    for start in range(first, tl.minimum(first + TOKENS * STEPS, tokens), TOKENS):
        rows = start + tl.arange(0, TOKENS)
        # z first, over all channels: w needs it, and q is read once more from the cache.
        mass = tl.zeros([TOKENS], tl.float32)  # φ(q)·m
        for row in range(0, DP, BD):
            d = row + first_d
            features = load_features(q_base, d, rows, q_row, tokens, D, UNIT, FEATURE)
            mass += tl.sum(features * tl.load(means + d)[:, None], 0)
        z = tl.where(rows < tokens, mass + eps, 1.0)  # 1 beyond the end: no division by 0
        o = c[:, None] * (mass / z)[None, :]  # not 1 - eps / z: of a small mass nothing is left
        for row in range(0, DP, BD):
            d = row + first_d
            features = load_features(q_base, d, rows, q_row, tokens, D, UNIT, FEATURE)
            w = features * (scale_of(tl.load(means + d), FEATURE)[:, None] / z[None, :])
            if not HELD:
                t, _, size = matrix(state, pair, d, e, DP, EP, DT)
            o += tl.dot(tl.trans(t), w.to(DT), input_precision=PRECISION) * size
        offsets, there = places(e, rows, heads * E, tokens, E, 1)
        tl.store(o_base + offsets, o.to(output.dtype.element_ty), mask=there)
