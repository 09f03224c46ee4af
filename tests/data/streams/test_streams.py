"""Pictures from bands are those of the whole, in files that others read."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gensynth.data.streams import Shape, write_bands
from gensynth.data.streams.png import filtered
from gensynth.data.streams.regroup import halved, strips
from gensynth.errors import UsageError

endings = pytest.mark.parametrize("ending", [".png", ".tif"])


def picture(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    """Smooth on the left and noise on the right, so that different filters are best."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 256, (height, width, channels), dtype=np.uint8)
    ramp = np.arange(height)[:, None, None] + 2 * np.arange(width)[None, :, None]
    smooth = (ramp * np.arange(1, channels + 1)).astype(np.uint8)
    return np.where(np.arange(width)[None, :, None] < width // 2, smooth, noise)


def bands_of(whole: np.ndarray, *heights: int):
    top = 0
    for height in heights:
        yield whole[top : top + height]
        top += height


@endings
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "heights"), [((600, 300), (1, 299, 300)), ((5, 7), (2, 3)), ((512, 256), (512,))]
)
def test_the_file_holds_the_picture(ending, channels, size, heights, tmp_path):
    whole = picture(*size, channels)
    path = tmp_path / f"a{ending}"
    write_bands(path, bands_of(whole, *heights), Shape(*size, channels))
    with Image.open(path) as image:
        image.load()
        assert image.mode == ("L" if channels == 1 else "RGB")
        assert np.array_equal(np.asarray(image).reshape(whole.shape), whole)
        assert "icc_profile" not in image.info
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_png_is_about_as_small_as_pillow_s(tmp_path):
    whole = picture(256, 256, 3)
    write_bands(tmp_path / "a.png", bands_of(whole, 100, 156), Shape(256, 256, 3))
    Image.fromarray(whole).save(tmp_path / "theirs.png")
    ours, theirs = ((tmp_path / name).stat().st_size for name in ("a.png", "theirs.png"))
    assert ours < 1.1 * theirs < whole.nbytes


def test_every_filter_is_chosen_where_it_is_best():
    rows = np.zeros((4, 8, 1), np.uint8)
    rows[0, :, 0] = np.arange(8) * 30  # each 30 more than its left neighbour
    rows[1] = rows[0]  # as above
    rows[2, :, 0] = 0
    rows[3, :, 0] = np.arange(8)
    assert filtered(rows, np.zeros((8, 1), np.uint8))[:, 0].tolist() == [1, 2, 0, 1]


def test_a_tiff_is_big_compressed_and_in_tiles(tmp_path):
    write_bands(tmp_path / "a.tif", bands_of(picture(300, 600, 3), 300), Shape(300, 600, 3))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        assert file.is_bigtiff and page.is_tiled and (page.tilelength, page.tilewidth) == (256, 256)
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert len(file.series[0].levels) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_pyramid_holds_means_of_four_down_to_a_tile(channels, tmp_path):
    whole = picture(1001, 515, channels)
    path = tmp_path / "a.tiff"
    write_bands(path, bands_of(whole, 400, 601), Shape(1001, 515, channels), pyramid=True)
    with tifffile.TiffFile(path) as file:
        levels = [level.asarray().reshape(*level.shape[:2], -1) for level in file.series[0].levels]
    assert [level.shape[:2] for level in levels] == [(1001, 515), (501, 258), (251, 129)]
    assert np.array_equal(levels[0], whole)
    for larger, smaller in pairwise(levels):
        four = larger[:200, :100].astype(float).reshape(100, 2, 50, 2, channels).mean((1, 3))
        assert np.array_equal(smaller[:100, :50], np.floor(four + 0.5))
    with Image.open(path) as image:
        assert image.size == (515, 1001)


def test_an_odd_last_row_and_column_count():
    rows = np.array([[0, 1, 10], [1, 1, 21]], np.uint8)[..., None]
    assert halved(rows)[..., 0].tolist() == [[1, 16]]  # 0.75 and 15.5, rounded half up
    assert halved(rows[:1])[..., 0].tolist() == [[1, 10]]


def test_texts_description_and_profile_are_in_the_file(tmp_path):
    texts = PngInfo()
    texts.add_itxt("gensynth", "ein Fuß 🦶")
    whole = picture(20, 30, 3)
    for ending in (".png", ".tif"):
        path = tmp_path / f"a{ending}"
        write_bands(path, [whole], Shape(20, 30, 3), texts, "a description", b"a profile")
        with Image.open(path) as image:
            assert image.info["icc_profile"] == b"a profile"
            told = image.info["gensynth"] if ending == ".png" else image.tag_v2[270]
    assert told == "a description"
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["gensynth"] == "ein Fuß 🦶"


@endings
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, ZeroDivisionError])
def test_nothing_is_left_of_an_interrupted_one(ending, error, tmp_path):
    def bands():
        yield picture(300, 40, 3)
        assert len(list(tmp_path.iterdir())) == 1  # it has begun
        raise error

    with pytest.raises(error):
        write_bands(tmp_path / f"a{ending}", bands(), Shape(600, 40, 3))
    assert list(tmp_path.iterdir()) == []


@endings
@pytest.mark.parametrize(
    ("heights", "said"), [((20, 9), "29 of the picture's 30"), ((20, 20), "more than the picture")]
)
def test_too_few_and_too_many_rows_are_refused(ending, heights, said, tmp_path):
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"the old one")
    with pytest.raises(UsageError, match=said):
        write_bands(path, bands_of(picture(40, 8, 3), *heights), Shape(30, 8, 3), pyramid=False)
    assert path.read_bytes() == b"the old one"


def test_bands_of_other_pictures_are_refused():
    for wrong in (picture(4, 9, 3), picture(4, 8, 1), picture(4, 8, 3).astype(np.int64)):
        with pytest.raises(UsageError, match="8 columns and 3 channels of uint8"):
            list(strips([wrong], 2, Shape(4, 8, 3)))


@pytest.mark.parametrize("name", ["a.webp", "a.jpg", "a"])
def test_other_kinds_of_files_are_refused(name, tmp_path):
    with pytest.raises(UsageError, match=r"\.png, \.tif, \.tiff only"):
        write_bands(tmp_path / name, [], Shape(1, 1, 3))
    with pytest.raises(UsageError, match=r"name the picture a\.tif"):
        write_bands(tmp_path / "a.png", [], Shape(1, 1, 3), pyramid=True)


@endings
def test_memory_is_that_of_bands(ending, tmp_path):
    height, width = 8192, 512
    band = picture(64, width, 3)
    tracemalloc.start()
    bands = (band for _ in range(height // 64))
    write_bands(tmp_path / f"a{ending}", bands, Shape(height, width, 3), pyramid=ending == ".tif")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < height * width * 3 / 2
    assert [entry.name for entry in tmp_path.iterdir()] == [f"a{ending}"]
