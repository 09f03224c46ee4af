"""`gensynth reference`."""

import sys
from pathlib import Path

import numpy as np
import pytest

from gensynth.cli import main
from gensynth.evaluation.references.reference import read_reference
from gensynth.metrics.extractors import open_extractor


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GENSYNTH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def reference(cache, capsys, monkeypatch):
    """Runs the command; gives exit code, stdout and stderr."""

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # the command sets its own
        with pytest.raises(SystemExit) as ended:
            main(["reference", *map(str, arguments)])
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("images") / "a.npz"
    np.savez(path, np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8))
    return path


def test_a_reference_is_made_and_read(reference, images, tmp_path):
    out = tmp_path / "ref.npz"
    code, printed, errors = reference(images, "--out", out, "--num", 5, "--name", "noise")
    assert code == 0, errors
    assert printed.splitlines() == [
        f"{out}: 5 images of noise as lite0-64 sees them",
        f"Try: gensynth evaluate SAMPLES --reference {out} --extractor lite0-64",
    ]
    found = read_reference(out, open_extractor("lite0-64"))
    assert (found.name, found.meta["count"]) == ("noise", 5)
    assert {"s40", "s112", "s320", "h1280"} == set(found.statistics)
    code, _, errors = reference(images, "--out", out)
    assert code == 4 and "is there already" in errors
    code, _, errors = reference(out, "--out", tmp_path / "again.npz")
    assert code == 2 and "is a reference (statistics of real images)" in errors
    code, printed, errors = reference(images, "--out", tmp_path / "all.npz", "--num", 7)
    assert (code, errors) == (
        0,
        "images: 6 pictures without classes.\nwarning: 7 images were asked for\n",
    )
    assert "all.npz: 6 images" in printed


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give DATA, the real images, and --out FILE.npz; or --published NAME."),
        (["nowhere", "--out", "a.txt"], 2, "--out must end in .npz"),
        (["nowhere", "--out", "a.npz", "--num", "1"], 2, "--num 2"),
        (["nowhere", "--out", "a.npz"], 3, "there are no images at 'nowhere'"),
        (["nowhere", "--published", "imagenet256"], 2, "--published takes neither"),
        (["--published", "imagenet"], 2, "no published reference 'imagenet'"),
        (["--published", "imagenet512"], 3, "imagenet512 is not here. Place https://"),
        (["--published", "imagenet512", "--download"], 2, "no checksum of imagenet512"),
    ],
)
def test_what_cannot_work_is_one_line(reference, arguments, code, message):
    ended, printed, errors = reference(*arguments)
    assert (ended, printed) == (code, "")
    assert errors.startswith("error: ") and message in errors
    assert len(errors.strip().splitlines()) == 1


def test_a_published_file_that_is_there_is_described(reference, cache):
    place = cache / "references" / "VIRTUAL_imagenet64_labeled.npz"
    place.parent.mkdir(parents=True)
    arrays = {"mu": np.zeros(2048, np.float32), "sigma": np.eye(2048)}
    np.savez(place, arr_0=np.zeros((3, 64, 64, 3), np.uint8), **arrays)
    code, printed, errors = reference("--published", "imagenet64")
    assert code == 0, errors
    first, *rest = printed.splitlines()
    assert first == f"imagenet64: {place}"
    assert rest[:2] == ["  pool: mean and covariance of 2048 values", "  3 images"]
    assert rest[2].endswith("of which no published value is known")
