"""Editing pictures as viewers show them: upright, in their colours, under the mask as painted."""

import io

import numpy as np
import pytest
from colours import DISPLAY_P3, SWAPPED, profile
from pictures import array, box, noise
from PIL import Image, ImageCms, ImageOps

from gensynth.data.colour import in_srgb, with_profile
from gensynth.errors import UsageError
from gensynth.pipelines.editing.canvas import make_canvas
from gensynth.sampling.edits import EditJob, run

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
P3 = profile(b"RGB ", 2.2, DISPLAY_P3)
BGR = profile(b"RGB ", 2.2, SWAPPED)
LINEAR_GREY = profile(b"GRAY", 1.0)
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def grey(make_pipeline):
    return make_pipeline("tokens", steps=2, fit="pad")


@pytest.fixture(scope="module")
def colour(make_pipeline, make_tokenizer):
    return make_pipeline("tokens", steps=2, fit="pad", autoencoder=make_tokenizer(channels=3))


def opened(image: Image.Image, kind: str = "PNG", **options) -> Image.Image:
    """As from a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return Image.open(stream)


def turned(image: Image.Image, orientation: int) -> Image.Image:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return opened(image, exif=exif)


def told(image: Image.Image, icc: bytes) -> Image.Image:
    return opened(image, icc_profile=icc)


def seen(image: Image.Image) -> np.ndarray:
    """What a viewer shows, by Pillow."""
    icc = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    if icc.profile.xcolor_space.strip() == "RGB":
        image = image.convert("RGB")
    return array(ImageCms.profileToProfile(image, icc, SRGB, outputMode="RGB"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_edited_as_it_is_shown(colour, orientation):
    photo = turned(noise(24, 32, "RGB"), orientation)
    shown = ImageOps.exif_transpose(photo)
    mask = box(shown.size, 2, 3, 12, 14)
    (result,) = colour.edit(photo, mask=mask)
    assert result.size == shown.size and not result.getexif().get(ORIENTATION)
    kept = array(mask) == 0
    assert np.array_equal(array(result)[kept], array(shown)[kept])
    assert np.array_equal(array(result), array(colour.edit(shown, mask=mask)[0]))
    assert colour.edit(photo)[0].size == shown.size  # a variation
    width, height = shown.size
    (larger,) = colour.edit(photo, outpaint=(height + 8, width), anchor="top")
    assert np.array_equal(array(larger)[:height], array(shown))


def test_a_mask_is_turned_by_its_own_orientation(colour):
    image, mask = noise(32, 24, "RGB"), box((32, 24), 2, 3, 20, 8)
    stored = turned(mask.transpose(Image.Transpose.ROTATE_90), 6)
    expected = array(colour.edit(image, mask=mask)[0])
    assert np.array_equal(array(colour.edit(image, mask=stored)[0]), expected)


@pytest.mark.parametrize("icc", [P3, BGR], ids=["P3", "BGR"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_profile_is_kept_and_the_model_sees_srgb(colour, icc, mode):
    image = told(noise(28, 28, mode), icc)
    mask = box((28, 28), 5, 9, 20, 22)
    (result,) = colour.edit(image, mask=mask)
    flat, known = with_profile(image)
    kept = array(mask) == 0
    assert result.info["icc_profile"] == icc == known.icc
    assert np.array_equal(array(result)[kept], array(flat)[kept])
    # The same picture in sRGB gives the same result, as it is shown.
    (plain,) = colour.edit(in_srgb(image), mask=mask)
    inside = array(box((28, 28), 8, 12, 17, 19)) > 0
    difference = np.abs(seen(result) - array(plain))[inside]
    assert np.median(difference) <= 2  # colours outside of the space are cut off
    assert np.abs(array(in_srgb(image)) - array(flat)).max() > 5  # the profile does say something


def test_what_the_model_sees_is_srgb(colour):
    red = told(Image.new("RGB", (32, 32), (255, 0, 0)), BGR)
    canvas = make_canvas(red, None, None, "center", True, 32, 4, True)
    assert canvas.work_pixels(3)[:, 0, 0].tolist() == [0, 0, 255]
    drawn = Image.new("RGB", (32, 32), (0, 0, 255))
    back = canvas.finished(drawn, 0).getpixel((3, 3))  # in the colours of the profile
    assert np.abs(np.subtract(back, (255, 0, 0))).max() <= 4


def test_grey_pictures_have_profiles_too(grey, colour):
    image = told(noise(28, 28, "L"), LINEAR_GREY)
    mask = box((28, 28), 5, 9, 20, 22)
    kept = array(mask) == 0
    (result,) = grey.edit(image, mask=mask)
    assert result.mode == "L" and result.info["icc_profile"] == LINEAR_GREY
    assert np.array_equal(array(result)[kept], array(image)[kept])
    assert np.abs(array(in_srgb(image)) - seen(image)[..., 0]).max() <= 1
    (coloured,) = colour.edit(image, mask=mask)  # a profile of grey says nothing of colours
    assert coloured.mode == "RGB" and "icc_profile" not in coloured.info
    assert np.abs(array(coloured) - seen(image))[kept].max() <= 1


@pytest.mark.parametrize("icc", [SRGB.tobytes(), b"", b"no profile", LINEAR_GREY])
def test_pictures_in_srgb_or_without_a_valid_profile_stay_as_they_are(colour, icc):
    image = noise(28, 28, "RGB")
    mask = box((28, 28), 5, 9, 20, 22)
    expected = array(colour.edit(image, mask=mask)[0])
    image.info["icc_profile"] = icc
    (result,) = colour.edit(image, mask=mask)
    assert np.array_equal(array(result), expected)
    assert "icc_profile" not in result.info  # sRGB is what pictures without a profile are


def brush(alpha: int, box: tuple[int, int, int, int] = (8, 8, 24, 24), colour=(255, 0, 0)):
    layer = Image.new("RGBA", (32, 32))
    layer.paste((*colour, alpha), box)
    return layer


@pytest.mark.parametrize("alpha", [1, 60, 127, 128, 255])
@pytest.mark.parametrize("ink", [(255, 0, 0), (0, 0, 0)])
def test_a_brush_may_be_half_transparent(grey, alpha, ink):
    image = noise(32, 32)
    expected = array(grey.edit(image, mask=box((32, 32), 8, 8, 24, 24))[0])
    assert np.array_equal(array(grey.edit(image, mask=brush(alpha, colour=ink))[0]), expected)


def test_a_soft_brush_is_cut_at_half_of_its_most_opaque_pixel(grey):
    layer = np.zeros((32, 32, 4), np.uint8)
    layer[8:24, 8:24, 3] = np.linspace(0, 100, 16, dtype=np.uint8)  # 51 and above is kept
    expected = box((32, 32), 16, 8, 24, 24)
    results = [grey.edit(noise(32, 32), mask=m)[0] for m in (Image.fromarray(layer), expected)]
    assert np.array_equal(*map(array, results))


@pytest.mark.parametrize("alpha", [90, 255])
def test_where_all_of_a_mask_is_as_transparent_its_colours_count(grey, alpha):
    plain = box((32, 32), 8, 8, 24, 24)
    mask = plain.convert("RGBA")
    mask.putalpha(alpha)
    results = [grey.edit(noise(32, 32), mask=m)[0] for m in (mask, plain)]
    assert np.array_equal(*map(array, results))


def test_an_empty_layer_is_named(grey):
    with pytest.raises(UsageError, match=r"transparent everywhere \(opacity 0\)") as refused:
        grey.edit(noise(32, 32), mask=Image.new("RGBA", (32, 32)))
    assert "brightest" not in str(refused.value)
    with pytest.raises(UsageError, match="its brightest is 100"):
        grey.edit(noise(32, 32), mask=Image.new("L", (32, 32), 100))


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_files_keep_the_profile_and_the_sheet_is_in_srgb(colour, tmp_path, kind):
    colour.save_pretrained(tmp_path / "model")
    blue = Image.new("RGB", (32, 32), (255, 0, 0))  # as the profile says
    blue.save(tmp_path / "blue.png", icc_profile=BGR)
    box(blue.size, 0, 0, 9, 9).save(tmp_path / "mask.png")
    job = EditJob(str(tmp_path / "model"), tmp_path / "blue.png", tmp_path / "mask.png")
    result = Image.open(run(job, tmp_path / f"out.{kind}"))
    assert result.info["icc_profile"] == BGR and result.getpixel((20, 20)) == (255, 0, 0)
    if kind == "png":
        sheet = Image.open(run(job, tmp_path / "folder") / "sheet.png").convert("RGB")
        assert "icc_profile" not in sheet.info
        assert sheet.getpixel((100, 100)) == (0, 0, 255)  # the first tile: the picture
