"""Embedded profiles: pixels are compared with the arithmetic of the profile itself."""

import io

import numpy as np
import pytest
from colours import assembled, fixed, profile
from PIL import Image, ImageCms

from gensynth.data.colour import in_srgb, with_profile
from gensynth.data.files.image_set import open_images
from gensynth.data.images import decode

# Columns: red, green and blue in XYZ of D50, as profiles store them.
SRGB = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7142]])
ADOBE = np.array([[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]])
GAMMA = 2.0


def wide(name: bytes = b"wide") -> bytes:
    return profile(b"RGB ", GAMMA, ADOBE.T, name)


GREY = profile(b"GRAY", GAMMA)


def as_srgb(levels) -> np.ndarray:
    """Levels 0-255 of the wide profile as those of sRGB, by its matrix and gamma."""
    linear = (np.asarray(levels, float) / 255) ** GAMMA
    linear = np.clip(linear @ (np.linalg.inv(SRGB) @ ADOBE).T, 0, 1)
    return _encoded(linear)


def _encoded(linear: np.ndarray) -> np.ndarray:
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(curve * 255)


COLOURS = [[200, 60, 40], [10, 120, 90], [128, 128, 128], [0, 0, 0], [255, 255, 255]]
PIXELS = np.array([COLOURS], np.uint8)


def near(found, expected, tolerance: int = 2) -> bool:
    return bool(np.abs(np.asarray(found, int) - np.asarray(expected, int)).max() <= tolerance)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_a_wide_profile_becomes_srgb(encode, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(PIXELS, kind, icc_profile=wide(), **options)
    decoded = np.asarray(decode(data))
    assert near(decoded, as_srgb(PIXELS))
    assert not near(decoded, PIXELS, 10)


def test_training_and_evaluation_read_the_same_colours(encode, tmp_path):
    (tmp_path / "a.png").write_bytes(encode(PIXELS, icc_profile=wide()))
    assert near(open_images(str(tmp_path)).read(0).permute(1, 2, 0).numpy(), as_srgb(PIXELS))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("deep", [False, True])
def test_grey_with_a_profile_stays_grey(encode, channels, deep):
    grey = np.array([[0, 60, 128, 255]], np.uint8)
    image = Image.fromarray(grey.astype(np.uint16) * 257) if deep else Image.fromarray(grey)
    data = encode(image, "TIFF" if deep else "PNG", icc_profile=GREY)
    decoded = np.asarray(decode(data, channels)).reshape(4, -1)
    assert near(decoded[:, 0], _encoded((grey[0] / 255) ** GAMMA))


def test_transparency_stays_and_lies_over_white(encode):
    pixels = np.concatenate([PIXELS, np.full((1, 5, 1), 255, np.uint8)], -1)
    pixels[0, 1, 3] = 0
    decoded = np.asarray(decode(encode(pixels, icc_profile=wide())))
    expected = as_srgb(PIXELS)
    expected[0, 1] = 255
    assert near(decoded, expected)


def test_a_palette_with_a_transparent_entry_and_a_profile(encode):
    image = Image.new("P", (2, 1))
    image.putpalette([200, 60, 40, 10, 120, 90])
    image.putdata([0, 1])
    decoded = np.asarray(decode(encode(image, transparency=1, icc_profile=wide())))
    assert near(decoded[0], [as_srgb([200, 60, 40]), [255, 255, 255]])


def test_srgb_itself_and_unusable_profiles_change_no_bit(encode):
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for icc in (
        own,
        b"no profile",
        wide()[:200],
        GREY,
        wide(name=b"sRGB2"),
    ):
        assert np.array_equal(np.asarray(decode(encode(PIXELS, icc_profile=icc))), PIXELS)


def test_a_picture_without_a_profile_changes_no_bit():
    image = Image.fromarray(PIXELS)
    assert np.array_equal(np.asarray(in_srgb(image)), PIXELS)
    cmyk = image.convert("CMYK")
    assert np.array_equal(np.asarray(in_srgb(cmyk)), np.asarray(cmyk.convert("RGB")))


def told(image: Image.Image, icc: bytes) -> Image.Image:
    image.info["icc_profile"] = icc
    return image


def test_srgb_is_known_by_its_colours_also_under_another_name():
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    nameless = own.replace("sRGB".encode("utf-16-be"), "c2.0".encode("utf-16-be"))
    assert nameless != own and "sRGB" not in ImageCms.getProfileName(io.BytesIO(nameless))
    flat, known = with_profile(told(Image.fromarray(PIXELS), nameless))
    assert known is None and np.array_equal(np.asarray(flat), PIXELS)
    assert np.array_equal(np.asarray(in_srgb(told(Image.fromarray(PIXELS), nameless))), PIXELS)


def test_linear_srgb_is_not_srgb():
    image = told(Image.fromarray(PIXELS), wide(name=b"Linear sRGB"))
    assert with_profile(image)[1] is not None
    assert near(np.asarray(in_srgb(image)), as_srgb(PIXELS))


def test_a_profile_of_rgb_speaks_of_grey_too():
    grey = np.array([[0, 60, 128, 255]], np.uint8)
    found = in_srgb(told(Image.fromarray(grey), wide()))
    assert found.mode == "L"
    assert near(np.asarray(found)[0], _encoded((grey[0] / 255) ** GAMMA))


def test_half_transparent_pixels_lie_over_white_in_srgb():
    pixels = np.concatenate([PIXELS, np.full((1, 5, 1), 100, np.uint8)], -1)
    pixels[0, 0, 3] = 255
    image = told(Image.fromarray(pixels), wide())
    expected = as_srgb(PIXELS)
    expected[0, 1:] = (expected[0, 1:] * 100 + 255 * 155) / 255
    assert near(np.asarray(in_srgb(image)), expected)
    flat, known = with_profile(image)  # editing sees the same, and opaque pixels stay
    assert near(np.asarray(known.to_srgb(flat)), expected)
    assert flat.getpixel((0, 0)) == tuple(PIXELS[0, 0])


def test_a_bad_profile_is_logged_once(caplog):
    bad = b"no profile of ours"
    for _ in range(3):
        assert np.array_equal(np.asarray(in_srgb(told(Image.fromarray(PIXELS), bad))), PIXELS)
    assert caplog.text.count("cannot be used") == 1


def test_colours_that_cannot_be_brought_back_become_srgb():
    scanner = scanner_profile()
    flat, known = with_profile(told(Image.fromarray(PIXELS), scanner))
    assert known is None  # nothing could be drawn in its colours
    assert flat.getpixel((3, 0)) == (0, 0, 0) and flat.getpixel((4, 0)) == (255, 255, 255)
    assert not near(np.asarray(flat), PIXELS, 10)


def scanner_profile() -> bytes:
    """From RGB to Lab by a table of two levels each, without a table for the way back."""
    corners = np.array([(r, g, b) for r in (0, 1) for g in (0, 1) for b in (0, 1)], float)
    grey = corners.mean(1) * 255  # L*, with a and b of 0
    clut = np.stack([grey, np.full(8, 128), np.full(8, 128)], -1).astype(np.uint8).tobytes()
    line = bytes(range(256)) * 3
    matrix = fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table = b"mft1" + bytes(4) + bytes([3, 3, 2, 0]) + matrix + line + clut + line
    return assembled({b"A2B0": table}, b"scnrRGB Lab ")


def test_lab_is_read(encode):
    lab = Image.new("LAB", (2, 2), (255, 128, 128))  # white
    assert near(np.asarray(decode(encode(lab, "TIFF"))), np.full((2, 2, 3), 255))
