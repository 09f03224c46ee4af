import hashlib

import pytest
import torch

from gensynth.errors import InputError
from gensynth.metrics.extractors import open_extractor
from gensynth.metrics.extractors.inception_features import (
    PUBLISHED,
    InceptionFeatures,
    inception_shapes,
    random_inception,
)


def test_dimensions(inception, coloured):
    features = inception(coloured(2, 20, 30))
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        name: (2, dim) for name, dim in inception.dims.items()
    }
    assert inception.dims == {"pool": 2048, "spatial": 2023, "logits": 1008}
    assert {value.dtype for value in features.values()} == {torch.float32}
    for value in features.values():
        assert value.isfinite().all() and (value[0] - value[1]).abs().max() > 1e-3


def test_an_image_does_not_depend_on_its_batch(inception, coloured):
    images = coloured(3, 40, 40)
    together = inception(images)
    for index in range(3):
        for name, value in inception(images[index : index + 1]).items():
            torch.testing.assert_close(value[0], together[name][index], rtol=1e-4, atol=1e-4)


def test_spatial_is_the_first_branch_of_mixed_6d_row_by_row(inception, coloured):
    seen = []
    branch = inception.network.Mixed_6d.branch1x1
    handle = branch.register_forward_hook(lambda module, inputs, output: seen.append(output))
    spatial = inception(coloured(2, 32, 32))["spatial"]
    handle.remove()
    assert seen[0].shape == (2, 192, 17, 17)
    for row, column, channel in ((0, 0, 0), (0, 0, 6), (0, 16, 3), (16, 2, 5)):
        place = (row * 17 + column) * 7 + channel
        assert torch.equal(spatial[:, place], seen[0][:, channel, row, column])


def test_logits_have_no_bias(inception, coloured):
    features = inception(coloured(1, 24, 24))
    head = inception.network.fc
    assert head.bias.abs().max() > 0.1
    expected = head(features["pool"].clone()) - head.bias
    torch.testing.assert_close(features["logits"], expected, rtol=1e-4, atol=1e-4)


def test_preprocessing_of_both_readings(inception, coloured):
    clean = InceptionFeatures("clean", random_inception(0), clean=True)
    levels = torch.tensor([0, 128, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 8, 8)
    for extractor in (inception, clean):
        pixels = extractor.preprocess(levels)
        assert pixels.shape == (3, 3, 299, 299)
        torch.testing.assert_close(pixels[:, 0, 5, 5], torch.tensor([-1, 0, 127 / 128]))
    edges = coloured(1, 8, 8)
    assert clean.fingerprint != inception.fingerprint
    assert (inception.preprocess(edges) - clean.preprocess(edges)).abs().mean() > 0.01


def test_weights_come_from_their_seed_only(inception):
    state = torch.get_rng_state()
    again, other = open_extractor("random-inception-0"), random_inception(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert again.fingerprint == inception.fingerprint and not inception.official
    assert again.weights_sha256 != other.sha256
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_a_given_file(inception, coloured, weights_file, tmp_path):
    images = coloured(1, 16, 16)
    digest = hashlib.sha256(weights_file.read_bytes()).hexdigest()
    for name in ("inception-2015", "inception-2015-clean"):
        extractor = open_extractor(name, weights_file)
        assert extractor.name == name and not extractor.official
        assert extractor.weights_sha256 == digest != PUBLISHED.sha256
        same = torch.equal(extractor(images)["pool"], inception(images)["pool"])
        assert same == (name == "inception-2015")
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other")
    with pytest.raises(InputError, match="holds other weights"):
        open_extractor("inception-2015", tmp_path / "other")


def test_the_published_file_is_found_and_official(weights_file, tmp_path, monkeypatch):
    """With this file's hash in the place of the published one's, which is not here."""
    digest = hashlib.sha256(weights_file.read_bytes()).hexdigest()
    published = PUBLISHED._replace(sha256=digest)
    monkeypatch.setattr("gensynth.metrics.extractors.inception_features.PUBLISHED", published)
    monkeypatch.setenv("GENSYNTH_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    hub = tmp_path / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    (hub / weights_file.name).hardlink_to(weights_file)
    assert open_extractor("inception-2015").official


def test_without_the_file_it_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("GENSYNTH_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError) as caught:
        open_extractor("inception-2015")
    assert PUBLISHED.url in str(caught.value)
    assert str(tmp_path / "weights" / PUBLISHED.names[0]) in str(caught.value)


def test_the_file_has_566_entries_less_its_counters():
    assert len(inception_shapes()) == 566 - 94
