import math
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gensynth.data.images import (
    UNREADABLE,
    captioned_grid,
    center_crop,
    decode,
    fit,
    grid,
    pad_square,
    resize_short_side,
    to_pil,
    to_tensor,
    zoomed_crop,
)

RANDOM = np.random.default_rng(0)


def noise(height: int, width: int, *channels: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (height, width, *channels), dtype=np.uint8)


def published_crop(pixels: np.ndarray, side: int) -> np.ndarray:
    """ADM's rule in other words: halve while twice too large, bicubic, cut the middle."""
    image = Image.fromarray(pixels)
    halvings = max(0, math.floor(math.log2(min(image.size) / side)))
    for _ in range(halvings):
        image = image.resize((image.size[0] // 2, image.size[1] // 2), resample=Image.BOX)
        if min(image.size) < 2 * side:
            break
    ratio = side / min(image.size)
    image = image.resize(tuple(round(length * ratio) for length in image.size), Image.BICUBIC)
    array = np.array(image)
    top, left = (array.shape[0] - side) // 2, (array.shape[1] - side) // 2
    return array[top : top + side, left : left + side]


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (37, 91, 16),
        (91, 37, 16),
        (500, 333, 64),
        (28, 28, 32),
        (64, 64, 32),
        (63, 65, 32),
        (9, 200, 8),
    ],
)
@pytest.mark.parametrize("channels", [(), (3,)])
def test_center_crop_is_that_of_adm(height, width, size, channels):
    pixels = noise(height, width, *channels)
    ours = np.asarray(center_crop(Image.fromarray(pixels), size))
    assert ours.shape[:2] == (size, size)
    assert np.array_equal(ours, published_crop(pixels, size))


def test_an_image_of_the_right_size_is_left_alone():
    pixels = noise(16, 16, 3)
    assert np.array_equal(np.asarray(center_crop(Image.fromarray(pixels), 16)), pixels)


def test_pad_square_centres_on_black():
    pixels = noise(28, 28) | 1
    padded = np.asarray(pad_square(Image.fromarray(pixels), 32))
    assert np.array_equal(padded[2:30, 2:30], pixels)
    padded = padded.copy()
    padded[2:30, 2:30] = 0
    assert not padded.any()


@pytest.mark.parametrize(("height", "width"), [(100, 50), (50, 100), (33, 8)])
def test_pad_square_shrinks_only_what_is_larger(height, width):
    padded = np.asarray(pad_square(Image.new("L", (width, height), 255), 32))
    rows, columns = (padded > 0).any(1).sum(), (padded > 0).any(0).sum()
    scale = min(1, 32 / max(height, width))
    assert (rows, columns) == (round(height * scale), round(width * scale))


@pytest.mark.parametrize("how", ["crop", "pad"])
def test_fit_gives_the_size(how):
    assert fit(Image.fromarray(noise(21, 40, 3)), 16, how).size == (16, 16)


def test_grey_becomes_three_equal_channels(encode):
    pixels = noise(5, 7)
    colour = np.asarray(decode(encode(pixels)))
    assert np.array_equal(colour, np.stack([pixels] * 3, axis=-1))
    assert np.array_equal(np.asarray(decode(encode(pixels), channels=1)), pixels)


def test_colour_becomes_grey_on_request(encode):
    assert decode(encode(noise(5, 7, 3)), channels=1).mode == "L"


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_laid_over_white(encode, kind):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2] = (200, 0, 0, 255)
    pixels[2:] = (0, 0, 0, 0)
    pixels[3] = (0, 0, 0, 128)
    decoded = np.asarray(
        decode(encode(pixels, kind, **({"lossless": True} if kind == "WEBP" else {})))
    )
    assert decoded[0, 0].tolist() == [200, 0, 0]
    assert decoded[2, 0].tolist() == [255, 255, 255]
    assert decoded[3, 0].tolist() == [127, 127, 127]


def test_palette_with_a_transparent_entry(encode):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    decoded = np.asarray(decode(encode(image, transparency=1)))
    assert decoded[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_grey_with_a_transparent_level(encode):
    pixels = np.array([[7, 90]], np.uint8)
    assert np.asarray(decode(encode(pixels, transparency=90), 1)).tolist() == [[7, 255]]


def test_cmyk_is_converted(encode):
    decoded = np.asarray(decode(encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")))
    assert decoded.shape == (8, 8, 3)
    assert np.abs(decoded[4, 4].astype(int) - [255, 0, 0]).max() < 8


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_grey_is_scaled_not_clipped(encode, channels):
    pixels = np.array([[0, 257, 257 * 128, 65535]], np.uint16)
    decoded = np.asarray(decode(encode(pixels), channels))
    assert decoded.reshape(4, -1)[:, 0].tolist() == [0, 1, 128, 255]


def test_of_an_animation_the_first_frame(encode):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    animation = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(animation).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_orientation_on_and_off(encode, kind):
    image = Image.new("L", (16, 8), 0)
    image.paste(255, (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise: the left half comes to the top
    data = encode(image, kind, exif=exif)
    upright, stored = decode(data, 1), decode(data, 1, exif_rotate=False)
    assert upright.size == (8, 16)
    assert upright.getpixel((4, 2)) > 200 > 50 > upright.getpixel((4, 13))
    assert stored.size == (16, 8)


def test_a_path_is_as_good_as_bytes(encode, tmp_path):
    pixels = noise(4, 4, 3)
    path = tmp_path / "a.png"
    path.write_bytes(encode(pixels))
    assert np.array_equal(np.asarray(decode(str(path))), pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_a_file_cut_off_is_unreadable(encode, kind, share):
    data = encode(Image.fromarray(noise(64, 64, 3)), kind)
    with pytest.raises(UNREADABLE):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("data", [b"", b"hello, this is text", b"<html></html>", bytes(1000)])
def test_what_is_not_an_image_is_unreadable(data):
    with pytest.raises(UNREADABLE):
        decode(data)


def test_an_image_too_large_to_be_honest_is_unreadable(encode):
    header = bytearray(encode(np.zeros((1, 1), np.uint8)))
    header[16:24] = (60000).to_bytes(4, "big") * 2
    with pytest.raises(UNREADABLE):
        decode(bytes(header))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_tensor_and_back(mode):
    pixels = noise(5, 6) if mode == "L" else noise(5, 6, 3)
    tensor = to_tensor(Image.fromarray(pixels))
    assert tensor.dtype == torch.uint8
    assert tensor.shape == (1 if mode == "L" else 3, 5, 6)
    assert to_pil(tensor).mode == mode
    assert np.array_equal(np.asarray(to_pil(tensor)), pixels)


def test_a_grid_shows_every_picture_in_order():
    sheet = np.asarray(grid([Image.new("L", (4, 4), level) for level in (10, 20, 30)], columns=2))
    assert sheet.shape == (14, 14, 3)
    assert [sheet[4, 4, 0], sheet[4, 10, 0], sheet[10, 4, 0]] == [10, 20, 30]
    assert sheet[10, 10, 0] == 255


# Zoomed crops


@pytest.mark.parametrize(("height", "width"), [(40, 60), (61, 40), (300, 200), (16, 16), (9, 30)])
@pytest.mark.parametrize("zoom", [1.0, 1.3, 2.0])
@pytest.mark.parametrize(("down", "across"), [(0.0, 0.0), (0.5, 0.25), (1 - 2**-53, 1 - 2**-53)])
def test_a_zoomed_crop_lies_where_it_says(height, width, zoom, down, across):
    image = Image.fromarray(noise(height, width, 3))
    square, crop = zoomed_crop(image, 16, zoom, down, across)
    assert square.size == (16, 16)
    assert min(crop.height, crop.width) == round(16 * zoom)
    assert crop.height / crop.width == pytest.approx(height / width, rel=0.05)
    assert 0 <= crop.top <= crop.height - 16 and 0 <= crop.left <= crop.width - 16
    resized = np.asarray(resize_short_side(image, round(16 * zoom)))
    assert resized.shape[:2] == (crop.height, crop.width)
    cut = resized[crop.top : crop.top + 16, crop.left : crop.left + 16]
    assert np.array_equal(np.asarray(square), cut)


def test_zoomed_crops_reach_every_corner():
    image = Image.fromarray(noise(20, 20))
    corners = {zoomed_crop(image, 16, 1.25, a, b)[1][2:] for a in (0, 0.999) for b in (0, 0.999)}
    assert corners == {(0, 0), (0, 4), (4, 0), (4, 4)}


# Slivers


@pytest.mark.parametrize(("height", "width"), [(1, 3000), (3000, 1), (2, 5001), (7, 4000)])
@pytest.mark.parametrize("zoom", [1.0, 1.37])
def test_the_square_of_a_sliver_is_cut_without_the_rest(monkeypatch, height, width, zoom):
    image = Image.fromarray(noise(height, width, 3))
    whole = [center_crop(image, 16), zoomed_crop(image, 16, zoom, 0.3, 0.7)]
    monkeypatch.setattr("gensynth.data.images.MOST_RESIZED", 0)
    square, (zoomed, crop) = center_crop(image, 16), zoomed_crop(image, 16, zoom, 0.3, 0.7)
    assert crop == whole[1][1]
    for found, expected in ((square, whole[0]), (zoomed, whole[1][0])):
        difference = np.asarray(found, int) - np.asarray(expected, int)
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000)])
@pytest.mark.parametrize("how", ["crop", "pad"])
def test_a_sliver_costs_no_gigabyte(size, how):
    image = Image.new("RGB", size, (9, 99, 199))
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, limits[1]))
    try:
        square = fit(image, 256, how)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert square.size == (256, 256)
    assert square.getpixel((127, 127)) == (9, 99, 199)


def test_a_captioned_grid_has_the_names_under_the_pictures():
    colours = ("red", "lime", "blue")
    names = ("cat", "a name that is much wider than its picture", "")
    pictures = [(n, Image.new("RGB", (32, 32), c)) for n, c in zip(names, colours, strict=True)]
    sheet = captioned_grid(pictures, columns=2, zoom=2)
    cell, below, gap = 64, 18, 4
    assert sheet.size == (2 * (cell + gap) + gap, 2 * (cell + below + gap) + gap)
    for index, (_, picture) in enumerate(pictures):
        row, column = divmod(index, 2)
        left, top = gap + column * (cell + gap), gap + row * (cell + below + gap)
        assert sheet.getpixel((left + 32, top + 32)) == picture.getpixel((0, 0))
        text = sheet.crop((left, top + cell, left + cell, top + cell + below))
        assert (text.convert("L").getextrema()[0] < 100) == bool(names[index])
        gaps = sheet.crop((left + cell, top, left + cell + gap, top + cell + below))
        assert gaps.convert("L").getextrema() == (255, 255)  # nothing runs into the next
