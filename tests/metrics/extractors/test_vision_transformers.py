import hashlib
import json
import logging
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gensynth.errors import InputError, UsageError
from gensynth.metrics.extractors import open_extractor
from gensynth.metrics.extractors.vision_transformers import (
    ClipFeatures,
    Dinov2Features,
    hub_positions,
    load_transformer,
)

transformers = pytest.importorskip("transformers")
image_utils = pytest.importorskip("transformers.image_utils")
TINY = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14}
SMALL = {**TINY, "hidden_size": 384, "num_hidden_layers": 1, "mlp_ratio": 1, "image_size": 42}
CLIP_L = {**TINY, "hidden_size": 1024, "num_hidden_layers": 1, "intermediate_size": 8}


def random_model(kind: str, config: str, **settings):
    """A model in which every weight matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, kind)(getattr(transformers, config)(**settings)).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(scope="module")
def dinov2():
    return random_model("Dinov2Model", "Dinov2Config", **TINY, mlp_ratio=2, image_size=70)


@pytest.fixture(scope="module")
def clip():
    settings = {**TINY, "intermediate_size": 16, "image_size": 28, "projection_dim": 6}
    return random_model("CLIPVisionModelWithProjection", "CLIPVisionConfig", **settings)


@pytest.fixture(scope="module")
def vits14(tmp_path_factory):
    """A folder that transformers would take for the small DINOv2, with one layer."""
    folder = tmp_path_factory.mktemp("vits14")
    random_model("Dinov2Model", "Dinov2Config", **SMALL).save_pretrained(folder)
    return folder


@pytest.fixture
def standardised(bicubic_matrix):
    """`standardised(images, side, mean, deviation)` in float64: what the networks are to see."""

    def make(images, side, mean, deviation):
        rows, columns = (
            bicubic_matrix(length, side, length / side, antialias=True)
            for length in images.shape[2:]
        )
        pixels = rows @ (images.numpy() / 255) @ columns.T
        assert pixels.max() > 1.01, "these images do not show that nothing is cut"
        mean, deviation = (np.array(v)[:, None, None] for v in (mean, deviation))
        return torch.from_numpy((pixels - mean) / deviation).float()

    return make


def test_dinov2_is_the_hubs(dinov2, coloured, standardised, bicubic_matrix):
    """Against the parts put together by hand: pixels, patches, positions, norm, class token."""
    images = coloured(2, 60, 300)
    pixels = standardised(images, 224, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    table = dinov2.embeddings.position_embeddings.detach().clone()[0]
    matrix = torch.from_numpy(bicubic_matrix(5, 16, 5 / 16.1, antialias=False)).float()
    grid = torch.einsum("ai, bj, ijd -> abd", matrix, matrix, table[1:].unflatten(0, (5, 5)))
    positions = torch.cat([table[:1], grid.flatten(0, 1)])
    with torch.inference_mode():
        patches = dinov2.embeddings.patch_embeddings(pixels)
        tokens = torch.cat([dinov2.embeddings.cls_token.expand(2, 1, -1), patches], dim=1)
        hidden = dinov2.encoder(tokens + positions).last_hidden_state[:, 0]
    norm = dinov2.layernorm
    hidden = (hidden - hidden.mean(1, keepdim=True)) / hidden.std(1, correction=0, keepdim=True)
    expected = hidden * norm.weight + norm.bias

    extractor = Dinov2Features("dinov2-tiny", dinov2, "ab")
    assert extractor.dims == {"cls": 12}
    torch.testing.assert_close(extractor(images)["cls"], expected.detach(), rtol=1e-4, atol=1e-4)


def test_positions_differ_from_those_of_transformers(vits14):
    model = transformers.Dinov2Model.from_pretrained(vits14)
    own = model.embeddings.interpolate_pos_encoding(torch.zeros(1, 257, 384), 224, 224)
    hub = hub_positions(model.embeddings.position_embeddings, 14)
    assert hub.shape == own.shape == (1, 257, 384)
    assert torch.equal(hub[:, 0], own[:, 0])
    assert (hub - own).norm() / own.norm() > 0.01


def test_a_table_of_the_right_size_is_left_alone():
    table = torch.rand(1, 257, 3)
    assert torch.equal(hub_positions(table, 14), table)


def test_clip_is_a_unit_projection(clip, coloured, standardised):
    images = coloured(2, 20, 16)
    mean, deviation = image_utils.OPENAI_CLIP_MEAN, image_utils.OPENAI_CLIP_STD
    with torch.inference_mode():
        raw = clip(pixel_values=standardised(images, 28, mean, deviation)).image_embeds
    extractor = ClipFeatures("clip-tiny", clip, "ab")
    embedding = extractor(images)["embedding"]
    assert extractor.dims == {"embedding": 6}
    torch.testing.assert_close(embedding, raw / raw.square().sum(1, keepdim=True).sqrt())
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


def test_named_spaces_open_from_a_folder(vits14, coloured):
    state = torch.get_rng_state()
    extractor = open_extractor("dinov2-vits14", vits14)
    assert torch.equal(torch.get_rng_state(), state)
    weights = (vits14 / "model.safetensors").read_bytes()
    assert extractor.weights_sha256 == hashlib.sha256(weights).hexdigest()
    assert extractor.name == "dinov2-vits14" and extractor.dims == {"cls": 384}
    assert extractor(coloured(1, 9, 9))["cls"].shape == (1, 384)


@contextmanager
def listening(name, handler):
    """A logger that does not pass on what it is told, heard by `handler`."""
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


def test_clip_opens_from_a_whole_clip(tmp_path, coloured, caplog):
    vision = {**CLIP_L, "image_size": 336, "projection_dim": 768}
    text = {**TINY, "intermediate_size": 8, "vocab_size": 10, "projection_dim": 768}
    model = random_model(
        "CLIPModel", "CLIPConfig", vision_config=vision, text_config=text, projection_dim=768
    )
    model.save_pretrained(tmp_path)
    with listening("transformers", caplog.handler):
        extractor = open_extractor("clip-vitl14-336", str(tmp_path))
    state = extractor.network.state_dict()
    assert torch.equal(state["visual_projection.weight"], model.visual_projection.weight)
    assert extractor(coloured(1, 9, 9))["embedding"].shape == (1, 768)
    assert "UNEXPECTED" not in caplog.text, "reports the text tower as left over"


def test_the_older_format_is_read_without_running_code(vits14, tmp_path):
    torch.save(load_file(vits14 / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_bytes((vits14 / "config.json").read_bytes())
    network, digest = load_transformer("Dinov2Model", tmp_path)
    weights = (tmp_path / "pytorch_model.bin").read_bytes()
    assert digest == hashlib.sha256(weights).hexdigest()
    expected = load_transformer("Dinov2Model", vits14)[0].state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, expected[name])


def test_other_models_are_refused(vits14, dinov2, tmp_path):
    with pytest.raises(UsageError, match="its hidden_size is 384, not 1024"):
        open_extractor("dinov2-vitl14", vits14)
    with pytest.raises(UsageError, match="is a dinov2, not a clip or clip_vision_model"):
        open_extractor("clip-vitl14-336", vits14)
    random_model("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", **SMALL).save_pretrained(
        tmp_path
    )
    with pytest.raises(UsageError, match="is a dinov2_with_registers, not a dinov2"):
        open_extractor("dinov2-vits14", tmp_path)


def test_damaged_and_missing_models_are_named(vits14, tmp_path):
    config, weights = (vits14 / name for name in ("config.json", "model.safetensors"))
    with pytest.raises(InputError, match=r"holds no config.json with a model.safetensors or "):
        open_extractor("dinov2-vits14", tmp_path)
    (tmp_path / "config.json").write_bytes(config.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot read"):
        open_extractor("dinov2-vits14", tmp_path)
    tensors = load_file(weights)
    tensors.pop("layernorm.weight")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"lacks layernorm.weight"):
        open_extractor("dinov2-vits14", tmp_path)
    for text in ("{", json.dumps({})):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match="cannot read"):
            open_extractor("dinov2-vits14", tmp_path)


@pytest.mark.parametrize("weights", [None, "nobody/nothing", "no id/at/all"])
@pytest.mark.parametrize("download", [False, True])
def test_what_is_not_at_hand_is_named(weights, download, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"as a hub id it is not at hand: .*hf download"):
        open_extractor("dinov2-vitb14", weights, download=download)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install transformers"):
        open_extractor("clip-vitl14-336")
