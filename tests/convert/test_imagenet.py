"""ImageNet's names come with converted models; REPA's and LlamaGen's published keywords."""

import hashlib
import json

import pytest
import torch
from states import changes, official, random_model, small, store

import gensynth
from gensynth.convert import load_official
from gensynth.convert.checkpoint import convert
from gensynth.convert.families.sit import turned
from gensynth.convert.imagenet import imagenet_classes
from gensynth.errors import UsageError


def test_a_thousand_names_in_the_known_order():
    classes = imagenet_classes(1000)
    assert len(classes.names) == len(set(classes.synsets)) == 1000
    assert classes.synsets == sorted(classes.synsets)  # ILSVRC 2012 counts in this order
    for number, synset, name in [
        (0, "n01440764", "tench, Tinca tinca"),
        (134, "n02012849", "crane"),
        (207, "n02099601", "golden retriever"),
        (517, "n03126707", "crane"),
        (639, "n03710721", "maillot, tank suit"),
        (744, "n04008634", "projectile, missile"),
        (999, "n15075141", "toilet tissue, toilet paper, bathroom tissue"),
    ]:
        assert (classes.synsets[number], classes.names[number]) == (synset, name)
    digest = hashlib.sha256("\n".join(classes.synsets).encode()).hexdigest()
    assert digest.startswith("385e0240499426c0")


def test_the_two_cranes_are_told_apart():
    classes = imagenet_classes(1000)
    with pytest.raises(UsageError) as refused:
        classes.parse("crane")
    assert "index:134 ('crane', n02012849, beside 'bittern' and 'limpkin')" in str(refused.value)
    assert "index:517 ('crane', n03126707, beside " in str(refused.value)
    assert classes.parse("n02012849,index:517") == [134, 517]


def test_converted_models_know_them(tiny_vae_folder, tmp_path):
    file = store(tmp_path / "x.pt", official("dit", random_model("DiT-nano/2")))
    convert("dit", file, tmp_path / "out", vae=str(tiny_vae_folder))
    pipeline = gensynth.load(tmp_path / "out", device="cpu")
    for word in ("tench", "Tinca tinca", "n01440764", "0"):
        assert pipeline.label_id(word) == 0
    assert pipeline.condition.null == 1000
    assert json.loads((tmp_path / "out" / "synsets.json").read_text())[207] == "n02099601"


def test_models_of_other_classes_keep_their_numbers(tiny_vae_folder, tmp_path):
    file = store(tmp_path / "x.pt", official("dit", small("dit")))
    convert(
        *("dit", file, tmp_path / "out", "DiT-nano/2", str(tiny_vae_folder)),
        changes=changes("dit"),
    )
    assert gensynth.load(tmp_path / "out", device="cpu").classes == ["0", "1", "2"]
    assert not (tmp_path / "out" / "synsets.json").exists()


def with_projectors(count=2):
    """REPA's SiT: our own, without variance, under the official names with projectors."""
    model = small("sit", learn_sigma=False, discard_sigma=False, input_size=8)
    projectors = {
        f"projectors.{n}.{layer}.{kind}": torch.ones(3)
        for n in range(count)
        for layer in (0, 2, 4)
        for kind in ("weight", "bias")
    }
    return model, {**official("sit", model), **projectors}


KEYWORDS = {
    "input_size": 8,
    "hidden_size": 16,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 3,
    "decoder_hidden_size": 16,
    "encoder_depth": 1,
    "z_dims": [3, 3],
    "projector_dim": 5,
    "qk_norm": False,
    "fused_attn": True,
    "path_type": "linear",
    "use_cfg": True,
}


def test_repa_loads_with_its_own_keywords_and_computes_its_own_function():
    model, state = with_projectors()
    own = load_official("sit", state, **KEYWORDS)
    assert all(torch.equal(own.state_dict()[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("wrong", [{"qk_norm": True}, {"decoder_hidden_size": 32}])
def test_repa_in_another_shape_is_refused(wrong):
    with pytest.raises(UsageError, match="qk_norm=False and decoder_hidden_size"):
        load_official("sit", with_projectors()[1], **{**KEYWORDS, **wrong})


def test_a_converted_repa_says_data_minus_noise_and_counts_time_from_noise():
    model, _ = with_projectors()
    sample = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    time, labels = torch.tensor([0.0, 0.3, 0.77, 1.0]), torch.tensor([0, 1, 2, 3])
    with torch.inference_mode():
        theirs = model(sample, 1 - time, labels)
        model.load_state_dict(turned(model.state_dict()))
        ours = model(sample, time, labels)
    torch.testing.assert_close(ours, -theirs, rtol=1e-4, atol=1e-5)
    assert ours.abs().mean() > 0.01


def test_repa_is_converted_as_it_is_drawn(tiny_vae_folder, tmp_path):
    model, state = with_projectors(3)
    done = convert(
        *("sit", store(tmp_path / "x.pt", {"ema": state}), tmp_path / "out", "SiT-nano/2"),
        vae=str(tiny_vae_folder),
        changes=changes("sit"),
    )
    assert "a SiT of REPA" in done.summary()
    pipeline = gensynth.load(tmp_path / "out", device="cpu")
    expected = turned(model.state_dict())
    assert all(torch.equal(pipeline.model.state_dict()[k], v) for k, v in expected.items())
    assert (pipeline.config.guidance, pipeline.config.guided_channels) == (1.8, None)
    assert pipeline.config.guidance_interval == {"low": 0.0, "high": 0.7}
    assert len(pipeline([0], [1], steps=2)) == 1


def test_llamagen_takes_the_published_keywords():
    model = random_model(
        "VQ-f16", widths=[32, 32, 64], layers=1, latent_channels=16, codebook_size=32
    )
    published = {
        "codebook_size": 32,
        "codebook_embed_dim": 8,
        "codebook_l2_norm": True,
        "codebook_show_usage": True,
        "commit_loss_beta": 0.25,
        "entropy_loss_ratio": 0.0,
        "encoder_ch_mult": [1, 1, 2],
        "decoder_ch_mult": [1, 1, 2],
        "z_channels": 16,
        "dropout_p": 0.0,
    }
    state = official("llamagen", model)
    own = load_official("llamagen", state, ch=32, num_res_blocks=1, **published)
    assert all(torch.equal(own.state_dict()[k], v) for k, v in model.state_dict().items())
    with pytest.raises(UsageError, match="decoder_ch_mult like encoder_ch_mult only"):
        load_official("llamagen", state, **{**published, "decoder_ch_mult": [1, 2]})
