"""Counts of touched keys and the blocks of tile-ordered attention, against all pairs."""

import math

import pytest
import torch
from dense_attention import dense
from hypothesis import given, settings
from hypothesis import strategies as st
from numerics import error, random
from torch.nn.attention.flex_attention import create_block_mask

from gensynth.errors import UsageError
from gensynth.ops.local_attention import flex
from gensynth.ops.local_attention.tiles import (
    BLOCK,
    disc_pairs,
    kernel_keys,
    raster_keys,
    tiled_keys,
    touched_keys,
)

IMAGES = [(5, 7, 3), (24, 40, 9), (17, 35, 1), (9, 16, 40), (33, 20, 12)]


def near_pairs(height, width, window):
    """Which tokens see which, bool [N, N]."""
    y, x = torch.arange(height * width) // width, torch.arange(height * width) % width
    return (y[:, None] - y).square() + (x[:, None] - x).square() < window**2


@pytest.mark.parametrize("height, width, window", IMAGES)
def test_pairs_are_those_of_the_mask(height, width, window):
    assert disc_pairs(height, width, window) == near_pairs(height, width, window).sum()


@pytest.mark.parametrize("height, width, window", IMAGES)
def test_raster_blocks_are_those_of_the_mask(height, width, window):
    near = near_pairs(height, width, window)
    tokens = math.ceil(len(near) / 16) * 16
    padded = torch.zeros(tokens, tokens, dtype=torch.bool)
    padded[: len(near), : len(near)] = near
    blocks = padded.view(tokens // 16, 16, tokens // 16, 16).any(dim=3).any(dim=1)
    assert raster_keys(height, width, window, 16) == blocks.sum() / len(blocks) * 16


@pytest.mark.parametrize("height, width, window", IMAGES)
def test_boxes_of_the_kernel_hold_every_key_that_is_seen(height, width, window):
    """Box by box, with tiles of keys counted whole."""
    queries, keys = (8, 16), (4, 8)
    counted = []
    near = near_pairs(height, width, window).view(2 * (height, width))
    for top in range(0, height, queries[0]):
        for left in range(0, width, queries[1]):
            tile = near[top : top + queries[0], left : left + queries[1]]
            seen = tile.flatten(0, 1).any(dim=0)
            # Of the tile as if it lay whole in the image, whose box reaches as far.
            bottom, right = top + queries[0] - 1, left + queries[1] - 1
            y = range(max(0, top - window + 1), min(height, bottom + window))
            x = range(max(0, left - window + 1), min(width, right + window))
            outside = seen.clone()
            outside[y.start : y.stop, x.start : x.stop] = False
            assert not outside.any()
            tiles = math.ceil(len(y) / keys[0]) * math.ceil(len(x) / keys[1])
            counted.append(tiles * keys[0] * keys[1])
    assert kernel_keys(height, width, window, queries, keys) == sum(counted) / len(counted)


def test_published_counts():
    """Those by which the tiles were chosen: CLEAR's own blocks touch 4765 keys at 512 x 512."""
    found = touched_keys(128, 8)
    assert found.seen < found.floating < found.aligned < found.raster
    assert raster_keys(512, 512, 8) == 4765
    # Far from borders a disc of radius 8 holds 193 keys, its tiles 768, those on a grid 1152.
    assert disc_pairs(400, 400, 8) / 400**2 == pytest.approx(193, rel=0.02)
    assert kernel_keys(400, 400, 8, (8, 16), (8, 8)) == pytest.approx(768, rel=0.04)
    assert tiled_keys(400, 400, 8) == pytest.approx(1152, rel=0.05)


def listed(counts, indices):
    """The blocks of each row of a block mask."""
    return [
        sorted(row[:count].tolist()) for row, count in zip(indices[0, 0], counts[0, 0], strict=True)
    ]


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 50),
    window=st.integers(1, 45),
    everywhere=st.sampled_from([0, 1, 127, 128, 130]),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_block_mask_is_that_of_all_pairs(height, width, window, everywhere):
    cpu = torch.device("cpu")
    mask = flex.block_mask(height, width, window, everywhere, cpu)
    tokens = -(-height // 8) * -(-width // 16) * BLOCK
    keys = tokens + everywhere + -everywhere % BLOCK
    slow = create_block_mask(mask.mask_mod, None, None, tokens, keys, device="cpu")
    assert mask.shape == slow.shape
    for kind in ("kv", "full_kv", "q", "full_q"):
        counts, indices = f"{kind}_num_blocks", f"{kind}_indices"
        ours = listed(getattr(mask, counts), getattr(mask, indices))
        assert ours == listed(getattr(slow, counts), getattr(slow, indices)), kind


@pytest.mark.parametrize("height, width, window", IMAGES)
def test_tile_order_shows_what_is_near(height, width, window):
    """`mask_mod` on all pairs, put back in the order of the image."""
    everywhere = 3
    query = flex.to_tiles(torch.arange(height * width).view(1, 1, -1, 1), height, width).flatten()
    real = flex.to_tiles(torch.ones(1, 1, height * width, 1), height, width).flatten() > 0
    place = torch.arange(len(query))
    visible = flex.visible(height, width, window, everywhere)
    zero = torch.zeros((), dtype=torch.int64)
    keys = torch.cat([torch.arange(BLOCK), place + BLOCK])
    mask = visible(zero, zero, place[:, None], keys[None, :])[real]
    assert torch.equal(mask[:, :BLOCK].sum(1), torch.full((height * width,), everywhere))
    assert not mask[:, BLOCK:][:, ~real].any()
    ordered = torch.empty(height * width, height * width, dtype=torch.bool)
    ordered[query[real][:, None], query[real][None, :]] = mask[:, BLOCK:][:, real]
    assert torch.equal(ordered, near_pairs(height, width, window))


def test_tile_order_and_back():
    x = random(2, 3, 17 * 35, 4, seed=0)
    assert torch.equal(flex.from_tiles(flex.to_tiles(x, 17, 35), 17, 35), x)


def test_errors_are_those_of_the_operator():
    q = random(1, 1, 12, 8, seed=0)
    with pytest.raises(UsageError, match="q has 12 tokens"):
        flex.local_attention(q, q, q, height=3, width=5, window=2)


@pytest.mark.slow
def test_tile_ordered_attention_is_the_definition(device):
    """Compiled by Inductor for the device, also a CPU."""
    options = {"height": 24, "width": 40, "window": 9, "text_length": 5, "down_factor": 4}
    q, k, v = (random(1, 2, 965, 32, seed=i, device=device) for i in range(3))
    with torch.no_grad():
        output = flex.local_attention(q, k, v, **options)
    assert error(output, dense(*(x.double() for x in (q, k, v)), **options)) < 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gradients_of_tile_ordered_attention(dtype, device):
    options = {"height": 24, "width": 40, "window": 9, "text_length": 5}
    leaves = [random(1, 2, 965, 64, seed=i, dtype=dtype, device=device) for i in range(4)]
    q, k, v, grad = leaves
    leaves = [x.requires_grad_() for x in (q, k, v)]
    exact = [x.detach().double().requires_grad_() for x in leaves]
    actual = torch.autograd.grad(flex.local_attention(*leaves, **options), leaves, grad)
    expected = torch.autograd.grad(dense(*exact, **options), exact, grad.double())
    for one, other in zip(actual, expected, strict=True):
        assert error(one, other) < 3e-2
