"""The benchmark of refinement: its figures by hand, and its sheet."""

import pytest
import torch
from PIL import Image

from gensynth.metrics.extractors.lite0 import Lite0Features
from gensynth_benchmarks import refining


@pytest.fixture(scope="module")
def network():
    return Lite0Features(64)


def test_the_true_picture_is_the_true_picture(network):
    truth = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    found = refining.compared(truth.byte(), truth.byte(), network)
    assert found["psnr"] > 100 and found["edge_error"] == 0
    assert found["feature_distance"] == pytest.approx(0, abs=1e-5) and found["sharpness"] == 1


def test_an_edge_that_is_half_as_steep(network):
    """Over two pixels instead of one: the same height, half of the energy."""
    truth = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    truth[..., 32:] = 200
    soft = truth.clone()
    soft[..., 32] = 100
    found = refining.compared(soft, truth, network)
    assert found["sharpness"] == pytest.approx(0.5)
    # 100 of 64 x 64 pixels' columns: mean squared error 100^2 / 64
    assert found["psnr"] == pytest.approx(26.19, abs=0.01)
    assert found["edge_error"] == pytest.approx(200 / 63)
    assert found["feature_distance"] > 0.01


def test_table_and_sheet():
    rows = {
        refining.PLAIN: refining.summary([{"psnr": 20.0}, {"psnr": 22.0}]),
        refining.DRAWN + refining.PLAIN: {"sharpness": 0.5},
    }
    about = {"device": "abacus", "date": "today", "commit": "c", "pictures": 2, "command": "x"}
    lines = refining.markdown(rows, about).splitlines()
    assert lines[0] == "abacus, today, commit c, 2 held-out emoji: `x`"
    assert lines[-2] == "| plain (Lanczos) | 21.0 ± 1.0 |  |  |  |"
    assert lines[-1].endswith("| 0.50 |")
    picture = Image.new("RGB", (512, 512), "red")
    assert refining.sheet([[picture] * 3] * 2).size == (768, 512)
