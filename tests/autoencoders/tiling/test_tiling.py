"""Tiles give what the whole picture gives."""

import gc
import weakref

import pytest
import torch
from safetensors.torch import save_file
from tiny_codecs import (
    EVERY,
    convolutional_dc,
    dc,
    kl,
    latents_for,
    made,
    picture_for,
    plain_tiny,
    taesd,
    tiny,
    vqmodel,
)

from gensynth.autoencoders import AUTOENCODERS, VQModelAutoencoder
from gensynth.autoencoders.tiling import (
    StoredLatents,
    Tiles,
    decode_bands,
    decode_tiled,
    default_tiles,
    encode_tiled,
)
from gensynth.errors import CorruptError, UsageError

every = pytest.mark.parametrize("create", EVERY, ids=lambda create: create.__name__)


def difference(one: torch.Tensor, other: torch.Tensor) -> int:
    assert one.shape == other.shape and one.dtype == other.dtype
    return int((one.int() - other.int()).abs().max())


def test_every_codec_is_here():
    assert {type(made(create)) for create in EVERY} == set(AUTOENCODERS.values())


@every
def test_a_tiled_picture_is_the_whole_one(create):
    codec = made(create, seed=1)
    tiles = Tiles(5, default_tiles(codec).overlap)
    latents = latents_for(codec, 13, 11, batch=2)
    whole = codec.decode(latents)
    assert whole.float().std() > 1  # else nothing would be compared
    assert difference(decode_tiled(codec, latents, tiles), whole) <= 1  # rounding


@every
def test_tiled_latents_are_the_whole_ones(create):
    codec = made(create)
    tiles = Tiles(4, default_tiles(codec).overlap)
    picture = picture_for(codec, 9, 14, batch=2)
    whole, tiled = codec.encode(picture), encode_tiled(codec, picture, tiles)
    torch.testing.assert_close(tiled, whole, rtol=1e-4, atol=1e-5)
    assert tiled.stride() == whole.stride()
    assert len(whole.unique()) > 4


@pytest.mark.parametrize("create", [tiny, taesd, kl, dc])
def test_with_less_overlap_there_are_seams(create):
    codec = made(create, seed=1)
    latents = 3 * latents_for(codec, 14, 14)
    whole = codec.decode(latents)
    assert difference(decode_tiled(codec, latents, Tiles(7, 0)), whole) > 1


def test_numbers_of_the_whole_picture_are_not_those_of_a_tile():
    """Norms and attention of a picture that is dark on one side and bright on the other."""
    for create in (tiny, kl, dc):
        codec = made(create)
        latents = latents_for(codec, 6, 20)
        latents[..., 10:] += 4
        whole = codec.decode(latents)
        tiles = Tiles(5, default_tiles(codec).overlap)
        assert difference(decode_tiled(codec, latents, tiles), whole) <= 1
        assert difference(codec.decode(latents[..., :10]), whole[..., : 10 * codec.patch]) > 1


@pytest.mark.parametrize("tiles", [Tiles(1, 20), Tiles(3, 40), Tiles(100, 0)])
@pytest.mark.parametrize("size", [(1, 1), (2, 7)])
def test_pictures_smaller_than_tiles_and_tiles_of_one(tiles, size):
    codec = made(tiny)
    latents = latents_for(codec, *size)
    assert difference(decode_tiled(codec, latents, tiles), codec.decode(latents)) <= 1


def test_a_codec_in_half_precision_is_decoded_in_it():
    codec = made(kl).bfloat16()
    latents = latents_for(codec, 9, 7)
    tiles = Tiles(4, default_tiles(codec).overlap)
    far = decode_tiled(codec, latents, tiles).int() - codec.decode(latents).int()
    assert far.abs().float().mean() < 1  # each of 30 norms rounds to 8 bits
    torch.testing.assert_close(
        encode_tiled(codec, codec.decode(latents), tiles),
        codec.encode(codec.decode(latents)),
        rtol=0.1,
        atol=0.1,
    )


def test_the_codec_itself_stays_as_it_is():
    codec = made(tiny)
    latents = latents_for(codec, 8, 8)
    before, names = codec.decode(latents), [type(layer) for layer in codec.modules()]
    decode_tiled(codec, latents, Tiles(4, 2))
    assert torch.equal(codec.decode(latents), before)
    assert [type(layer) for layer in codec.modules()] == names


def test_bands_come_from_top_to_bottom_and_one_is_kept():
    codec = made(tiny)
    latents = latents_for(codec, 11, 3)
    tiles = Tiles(4, 19)
    earlier, rows = [], []
    for band in decode_bands(codec, latents, tiles):
        gc.collect()
        assert all(kept() is None for kept in earlier)
        rows.append(band.shape[-2])
        earlier.append(weakref.ref(band))
        del band
    assert rows == [32, 32, 24]


@pytest.mark.parametrize("create", [tiny, kl, dc, plain_tiny])
def test_a_picture_that_comes_in_bands_is_encoded(create):
    codec = made(create)
    picture = picture_for(codec, 9, 5)
    tiles = Tiles(3, default_tiles(codec).overlap)
    bands = iter(picture.split(7, dim=-2))  # no multiple of anything
    assert torch.equal(encode_tiled(codec, bands, tiles), encode_tiled(codec, picture, tiles))


def test_latents_may_stay_in_a_file(tmp_path):
    codec = made(convolutional_dc)
    latents = latents_for(codec, 9, 7)
    save_file({"latents": latents}, tmp_path / "a.safetensors")
    stored = StoredLatents(tmp_path / "a.safetensors")
    tiles = Tiles(4, default_tiles(codec).overlap)
    assert torch.equal(decode_tiled(codec, stored, tiles), decode_tiled(codec, latents, tiles))
    with pytest.raises(CorruptError, match="draw the picture again"):
        StoredLatents(tmp_path / "a.safetensors", "tokens")
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(CorruptError, match="draw the picture again"):
        StoredLatents(tmp_path / "a.safetensors")


def test_a_layer_that_is_not_known_is_refused_by_name():
    def spatial() -> VQModelAutoencoder:
        return VQModelAutoencoder(
            norm_type="spatial", block_out_channels=(32,), latent_channels=4, vq_embed_dim=4
        )

    codec = made(spatial)
    with pytest.raises(
        UsageError, match=r"a ResnetBlockCondNorm2D looks is not known.*own encode and decode"
    ):
        default_tiles(codec)
    assert codec.decode(latents_for(codec, 4, 4)).shape == (1, 3, 4, 4)  # what it advises


@pytest.mark.parametrize(("side", "overlap"), [(0, 1), (4, -1)])
def test_tiles_of_nothing_are_refused(side, overlap):
    with pytest.raises(UsageError, match="at least 1 and an overlap of at least 0"):
        Tiles(side, overlap)


def test_a_picture_of_other_sides_is_refused_with_what_fits():
    codec = made(tiny)
    picture = picture_for(codec, 3, 3)[..., :17, :23]
    with pytest.raises(UsageError, match=r"17x23 .* multiples of 8; crop it to 16x16"):
        encode_tiled(codec, picture, Tiles(2, 2))
    assert encode_tiled(codec, picture[..., :16, :16], Tiles(2, 2)).shape == (1, 4, 2, 2)


def test_a_token_that_the_codebook_does_not_have_is_refused():
    codec = made(vqmodel)
    tokens = latents_for(codec, 4, 4)
    tokens[0, 3, 3] = 64
    with pytest.raises(UsageError, match="64"):
        decode_tiled(codec, tokens, Tiles(2, 2))
