"""Codecs that make tokens: ours, and diffusers' VQModel."""

import pytest
import torch
from diffusers import VQModel

from gensynth.autoencoders import VQAutoencoder, VQModelAutoencoder, open_autoencoder
from gensynth.errors import UsageError
from gensynth.models.presets import VQ


def ours(**changes) -> VQAutoencoder:
    keywords = {
        "widths": (8, 8, 8),
        "layers": 1,
        "latent_channels": 8,
        "codebook_size": 32,
        "codebook_dim": 4,
        "attention": False,
        "norm_groups": 2,
    }
    return VQAutoencoder(**{**keywords, **changes})


def of_diffusers(width: int = 8, latent_channels: int = 6, **changes) -> VQModel:
    return VQModel(
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=[width] * 3,
        norm_num_groups=2,
        latent_channels=latent_channels,
        vq_embed_dim=4,
        num_vq_embeddings=32,
        **changes,
    )


def seeded(create, **changes):
    """With codes far enough apart that images get many of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create(**changes).eval()
        codebook = model.quantize if isinstance(model, VQModel) else model.quantizer
        torch.nn.init.normal_(codebook.embedding.weight, std=0.3)
    return model


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, 16, 24), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("create", [ours, of_diffusers])
def test_the_interface_of_an_opened_one(create, photo, tmp_path):
    seeded(create).half().save_pretrained(tmp_path)
    codec = open_autoencoder(str(tmp_path), "vq")
    assert (codec.kind, codec.channels, codec.patch, codec.codebook_size) == ("vq", 3, 4, 32)
    assert all(parameter.dtype == torch.float32 for parameter in codec.parameters())
    assert not any(parameter.requires_grad for parameter in codec.parameters())
    assert not codec.training
    tokens = codec.encode(photo)
    assert tokens.dtype == torch.int64
    assert tokens.shape == (4, *codec.latent_shape(16, 24)) == (4, 4, 6)
    assert len(tokens.unique()) > 3
    decoded = codec.decode(tokens)
    assert (decoded.shape, decoded.dtype) == (photo.shape, torch.uint8)
    assert decoded.float().std() > 1
    assert not torch.equal(codec.decode((tokens + 1) % 32), decoded)
    codec.save_pretrained(tmp_path / "again")
    again = open_autoencoder(str(tmp_path / "again"), "vq")
    assert type(again) is type(codec)
    assert torch.equal(again.encode(photo), tokens)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_type": "spatial", "width": 32, "latent_channels": 4},
        {"lookup_from_codebook": True},
        {"scaling_factor": 0.5},
    ],
)
@torch.no_grad()
def test_it_is_the_vqmodel_of_diffusers(changes, photo, tmp_path):
    theirs = seeded(of_diffusers, **changes)
    theirs.save_pretrained(tmp_path)
    codec = open_autoencoder(str(tmp_path), "vq")
    assert type(codec) is VQModelAutoencoder
    features = theirs.encode(photo / 127.5 - 1).latents
    codes, _, (_, _, expected) = theirs.quantize(features)
    tokens = codec.encode(photo)
    assert torch.equal(tokens.flatten(), expected)
    assert len(tokens.unique()) > 3
    # Each token stands where its code was.
    looked_up = theirs.quantize.embedding(tokens).permute(0, 3, 1, 2)
    torch.testing.assert_close(looked_up, codes)
    pixels = theirs.decode(features).sample
    levels = (127.5 * pixels + 128).clamp(0, 255).to(torch.uint8)
    assert (codec.decode(tokens).int() - levels.int()).abs().max() <= 1  # rounding
    if changes.get("lookup_from_codebook"):
        shape = (*tokens.shape, 4)
        pixels = theirs.decode(tokens, force_not_quantize=True, shape=shape).sample
        levels = (127.5 * pixels + 128).clamp(0, 255).to(torch.uint8)
        assert (codec.decode(tokens).int() - levels.int()).abs().max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_ours_decodes_the_nearest_codes(channels, photo):
    codec, images = seeded(ours, channels=channels), photo[:, :channels]
    pixels, quantized = codec(images / 127.5 - 1)
    tokens = codec.encode(images)
    assert codec.channels == channels
    assert torch.equal(tokens, quantized.indices)
    levels = (127.5 * pixels + 128).clamp(0, 255).to(torch.uint8)
    assert (codec.decode(tokens).int() - levels.int()).abs().max() <= 1  # rounding


@pytest.mark.parametrize(
    "create", [ours, lambda: VQModelAutoencoder.from_config(of_diffusers().config)]
)
@pytest.mark.parametrize("wrong", [-1, 32, 1000])
def test_tokens_of_another_codebook_are_refused(create, wrong):
    codec = create().eval()
    tokens = torch.zeros(2, 2, 2, dtype=torch.long)
    assert codec.decode(tokens).shape == (2, 3, 8, 8)
    assert codec.decode(tokens + 31).shape == (2, 3, 8, 8)
    tokens[1, 0, 1] = wrong
    with pytest.raises(UsageError, match=rf"from 0 to 31, got .*{wrong}") as caught:
        codec.decode(tokens)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "create", [ours, lambda: VQModelAutoencoder.from_config(of_diffusers().config)]
)
def test_the_fingerprint_of_the_encoder_is_of_what_makes_tokens(create):
    codec = create()
    seen = [codec.encoder_fingerprint()]
    into = codec.before if hasattr(codec, "before") else codec.quant_conv
    codebook = codec.quantizer if hasattr(codec, "quantizer") else codec.quantize
    for weight in (codec.encoder.conv_in.weight, into.bias, codebook.embedding.weight):
        with torch.no_grad():
            weight.flatten()[0] += 1e-3
        seen.append(codec.encoder_fingerprint())
    assert len(set(seen)) == 4
    with torch.no_grad():
        codec.decoder.conv_in.weight += 1  # other pictures of the same tokens
    assert codec.encoder_fingerprint() == seen[-1]


@pytest.mark.parametrize("create", [ours, of_diffusers])
def test_the_fingerprint_is_that_of_the_codebook(create, tmp_path):
    seeded(create).save_pretrained(tmp_path / "whole")
    codec = open_autoencoder(str(tmp_path / "whole"), "vq")
    fingerprint = codec.fingerprint()
    assert len(fingerprint) == 16 and int(fingerprint, 16) >= 0
    assert codec.fingerprint() == fingerprint
    codebook = codec.quantizer if create is ours else codec.quantize
    with torch.no_grad():
        codec.encoder.conv_in.weight.add_(1)
        assert codec.fingerprint() == fingerprint
        codebook.embedding.weight[3, 1] += 1e-3
        assert codec.fingerprint() != fingerprint
        codebook.embedding.weight[3:5] = codebook.embedding.weight[3:5].flip(0)
        swapped = codec.fingerprint()
    half = codec.half()
    of_half = half.fingerprint()
    assert of_half not in (fingerprint, swapped)  # other values
    half.save_pretrained(tmp_path / "half")
    opened = open_autoencoder(str(tmp_path / "half"), "vq")
    assert opened.dtype == torch.float32
    assert opened.fingerprint() == of_half


@pytest.mark.parametrize(
    ("name", "patch", "codebook"),
    [("VQ-f16", 16, (16384, 8)), ("VQ-f8", 8, (16384, 8)), ("VQ-nano", 4, (512, 8))],
)
def test_presets(name, patch, codebook):
    with torch.device("meta"):
        model = VQAutoencoder(**VQ[name])
        default = VQAutoencoder()
    assert (model.patch, model.size_multiple, model.works_on) == (patch, patch, "pixels")
    assert model.quantizer.embedding.weight.shape == codebook
    assert model.codebook_size == codebook[0]
    same = {n: t.shape for n, t in model.state_dict().items()} == {
        n: t.shape for n, t in default.state_dict().items()
    }
    assert same == (name == "VQ-f16")
