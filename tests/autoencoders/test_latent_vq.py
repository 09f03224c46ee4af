"""A tokenizer of a frozen codec's latents, which is whole in its own folder."""

import json
from pathlib import Path

import pytest
import torch

from gensynth.autoencoders import TinyAutoencoder, open_autoencoder
from gensynth.autoencoders.latent_vq import LatentVQ
from gensynth.errors import CorruptError, UsageError
from gensynth.models import MODELS, create_model
from gensynth.pipelines.loading import load
from gensynth.pipelines.tokenizer import TokenizerPipeline

SIZES = {"latent_channels": 8, "codebook_size": 32, "codebook_dim": 4, "norm_groups": 2}


def made(widths=(8,), latent_channels: int = 4) -> LatentVQ:
    """With codes far enough apart that images get many of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LatentVQ(channels=latent_channels, widths=widths, **SIZES)
        torch.nn.init.normal_(model.quantizer.embedding.weight, std=0.3)
        codec = TinyAutoencoder(latent_channels, normed=False)
        for layer in (*codec.modules(), *model.encoder.modules()):
            if isinstance(layer, torch.nn.Conv2d):  # so that places of an image differ
                torch.nn.init.normal_(layer.weight, std=1.5 / layer.weight[0].numel() ** 0.5)
                if layer.bias is not None:
                    torch.nn.init.zeros_(layer.bias)
        model.hold(codec)
    return model.eval()


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """Squares of 8x8 pixels."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(0, 256, (2, 3, 4, 8), generator=generator, dtype=torch.uint8)
    return colours.repeat_interleave(8, 2).repeat_interleave(8, 3)


@pytest.fixture
def folder(tmp_path) -> Path:
    made().save_pretrained(tmp_path / "codec")
    return tmp_path / "codec"


def edit(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(("widths", "patch"), [((8,), 8), ((8, 8), 16)])
def test_an_opened_one_needs_nothing_else(widths, patch, photo, tmp_path):
    model = made(widths)
    model.save_pretrained(tmp_path)
    codec = open_autoencoder(str(tmp_path), "vq")
    assert isinstance(codec, LatentVQ)
    facts = (codec.kind, codec.channels, codec.patch, codec.codebook_size)
    assert facts == ("vq", 3, patch, 32)
    tokens = codec.encode(photo)
    assert (tokens.dtype, tokens.shape) == (torch.int64, (2, 32 // patch, 64 // patch))
    assert tuple(tokens.shape[1:]) == codec.latent_shape(32, 64)
    assert torch.equal(tokens, model.encode(photo))
    pictures = codec.decode(tokens)
    assert (pictures.dtype, pictures.shape) == (torch.uint8, photo.shape)
    assert torch.equal(pictures, model.decode(tokens))
    assert codec.fingerprint() == model.fingerprint()
    assert codec.encoder_fingerprint() == model.encoder_fingerprint()
    assert not any(parameter.requires_grad for parameter in codec.parameters())


def test_the_fingerprint_of_the_encoder_is_of_the_held_codec_too():
    model, other = made(), made()
    weight = next(layer for layer in other.codec.modules() if hasattr(layer, "kernel_size")).weight
    with torch.no_grad():
        weight.mul_(1.01)
    assert model.encoder_fingerprint() == made().encoder_fingerprint()
    assert other.fingerprint() == model.fingerprint()
    assert other.encoder_fingerprint() != model.encoder_fingerprint()


def test_tokens_are_those_of_the_latents(photo):
    model = made()
    latents = model.codec.encode(photo)
    again, quantized = model(latents)
    assert torch.equal(model.encode(photo), quantized.indices)
    assert len(quantized.indices.unique()) > 3
    assert torch.equal(model.decode(quantized.indices), model.codec.decode(again))
    with pytest.raises(UsageError, match="from 0 to 31, got 32"):
        model.decode(torch.full((1, 2, 2), 32))


def test_training_moves_all_but_the_codec(photo):
    model = made().train()
    assert not model.codec.training or not list(model.codec.buffers())
    again, quantized = model(model.codec.encode(photo))
    (again.square().mean() + quantized.codebook).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("codec."), name


def test_without_a_codec_there_are_no_pictures(photo):
    model = LatentVQ(channels=4, widths=(8,), **SIZES)
    for call in (lambda: model.encode(photo), lambda: model.decode(torch.zeros(1, 2, 2).long())):
        with pytest.raises(UsageError, match=r"no codec yet; give it one with hold\(\)"):
            call()


def test_another_codec_is_refused():
    with pytest.raises(UsageError, match="of latents of 4 channels, and those of the autoencoder"):
        made().hold(TinyAutoencoder(16, normed=False))


BASE = {"_class_name": "TinyAutoencoder", "latent_channels": 4, "normed": False}


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ({**BASE, "_class_name": "os.system"}, "its base is a os.system, and not one of"),
        ({**BASE, "_class_name": "LatentVQ"}, "its base is a LatentVQ, and not one of"),
        ({**BASE, "_class_name": ["x"]}, "cannot be built from"),
        ({**BASE, "latent_channels": 16}, "those of the autoencoder have 16"),
        ({**BASE, "latent_channels": 10**12}, "cannot be built from"),
        ({**BASE, "latent_channels": "many"}, "cannot be built from"),
        ({**BASE, "normed": True}, "missing .*codec.decoder.*pool"),
        ("TinyAutoencoder", "base cannot be|cannot be built from"),
        (None, "unexpected .*codec"),
    ],
)
@pytest.mark.parametrize("as_pipeline", [False, True])
def test_a_folder_with_another_codec_than_its_weights(base, words, as_pipeline, tmp_path):
    if as_pipeline:
        TokenizerPipeline(made(), size=32).save_pretrained(tmp_path)
        edit(tmp_path / "model", base=base)
        with pytest.raises(CorruptError, match=words):
            load(tmp_path, device="cpu")
    else:
        made().save_pretrained(tmp_path)
        edit(tmp_path, base=base)
        with pytest.raises(CorruptError, match=f"{words}|lacks weights|names no base"):
            open_autoencoder(str(tmp_path), "vq")


def test_half_precision_keeps_the_tokens_codebook(photo, folder, tmp_path):
    model = made()
    model.half().save_pretrained(tmp_path / "half")
    codec = open_autoencoder(str(tmp_path / "half"), "vq")
    assert all(parameter.dtype == torch.float32 for parameter in codec.parameters())
    same = codec.encode(photo) == open_autoencoder(str(folder), "vq").encode(photo)
    assert same.float().mean() > 0.9


def test_a_kl_codec_is_wanted_where_a_tokenizer_is_given(folder):
    with pytest.raises(UsageError, match=r"of class LatentVQ; it needs autoencoder\.kind vq"):
        open_autoencoder(str(folder), "kl")


def test_the_named_size_holds_the_codec_that_comes_along():
    names = [name for name, (kind, _) in MODELS.items() if kind is LatentVQ]
    for name in names:
        model = create_model(name)
        model.hold(open_autoencoder("taef2", "kl"))
        assert (model.patch, model.channels, model.draws) == (8, 3, False)
    assert names == ["LatentVQ-nano"]
