"""Kernels of depthwise 3x3 convolution, GELU and channel means on channels-last images.

A program walks down a band of rows of one image, a strip of columns wide, in a block of channels.
It reads each row at three shifts, and keeps the output rows that the next rows contribute to in
registers. Sums over positions are kept per column, reduced at the end of the band and written apart
for each program; how an image is cut depends on its height and width alone.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gensynth.ops import launches
from gensynth.ops.dwconv_gelu_pool.launches import LAUNCHES, key
from gensynth.ops.dwconv_gelu_pool.triton_gelu import gelu

SIZES = ["height", "width", "rows", "stride_c", "stride_h", "stride_w"]


@triton.jit
def place(height, width, channels, rows, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr):
    """Of this program: number of its sums, image, first row, end of its rows, columns, channels."""
    blocks, strips = tl.cdiv(channels, BLOCK_C), tl.cdiv(width, BLOCK_W)
    c = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    part = tl.program_id(0) // blocks
    w = part % strips * BLOCK_W + tl.arange(0, BLOCK_W)
    band, bands = part // strips, tl.cdiv(height, rows)
    first = band % bands * rows
    return part, band // bands, first, tl.minimum(first + rows, height), w, c


@triton.jit
def load(pointer, present):
    return tl.load(pointer, mask=present, other=0.0).to(tl.float32)


@triton.jit
def load_weights(pointer, c, channels, stride_c, stride_w):
    """One row of the 3x3 window, left to right, each [1, BLOCK_C]."""
    pointer += c * stride_c
    left, middle = load(pointer, c < channels), load(pointer + stride_w, c < channels)
    right = load(pointer + 2 * stride_w, c < channels)
    return left[None, :], middle[None, :], right[None, :]


@triton.jit
def load_neighbours(row, w, c, width, channels):
    """A row of pixels [BLOCK_W, BLOCK_C]: those left of the columns w, those at w, those right.

    A row outside the image is given a width of zero, and reads as zeros.
    """
    pointer = row + w[:, None] * channels + c[None, :]
    present = (c < channels)[None, :]
    left = load(pointer - channels, ((w > 0) & (w <= width))[:, None] & present)
    middle = load(pointer, (w < width)[:, None] & present)
    right = load(pointer + channels, (w + 1 < width)[:, None] & present)
    return left, middle, right


@triton.jit
def load_row(row, w, c, width, channels):
    present = (w < width)[:, None] & (c < channels)[None, :]
    return load(row + w[:, None] * channels + c[None, :], present)


@triton.jit
def add_row(output, pixels, weights):
    """What one row of the window adds to a row of outputs."""
    return output + pixels[0] * weights[0] + pixels[1] * weights[1] + pixels[2] * weights[2]


@triton.jit
def add_mirrored(output, pixels, weights):
    return output + pixels[0] * weights[2] + pixels[1] * weights[1] + pixels[2] * weights[0]


@triton.jit
def add_products(sums, x, pixels):
    """Adds to the sums of one row of the window: x times the gradients of what x went into."""
    return sums[0] + x * pixels[2], sums[1] + x * pixels[1], sums[2] + x * pixels[0]


@triton.jit(do_not_specialize=SIZES)
def sweep_kernel(
    x, weight, bias, dy, dmean, out, sums,
    height, width, channels, rows, stride_c, stride_h, stride_w,
    BACKWARD: tl.constexpr, TANH: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Writes y and its sums, or with BACKWARD the gradient of u and its sums."""
    part, image, first, last, w, c = place(height, width, channels, rows, BLOCK_W, BLOCK_C)
    upper = load_weights(weight, c, channels, stride_c, stride_w)
    middle = load_weights(weight + stride_h, c, channels, stride_c, stride_w)
    lower = load_weights(weight + 2 * stride_h, c, channels, stride_c, stride_w)
    shift = load(bias + c, c < channels)[None, :]
    inside = (w < width)[:, None] & (c < channels)[None, :]
    offsets = w[:, None] * channels + c[None, :]
    if BACKWARD:
        mean_share = load(dmean + image * channels + c, c < channels) / (height * width)

    step = width * channels
    start = (image.to(tl.int64) * height + first) * step
    # Before the first row: what the row above it and it itself add to the first two outputs.
    pixels = load_neighbours(x + start - step, w, c, tl.where(first > 0, width, 0), channels)
    open_row = add_row(shift, pixels, upper)
    pixels = load_neighbours(x + start, w, c, width, channels)
    open_row = add_row(open_row, pixels, middle)
    next_row = add_row(shift, pixels, upper)
    total = tl.zeros([BLOCK_W, BLOCK_C], tl.float32)
    for row in range(first, last):
        seen_width = tl.where(row + 1 < height, width, 0)
        pixels = load_neighbours(x + start + step, w, c, seen_width, channels)
        # The row below completes this output, and is the middle and upper one of the next two.
        u = add_row(open_row, pixels, lower)
        open_row = add_row(next_row, pixels, middle)
        next_row = add_row(shift, pixels, upper)
        if BACKWARD:
            gradient = load_row(dy + start, w, c, width, channels) + mean_share[None, :]
            _, slope = gelu(u, TANH)
            result = gradient * slope
        else:
            result, _ = gelu(u, TANH)
        tl.store(out + start + offsets, result.to(out.dtype.element_ty), mask=inside)
        total += result
        start += step
    total = tl.sum(tl.where((w < width)[:, None], total, 0.0), 0)
    tl.store(sums + part.to(tl.int64) * channels + c, total, mask=c < channels)


@triton.jit(do_not_specialize=["splits", "positions"])
def mean_kernel(
    sums, mean, splits, positions, channels, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr
):
    """Adds the sums [splits, C] of an image in a fixed order and divides by its positions."""
    image = tl.program_id(0)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    s = tl.arange(0, BLOCK_S)
    sums += image.to(tl.int64) * splits * channels
    total = tl.zeros([BLOCK_S, BLOCK_C], tl.float32)
    for first in range(0, splits, BLOCK_S):  # no atomics: the same bits every time
        total += load_row(sums, first + s, c, splits, channels)
    result = tl.sum(total, 0) / positions
    tl.store(mean + image * channels + c, result.to(mean.dtype.element_ty), mask=c < channels)


@triton.jit
def store_sums(pointer, sums, c, channels):
    tl.store(pointer, tl.sum(sums[0], 0), mask=c < channels)
    tl.store(pointer + channels, tl.sum(sums[1], 0), mask=c < channels)
    tl.store(pointer + 2 * channels, tl.sum(sums[2], 0), mask=c < channels)


@triton.jit(do_not_specialize=SIZES)
def gradients_kernel(
    du, x, weight, dx, sums, height, width, channels, rows, stride_c, stride_h, stride_w,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Writes the gradient of x and sums [9, C] of the gradient of the weight."""
    part, image, first, last, w, c = place(height, width, channels, rows, BLOCK_W, BLOCK_C)
    upper = load_weights(weight, c, channels, stride_c, stride_w)
    middle = load_weights(weight + stride_h, c, channels, stride_c, stride_w)
    lower = load_weights(weight + 2 * stride_h, c, channels, stride_c, stride_w)
    inside = (w < width)[:, None] & (c < channels)[None, :]
    offsets = w[:, None] * channels + c[None, :]
    zero = tl.zeros([BLOCK_W, BLOCK_C], tl.float32)
    step = width * channels
    start = (image.to(tl.int64) * height + first) * step

    # Of x only the rows of the band count: each belongs to the sums of one program.
    x_row = load_row(x + start, w, c, width, channels)
    pixels = load_neighbours(du + start - step, w, c, tl.where(first > 0, width, 0), channels)
    open_row = add_mirrored(zero, pixels, lower)
    lower_sums = add_products((zero, zero, zero), x_row, pixels)
    x_next = load_row(x + start + step, w, c, tl.where(first + 1 < last, width, 0), channels)
    pixels = load_neighbours(du + start, w, c, width, channels)
    open_row = add_mirrored(open_row, pixels, middle)
    next_row = add_mirrored(zero, pixels, lower)
    lower_sums = add_products(lower_sums, x_next, pixels)
    middle_sums = add_products((zero, zero, zero), x_row, pixels)
    upper_sums = (zero, zero, zero)
    for row in range(first, last):
        seen_width = tl.where(row + 1 < height, width, 0)
        pixels = load_neighbours(du + start + step, w, c, seen_width, channels)
        x_width = tl.where(row + 2 < last, width, 0)
        x_after = load_row(x + start + 2 * step, w, c, x_width, channels)
        result = add_mirrored(open_row, pixels, upper)
        open_row = add_mirrored(next_row, pixels, middle)
        next_row = add_mirrored(zero, pixels, lower)
        lower_sums = add_products(lower_sums, x_after, pixels)
        middle_sums = add_products(middle_sums, x_next, pixels)
        upper_sums = add_products(upper_sums, x_row, pixels)
        tl.store(dx + start + offsets, result.to(dx.dtype.element_ty), mask=inside)
        x_row, x_next = x_next, x_after
        start += step
    sums += part.to(tl.int64) * 9 * channels + c
    store_sums(sums, upper_sums, c, channels)
    store_sums(sums + 3 * channels, middle_sums, c, channels)
    store_sums(sums + 6 * channels, lower_sums, c, channels)


def split(height: int, width: int) -> tuple[int, int, int]:
    """Rows of a band, columns of a strip, and how many sums an image has.

    Two rows of each band are read by the next one too, so longer bands read less.
    """
    rows = 8 if height * width <= 64 * 64 else 32
    columns = 8 if width <= 8 else 16
    return rows, columns, triton.cdiv(height, rows) * triton.cdiv(width, columns)


def forward(x: Tensor, weight: Tensor, bias: Tensor, tanh: bool) -> tuple[Tensor, Tensor]:
    """y and its means; x is channels-last."""
    y = torch.empty_like(x, memory_format=torch.channels_last)
    mean = x.new_empty(x.shape[:2])
    sums = sweep(x, weight, bias, None, None, y, tanh)
    batch, channels, height, width = x.shape
    if batch:
        grid = (batch, triton.cdiv(channels, 64))
        sizes = (sums.shape[1], height * width, channels)
        mean_kernel[grid](sums, mean, *sizes, BLOCK_S=32, BLOCK_C=64)
    return y, mean


def backward(
    dy: Tensor, dmean: Tensor, x: Tensor, weight: Tensor, bias: Tensor, tanh: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias."""
    # Autograd may hand over any layout, also expanded ones.
    dy, dmean = dy.contiguous(memory_format=torch.channels_last), dmean.contiguous()
    du, dx = (torch.empty_like(x, memory_format=torch.channels_last) for _ in range(2))
    dbias = sweep(x, weight, bias, dy, dmean, du, tanh).sum(dim=(0, 1))
    dweight = gradients(du, x, weight, dx).sum(dim=(0, 1)).t().contiguous()
    return dx, dweight.view(weight.shape).to(weight.dtype), dbias.to(bias.dtype)


def sweep(
    x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor | None, dmean: Tensor | None,
    out: Tensor, tanh: bool,
) -> Tensor:  # fmt: skip
    """Fills `out` with y, or given `dy` and `dmean` with du; returns sums of it [B, splits, C]."""
    bias = bias.contiguous()
    how, grid, sizes, columns, splits = cut(x, weight, "forward" if dy is None else "backward")
    sums = x.new_empty((x.shape[0], splits, x.shape[1]), dtype=torch.float32)
    if x.shape[0]:
        sweep_kernel[grid](
            x, weight, bias, dy, dmean, out, sums, *sizes,
            BACKWARD=dy is not None, TANH=tanh, BLOCK_W=columns, **how.keywords(),
        )  # fmt: skip
    return sums


def gradients(du: Tensor, x: Tensor, weight: Tensor, dx: Tensor) -> Tensor:
    """Fills `dx`; returns sums of the gradient of the weight, float32 [B, splits, 9, C]."""
    how, grid, sizes, columns, splits = cut(x, weight, "gradients")
    sums = x.new_empty((x.shape[0], splits, 9, x.shape[1]), dtype=torch.float32)
    if x.shape[0]:
        gradients_kernel[grid](du, x, weight, dx, sums, *sizes, BLOCK_W=columns, **how.keywords())
    return sums


def cut(
    x: Tensor, weight: Tensor, kernel: str
) -> tuple[launches.Launch, tuple[int], tuple[int, ...], int, int]:
    """How a kernel is launched, its grid, its sizes, columns of a strip and sums of an image."""
    batch, channels, height, width = x.shape
    rows, columns, splits = split(height, width)
    how = launches.find("dwconv_gelu_pool", LAUNCHES, key(kernel, columns, x.element_size()))
    grid = (batch * splits * triton.cdiv(channels, how.blocks["BLOCK_C"]),)
    strides = (weight.stride(0), weight.stride(2), weight.stride(3))
    return how, grid, (height, width, channels, rows, *strides), columns, splits
