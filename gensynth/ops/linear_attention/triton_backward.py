"""Kernels of the gradient of linear attention.

For a gradient g of the output, and T, m, n, c and w of `triton.py`: with y = n T g / z and
r = (φ(q)·y - eps c·g / z) / z the gradient of φ(q) is y - r m, and with A = Σ (φ(q) / z)ᵀ g / N and
a = -(N A c + Σ r φ(q)) / M those of φ(k) and v are A v + a and Aᵀ φ(k).
"""

import triton
import triton.language as tl

from gensynth.ops.linear_attention.triton import (
    SIZES,
    dot_exact,
    head_of,
    load_features,
    matrix,
    over,
    phi,
    places,
    scale_of,
)


@triton.jit
def slope(x, FEATURE: tl.constexpr):
    """Derivative of φ."""
    if FEATURE == "elu1":
        return tl.exp(tl.where(x > 0, 0.0, x))
    if FEATURE == "relu":
        return tl.where(x > 0, 1.0, 0.0)
    return tl.full(x.shape, 1.0, tl.float32)


@triton.jit
def dot_with(high, low, b, DT: tl.constexpr, PRECISION: tl.constexpr):
    """(high + low) b in float32."""
    total = tl.dot(high, b, input_precision=PRECISION)
    if DT != tl.float32:  # noqa: SIM300
        total = tl.dot(low, b, total, input_precision=PRECISION)
    return total


@triton.jit
def query_side(features, y, from_center, there, mean, n, eps):
    """w, r, 1 / z and the gradient of φ(q), given T g and c·g for the gradient g of the output."""
    z = tl.where(there, tl.sum(features * mean[:, None], 0) + eps, 1.0)
    scale = n[:, None] / z[None, :]
    y *= scale  # y = n T g / z of the header, given T g
    r = (tl.sum(features * y, 0) - eps * from_center / z) / z
    return features * scale, r, 1 / z, y - mean[:, None] * r[None, :]


@triton.jit(do_not_specialize=SIZES)
def query_gradient_kernel(
    queries, gradients, state, key_mean, center, q_gradient, totals, sums, scales, weights,
    q_batch, q_head, q_row, g_batch, g_head, g_row, heads, tokens, span, splits, pairs, eps,
    D: tl.constexpr, E: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr, BE: tl.constexpr,
    ONE_TILE: tl.constexpr, HELD: tl.constexpr, UNIT: tl.constexpr, FEATURE: tl.constexpr,
    DT: tl.constexpr, PRECISION: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """Over one span the gradient of q, and totals Σ wᵀ g and sums Σ r φ(q).

    Unless the state is ONE_TILE: scales 1 / z and weights r, from which `state_kernel` sums these.
    """
    split, pair = tl.program_id(0) % splits, tl.program_id(0) // splits
    d, e = tl.arange(0, DP), tl.arange(0, BE)
    q_base = head_of(queries, pair, heads, q_batch, q_head, UNIT)
    g_base = head_of(gradients, pair, heads, g_batch, g_head, UNIT)
    out_base = head_of(q_gradient, pair, heads, tokens.to(tl.int64) * heads * D, D, 1)
    mean = tl.load(key_mean + pair.to(tl.int64) * DP + d)
    n = scale_of(mean, FEATURE)
    if HELD:
        high, low, size = matrix(state, pair, d, e, DP, EP, DT)
        c = tl.load(center + pair.to(tl.int64) * EP + e)
    if ONE_TILE:
        total, summed = tl.zeros([DP, EP], tl.float32), tl.zeros([DP], tl.float32)
    end = tl.minimum((split + 1) * span, tokens)
    for start in range(split * span, end, TOKENS):
        rows = start + tl.arange(0, TOKENS)
        if HELD:
            at, there = places(e, rows, g_row, end, E, UNIT)
            g = tl.load(g_base + at, mask=there, other=0.0).to(DT)
            y = dot_with(high, low, g, DT, PRECISION) * size
            from_center = tl.sum(g.to(tl.float32) * c[:, None], 0)
        else:
            y, from_center = tl.zeros([DP, TOKENS], tl.float32), tl.zeros([TOKENS], tl.float32)
            for column in range(0, EP, BE):
                high, low, size = matrix(state, pair, d, column + e, DP, EP, DT)
                c = tl.load(center + pair.to(tl.int64) * EP + column + e)
                at, there = places(column + e, rows, g_row, end, E, UNIT)
                part = tl.load(g_base + at, mask=there, other=0.0).to(DT)
                y += dot_with(high, low, part, DT, PRECISION) * size
                from_center += tl.sum(part.to(tl.float32) * c[:, None], 0)
        q_at, q_there = places(d, rows, q_row, end, D, UNIT)
        q = tl.load(q_base + q_at, mask=q_there, other=0.0).to(tl.float32)
        features = tl.where(q_there, phi(q, FEATURE), 0.0)
        w, r, scale, dq = query_side(features, y, from_center, rows < end, mean, n, eps)
        dq *= slope(q, FEATURE)  # from the gradient of φ(q) to that of q
        q_at, q_there = places(d, rows, heads * D, end, D, 1)
        tl.store(out_base + q_at, dq.to(q_gradient.dtype.element_ty), mask=q_there)
        if ONE_TILE:
            summed += tl.sum(features * r[None, :], 1)
            if not HELD:
                g_at, g_there = places(tl.arange(0, EP), rows, g_row, end, E, UNIT)
                g = tl.load(g_base + g_at, mask=g_there, other=0.0).to(DT)
            total = dot_exact(w, tl.trans(g), total, DT, PRECISION)
        else:
            row = pair.to(tl.int64) * tokens + rows
            tl.store(scales + row, scale, mask=rows < end)
            tl.store(weights + row, r, mask=rows < end)
    if ONE_TILE:
        place = (split.to(tl.int64) * pairs + pair) * DP + d
        tl.store(totals + place[:, None] * EP + tl.arange(0, EP)[None, :], total)
        tl.store(sums + place, summed)


@triton.jit(do_not_specialize=SIZES)
def gradient_sum_kernel(
    totals, sums, key_mean, center, slopes, offsets, splits, pairs, per_query, per_key,
    DP: tl.constexpr, EP: tl.constexpr, FEATURE: tl.constexpr, LINES: tl.constexpr,
):  # fmt: skip
    """A = dS / N and a: the gradient of φ(k) is A v + a, that of v is Aᵀ φ(k)."""
    pair = tl.program_id(0).to(tl.int64)
    d, e = tl.program_id(1) * LINES + tl.arange(0, LINES), tl.arange(0, EP)
    s, summed = tl.zeros([LINES, EP], tl.float32), tl.zeros([LINES], tl.float32)
    for split in range(splits):
        place = (split * pairs + pair) * DP + d
        s += tl.load(totals + place[:, None] * EP + e[None, :])
        summed += tl.load(sums + place)
    # Σ wᵀ g with w = φ(q) n / z, so over n it is Σ (φ(q) / z)ᵀ g.
    n = scale_of(tl.load(key_mean + pair * DP + d), FEATURE)
    s = over(s, n[:, None])
    c = tl.load(center + pair * EP + e)
    tl.store(slopes + (pair * DP + d)[:, None] * EP + e[None, :], s * per_query)
    tl.store(offsets + pair * DP + d, -(tl.sum(s * c[None, :], 1) + summed) * per_key)


@triton.jit(do_not_specialize=SIZES)
def key_gradient_kernel(
    keys, values, slopes, key_offsets, k_gradient, v_gradient,
    k_batch, k_head, k_row, v_batch, v_head, v_row, heads, tokens, programs,
    D: tl.constexpr, E: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr, BD: tl.constexpr,
    BE: tl.constexpr, HELD: tl.constexpr, UNIT: tl.constexpr, FEATURE: tl.constexpr,
    DT: tl.constexpr, PRECISION: tl.constexpr, TOKENS: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """One tile of channels of the gradients of k and v, for STEPS blocks of tokens."""
    pair = tl.program_id(0) // programs
    own_d = tl.program_id(1) * BD + tl.arange(0, BD)
    own_e = tl.program_id(1) * BE + tl.arange(0, BE)
    k_base = head_of(keys, pair, heads, k_batch, k_head, UNIT)
    v_base = head_of(values, pair, heads, v_batch, v_head, UNIT)
    dk_base = head_of(k_gradient, pair, heads, tokens.to(tl.int64) * heads * D, D, 1)
    dv_base = head_of(v_gradient, pair, heads, tokens.to(tl.int64) * heads * E, E, 1)
    bias = tl.load(key_offsets + pair.to(tl.int64) * DP + own_d, mask=own_d < DP, other=0.0)
    if HELD:
        high, low, size = matrix(slopes, pair, own_d, own_e, DP, EP, DT)
    first = tl.program_id(0) % programs * (TOKENS * STEPS)
    for start in range(first, tl.minimum(first + TOKENS * STEPS, tokens), TOKENS):
        rows = start + tl.arange(0, TOKENS)
        k_at, k_there = places(own_d, rows, k_row, tokens, D, UNIT)
        steepness = slope(tl.load(k_base + k_at, mask=k_there, other=0.0).to(tl.float32), FEATURE)
        dk, dv = tl.zeros([BD, TOKENS], tl.float32), tl.zeros([BE, TOKENS], tl.float32)
        # A v for this tile's channels of k, over all channels of v
        for column in range(0, EP, BE):
            e = column + tl.arange(0, BE)
            if not HELD:
                high, low, size = matrix(slopes, pair, own_d, e, DP, EP, DT)
            v_at, v_there = places(e, rows, v_row, tokens, E, UNIT)
            v = tl.load(v_base + v_at, mask=v_there, other=0.0).to(DT)
            dk += dot_with(high, low, v, DT, PRECISION) * size
        # Aᵀ φ(k) for its channels of v, over all channels of k
        for row in range(0, DP, BD):
            d = row + tl.arange(0, BD)
            if not HELD:
                high, low, size = matrix(slopes, pair, d, own_e, DP, EP, DT)
            features = load_features(k_base, d, rows, k_row, tokens, D, UNIT, FEATURE)
            dv += tl.dot(tl.trans(high), features.to(DT), input_precision=PRECISION) * size
        dk = (dk + bias[:, None]) * steepness
        dk_at, dk_there = places(own_d, rows, heads * D, tokens, D, 1)
        tl.store(dk_base + dk_at, dk.to(k_gradient.dtype.element_ty), mask=dk_there)
        dv_at, dv_there = places(own_e, rows, heads * E, tokens, E, 1)
        tl.store(dv_base + dv_at, dv.to(v_gradient.dtype.element_ty), mask=dv_there)
