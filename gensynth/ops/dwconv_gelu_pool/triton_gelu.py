"""GELU inside of kernels: exact, with the error function as a polynomial, or by tanh."""

import triton
import triton.language as tl


@triton.jit
def normal(u):
    """Distribution function and exp(-u^2 / 2) of the normal distribution.

    The error function by Abramowitz and Stegun, 7.1.26: wrong by at most 1.5e-7.
    """
    t = 1.0 / (1.0 + 0.3275911 * 0.7071067811865476 * tl.abs(u))
    poly = 0.5 * 1.061405429
    poly = poly * t - 0.5 * 1.453152027
    poly = poly * t + 0.5 * 1.421413741
    poly = poly * t - 0.5 * 0.284496736
    poly = poly * t + 0.5 * 0.254829592
    bell = tl.exp2(u * u * -0.7213475204444817)  # -log2(e) / 2
    tail = poly * t * bell
    return tl.where(u > 0, 1.0 - tail, tail), bell


@triton.jit
def gelu(u, TANH: tl.constexpr):
    """GELU and its derivative; a kernel is compiled without the one it does not use."""
    if TANH:
        cubic = 0.7978845608028654 * 0.044715 * u * u
        inner = u * (0.7978845608028654 + cubic)  # sqrt(2 / pi) (u + 0.044715 u^3)
        small = tl.exp2(tl.abs(inner) * -2.8853900817779268)  # exp(-2 |inner|)
        large = 1.0 / (1.0 + small)
        share = tl.where(u > 0, large, small * large)  # (1 + tanh(inner)) / 2
        growth = 2.0 * (0.7978845608028654 + 3.0 * cubic) * small * large * large
    else:
        share, bell = normal(u)
        growth = bell * 0.3989422804014327  # 1 / sqrt(2 pi)
    return u * share, share + u * growth
