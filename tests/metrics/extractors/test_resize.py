import numpy as np
import pytest
import torch

from gensynth.metrics.extractors.resize import clean_bicubic, tf1_bilinear


def by_pixel(image: np.ndarray, size: int, row: int, column: int) -> np.float32:
    """One pixel of TensorFlow's resize of [H, W], each step rounded to float32 as there."""
    places = []
    for index, length in ((row, image.shape[0]), (column, image.shape[1])):
        position = np.float32(index) * (np.float32(length) / np.float32(size))
        lower = int(position)
        places.append((lower, min(lower + 1, length - 1), position - np.float32(lower)))
    (top, bottom, down), (left, right, across) = places
    above = image[top, left] + (image[top, right] - image[top, left]) * across
    below = image[bottom, left] + (image[bottom, right] - image[bottom, left]) * across
    return above + (below - above) * down


@pytest.mark.parametrize(
    "height, width", [(1, 2), (5, 7), (32, 32), (299, 40), (310, 401), (700, 9)]
)
def test_tensorflows_resize_bit_for_bit(height, width, coloured):
    images = coloured(2, height, width).float()
    resized = tf1_bilinear(images, (299, 299))
    assert resized.shape == (2, 3, 299, 299) and resized.dtype == torch.float32
    source = images.numpy()
    for number, row, column in np.random.default_rng(0).integers(0, (2, 299, 299), (400, 3)):
        expected = by_pixel(source[number, number], 299, row, column)
        assert resized[number, number, row, column].item() == expected


def test_the_right_size_is_left_alone(coloured):
    images = coloured(1, 299, 299).float()
    assert torch.equal(tf1_bilinear(images, (299, 299)), images)


@pytest.mark.parametrize("height, width", [(16, 24), (64, 50)])
def test_clean_fids_resize(height, width, coloured, bicubic_matrix):
    images, size = coloured(2, height, width), 31
    rows = bicubic_matrix(height, size, height / size, antialias=True)
    columns = bicubic_matrix(width, size, width / size, antialias=True)
    exact = rows @ images.numpy().astype(np.float64) @ columns.T
    resized = clean_bicubic(images, size)
    assert resized.dtype == torch.float32
    np.testing.assert_allclose(resized.numpy(), exact.clip(0, 255), atol=1e-3)
    assert exact.min() < -1 and exact.max() > 256, "this image does not show that values are cut"
    assert (resized - resized.round()).abs().max() > 0.4, "values are rounded to whole levels"
