"""Where an edited picture lies on the canvas that the model sees, and what of it is redrawn."""

import math
from fractions import Fraction

import numpy as np
import pytest
from pictures import array, box, noise
from PIL import Image

from gensynth.pipelines.editing.canvas import Canvas, make_canvas, work_size


def test_the_drawing_is_blended_inside_the_mask_only():
    picture = Image.new("L", (9, 4), 0)
    redrawn = np.zeros((4, 9), dtype=bool)
    redrawn[:, 2:] = True  # up to the border of the picture, where nothing is kept
    canvas = Canvas(picture, redrawn, (0, 0), (4, 9), padded=False)
    drawn = Image.new("L", (9, 4), 200)
    soft = array(canvas.finished(drawn, 3))
    assert (soft == [0, 0, 50, 100, 150, 200, 200, 200, 200]).all()
    assert (array(canvas.finished(drawn, 0)) == [0, 0] + [200] * 7).all()


@pytest.mark.parametrize(
    ("own", "work", "padded"),
    [
        ((28, 28), (32, 32), True),
        ((32, 32), (32, 32), True),
        ((16, 3), (32, 32), True),
        ((15, 15), (32, 32), False),
        ((33, 33), (32, 32), False),
        ((37, 23), (24, 40), False),
        ((300, 200), (28, 40), False),
        ((64, 4), (8, 128), False),
    ],
)
def test_the_work_canvas(own, work, padded):
    assert work_size(own, 32, 4, True) == (work, padded)


def test_the_model_sees_a_small_picture_with_black_around_it_and_a_large_one_resized():
    small = make_canvas(noise(20, 28), None, None, "center", False, 32, 4, True)
    pixels = small.work_pixels(1)[0].numpy()
    assert np.array_equal(pixels[2:30, 6:26], np.asarray(noise(20, 28)))
    assert pixels.sum() == np.asarray(noise(20, 28)).sum(dtype=int)
    large = make_canvas(
        Image.new("RGB", (300, 200), (9, 9, 9)), None, None, "center", 0, 32, 4, True
    )
    assert large.work_pixels(3).shape == (3, 28, 40)
    assert (large.work_pixels(1) == 9).all()


@pytest.mark.parametrize("size", [(28, 28), (37, 23), (300, 200), (9, 13), (18, 32)])
def test_a_token_is_redrawn_if_a_redrawn_pixel_lies_in_its_square(size):
    width, height = size
    rng = np.random.default_rng(0)
    for _ in range(5):
        row, column = int(rng.integers(height)), int(rng.integers(width))
        mask = box(size, column, row, column + 1, row + 1)
        canvas = make_canvas(noise(*size), mask, None, "center", False, 32, 4, True)
        high, wide = (side // 4 for side in canvas.work)
        found = canvas.redrawn_tokens((high, wide))
        sides = zip((row, column), (height, width), (high, wide), canvas.work, strict=True)
        spans = []
        for first, own, tokens, work in sides:
            scale = Fraction(1, 4) if canvas.padded else Fraction(tokens, own)
            margin = (work - own) // 2 if canvas.padded else 0
            begin, end = (first + margin) * scale, (first + margin + 1) * scale
            spans.append(range(math.floor(begin), math.ceil(end)))
        expected = {(i, j) for i in spans[0] for j in spans[1]}
        assert {tuple(place) for place in found.nonzero().tolist()} == expected


def test_black_around_a_picture_is_never_redrawn():
    canvas = make_canvas(noise(32, 16), None, None, "center", False, 32, 4, True)
    tokens = canvas.redrawn_tokens((8, 8))
    assert tokens[2:6].all() and not tokens[:2].any() and not tokens[6:].any()


def test_a_mask_is_white_or_opaque():
    size = (8, 8)
    levels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    expected = levels >= 128
    layer = np.zeros((8, 8, 4), np.uint8)
    layer[..., 3] = levels  # painted in black on a transparent layer
    opaque = np.dstack([levels] * 3 + [np.full_like(levels, 255)])
    masks = [
        levels,
        expected,
        np.dstack([levels] * 3),
        layer,
        opaque,
        levels.astype(np.uint16) * 257,
    ]
    for mask in masks:
        given = Image.fromarray(mask)
        canvas = make_canvas(noise(*size), given, None, "center", False, 32, 4, True)
        assert np.array_equal(canvas.redrawn, expected), given.mode


def test_hidden_pixels_are_those_of_the_nearest_kept_one():
    rng = np.random.default_rng(0)
    for height, width in ((7, 9), (12, 5), (1, 6)):
        pixels = rng.permutation(height * width).reshape(height, width).astype(np.uint8)
        redrawn = rng.random((height, width)) < 0.7
        redrawn[0, 0] = False
        canvas = Canvas(Image.fromarray(pixels), redrawn, (0, 0), (height, width), False)
        rows, columns, steps = canvas.nearest
        kept = np.argwhere(~redrawn)
        for y, x in np.ndindex(height, width):
            distances = np.abs(kept - [y, x]).sum(axis=1)
            assert steps[y, x] == distances.min() == abs(rows[y, x] - y) + abs(columns[y, x] - x)
            assert not redrawn[rows[y, x], columns[y, x]]
        assert np.array_equal(canvas.work_pixels(1)[0].numpy(), pixels[rows, columns])


def test_a_model_of_crops_sees_no_black_border():
    assert work_size((28, 20), 32, 4, True) == ((32, 32), True)
    assert work_size((28, 20), 32, 4, False) == ((28, 36), False)
    assert work_size((32, 32), 32, 4, False) == ((32, 32), False)


def test_below_new_area_the_edge_of_the_image_is_repeated():
    canvas = make_canvas(noise(4, 5, "RGB"), None, (9, 4), "top", True, 32, 4, True)
    below, last = array(canvas.picture)[5:], array(noise(4, 5, "RGB"))[4]
    assert (below == last).all() and canvas.redrawn[5:].all() and not canvas.redrawn[:5].any()
