import pytest
import torch

from gensynth.errors import UsageError
from gensynth.metrics.extractors import EXTRACTORS, open_extractor
from gensynth.metrics.extractors.extractor import Extractor, exact_float32


class Mean(Extractor):
    """The mean of an image by a matrix product, which notices what formats it is computed in."""

    def __init__(self, **changes):
        known = {"name": "mean", "preprocessing": "/ 255", "weights_sha256": "ab", "official": True}
        super().__init__(**{**known, "dims": {"mean": 1}, **changes})
        self.register_buffer("ones", torch.ones(1, 1))
        self.seen = {}

    def preprocess(self, images):
        self.seen = settings()
        return images.float().mean(dim=(1, 2, 3))[:, None] / 255

    def features(self, pixels):
        return {"mean": pixels @ self.ones}


def settings():
    backends = torch.backends
    return {
        "matmul": backends.cuda.matmul.fp32_precision,
        "conv": backends.cudnn.conv.fp32_precision,
        "cpu matmul": backends.mkldnn.matmul.fp32_precision,
        "cpu conv": backends.mkldnn.conv.fp32_precision,
        "benchmark": backends.cudnn.benchmark,
        "autocast": torch.is_autocast_enabled("cpu"),
    }


EXACT = {
    **dict.fromkeys(("matmul", "conv", "cpu matmul", "cpu conv"), "ieee"),
    "benchmark": False,
    "autocast": False,
}


@pytest.fixture
def fast_settings():
    """What a training run may have set: TF32, autotuning, autocast."""
    backends, before = torch.backends, settings()
    backends.cuda.matmul.fp32_precision = backends.cudnn.conv.fp32_precision = "tf32"
    backends.mkldnn.matmul.fp32_precision = backends.mkldnn.conv.fp32_precision = "bf16"
    backends.cudnn.benchmark = True
    with torch.autocast("cpu", torch.bfloat16):
        yield settings()
    backends.cuda.matmul.fp32_precision = before["matmul"]
    backends.cudnn.conv.fp32_precision = before["conv"]
    backends.mkldnn.matmul.fp32_precision = before["cpu matmul"]
    backends.mkldnn.conv.fp32_precision = before["cpu conv"]
    backends.cudnn.benchmark = before["benchmark"]


def test_features_are_computed_exactly_and_the_settings_come_back(fast_settings, coloured):
    extractor, images = Mean(), coloured(3, 8, 8)
    features = extractor(images)["mean"]
    assert extractor.seen == EXACT
    assert settings() == fast_settings != EXACT
    assert features.dtype == torch.float32 and not features.requires_grad
    expected = images.double().mean(dim=(1, 2, 3)) / 255
    torch.testing.assert_close(features[:, 0].double(), expected, rtol=1e-6, atol=0)


def test_the_older_settings_come_back_too(coloured):
    """Those that PyTorch refuses to mix with the newer ones."""
    torch.set_float32_matmul_precision("medium")
    extractor = Mean()
    try:
        extractor(coloured(1, 4, 4))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert extractor.seen == EXACT


def test_settings_come_back_after_an_error(fast_settings):
    with pytest.raises(ZeroDivisionError), exact_float32():
        raise ZeroDivisionError
    assert settings() == fast_settings


def test_grey_is_repeated(coloured):
    grey = coloured(2, 6, 6, channels=1)
    assert torch.equal(Mean()(grey)["mean"], Mean()(grey.repeat(1, 3, 1, 1))["mean"])


@pytest.mark.parametrize(
    "images",
    [torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8).byte(), torch.zeros(1, 4, 8, 8).byte()],
    ids=["floats", "no batch", "four channels"],
)
def test_other_images_are_refused(images):
    with pytest.raises(UsageError, match=r"mean takes uint8 images \[B, 1 or 3, H, W\], got"):
        Mean()(images)


def test_the_fingerprint_is_of_all_that_changes_features():
    fingerprint = Mean().fingerprint
    assert len(fingerprint) == 16 and int(fingerprint, 16) >= 0
    assert Mean().fingerprint == fingerprint == Mean(official=False).fingerprint
    changes = ({"name": "n"}, {"preprocessing": "p"}, {"weights_sha256": "cd"})
    others = [Mean(**change) for change in changes] + [Mean()]
    others[-1].version = 2
    assert len({fingerprint, *(other.fingerprint for other in others)}) == 5


@pytest.mark.parametrize("name", ["inception", "random-inception-", "random-inception-<seed>", ""])
def test_unknown_names_list_the_known(name):
    with pytest.raises(UsageError, match="there is no extractor") as caught:
        open_extractor(name)
    assert all(known in str(caught.value) for known in EXTRACTORS)


@pytest.mark.parametrize("name", ["lite0-64", "random-inception-1"])
def test_some_bring_their_weights(name, tmp_path):
    with pytest.raises(UsageError, match="brings its own weights"):
        open_extractor(name, tmp_path)


def test_a_seed_beyond_64_bits_is_refused():
    with pytest.raises(UsageError, match="a seed must be"):
        open_extractor(f"random-inception-{2**63}")
