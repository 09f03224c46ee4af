"""Published tokenizers and masked token models -> folders that draw, and what is refused."""

import numpy as np
import pytest
import torch
from diffusers import VQModel
from PIL import Image
from states import changes, official, random_model, small, store

import gensynth
from gensynth import create_model
from gensynth.autoencoders import open_autoencoder
from gensynth.cli import main
from gensynth.convert import SYSTEMS, load_official
from gensynth.convert.checkpoint import convert
from gensynth.convert.reading import read_state
from gensynth.convert.tokens import GUIDANCE, drawn_tokens
from gensynth.errors import InputError, UsageError
from gensynth.models import MODELS

CODES = 32  # of the small models


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """LlamaGen's file of a small tokenizer, and the folder that is made of it."""
    place = tmp_path_factory.mktemp("tokenizer")
    state = official("llamagen", small("llamagen", codebook_size=CODES))
    file = store(place / "vq.pt", {"model": state})
    convert("llamagen", file, place / "vq", "VQ-nano", changes=changes("llamagen"))
    return file, place / "vq"


def published(path, **keywords):
    """A small MaskGIT in a file as Halton-MaskGIT's trainer writes it, and the model."""
    keywords = {"input_size": 4, "codebook_size": CODES, **keywords}
    model = small("maskgit", **keywords)
    state = {f"module._orig_mod.{k}": v for k, v in official("maskgit", model).items()}
    rate = np.float64(1e-4) * (1 + np.cos(0.3))  # a number of numpy's, as the trainer computes it
    settings = {"state": {}, "param_groups": [{"lr": rate, "betas": (0.9, 0.999)}]}
    content = {
        "iter": 5,
        "global_epoch": 1,
        "model_state_dict": state,
        "optimizer_state_dict": settings,
    }
    return store(path, content), model


# Tokenizers


@pytest.mark.parametrize("wrapped", [None, "model", "ema"])
def test_a_tokenizer_keeps_its_tokens(wrapped, tmp_path):
    model = random_model("VQ-nano", codebook_size=48, codebook_dim=4, channels=1)
    state = official("llamagen", model)
    spoilt = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    content = {"model": spoilt, "ema": state} if wrapped == "ema" else state
    content = {"model": state, "steps": 5} if wrapped == "model" else content
    done = convert("llamagen", store(tmp_path / "vq.pt", content), tmp_path / "out")
    assert (done.model, done.part, done.size) == ("VQ-nano", wrapped, None)
    assert done.parameters == sum(p.numel() for p in model.parameters())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    loaded = open_autoencoder(str(tmp_path / "out"), "vq")
    assert (loaded.channels, loaded.codebook_size, loaded.patch) == (1, 48, 4)
    image = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    tokens = model.encode(image)
    assert len(tokens.unique()) > 1
    assert torch.equal(loaded.encode(image), tokens)
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("VQ-")])
def test_names_of_tokenizers_translate_both_ways(name):
    names = SYSTEMS["llamagen"].NAMES
    with torch.device("meta"):
        own = create_model(name, attention=True).state_dict()
    for key in own:
        assert names.official(key) != key or ".conv_in." in key or ".conv_out." in key, key
        assert names.ours(names.official(key)) == key
    assert len({names.official(key) for key in own}) == len(own)


def test_a_tokenizer_by_the_keywords_of_its_constructor():
    sizes = {"widths": [32, 64, 32], "layers": 1, "latent_channels": 8, "codebook_size": CODES}
    model = random_model("VQ-f8", **sizes)
    again = load_official(
        "llamagen",
        official("llamagen", model),
        ch=32,
        encoder_ch_mult=(1, 2, 1),
        num_res_blocks=1,
        z_channels=8,
        codebook_size=CODES,
    )
    image = torch.arange(192, dtype=torch.uint8).view(1, 3, 8, 8)
    assert torch.equal(again.encode(image), model.encode(image))


@pytest.mark.parametrize(
    ("system", "typed", "nearest"),
    [
        ("dico", "hiden_size", "hidden_size"),
        ("dic", "skip_strid", "skip_stride"),
        ("maskgit", "hiden_dim", "hidden_dim"),
        ("llamagen", "z_channel", "z_channels"),
    ],
)
def test_a_misspelt_keyword_is_told_the_nearest(system, typed, nearest):
    message = f"{system} has no keyword '{typed}'. Did you mean '{nearest}'"
    with pytest.raises(TypeError, match=message):
        load_official(system, {}, **{typed: 1})


# Models of tokens


def test_a_known_size_is_found_by_its_shapes(tokenizer, tmp_path):
    model = random_model("MaskGIT-nano", input_size=6, codebook_size=CODES)
    file = store(tmp_path / "m.pth", {"iter": 1, "model_state_dict": official("maskgit", model)})
    done = convert("maskgit", file, tmp_path / "out", vae=str(tokenizer[1]))
    assert (done.system, done.model, done.part) == ("maskgit", "MaskGIT-nano", "model_state_dict")
    assert (done.size, done.parameters) == (24, sum(p.numel() for p in model.parameters()))
    assert "only weights" in done.summary() and "of 16 pixels" in done.summary()
    pipeline = gensynth.load(tmp_path / "out", device="cpu")
    loaded = pipeline.model.state_dict()
    assert all(torch.equal(loaded[k], tensor) for k, tensor in model.state_dict().items())
    settings = pipeline.config
    assert (settings.prediction, settings.size, settings.steps) == ("tokens", 24, 32)
    assert (settings.guidance, settings.guidance_schedule) == (1.5, "constant")
    decoder = pipeline.scheduler
    assert type(decoder).__name__ == "HaltonDecoder"
    assert (decoder.config.warmup_steps, decoder.config.last_temperature) == (1, 1.0)
    assert (len(pipeline.classes), pipeline.classes[207]) == (1000, "golden retriever")


def test_the_whole_chain_to_one_picture(tokenizer, tmp_path, capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main([str(word) for word in arguments])
        assert not done.value.code
        return capsys.readouterr().out

    def config(system):
        return [word for change in changes(system) for word in ("--config", change)]

    file, _ = published(tmp_path / "m.pth")
    vq, out, drawn = tmp_path / "vq", tmp_path / "out", tmp_path / "drawn"
    shown = run(
        *("convert", "--from", "llamagen", "--checkpoint", tokenizer[0], "--out", vq),
        *("--model", "VQ-nano", *config("llamagen")),
    )
    assert "llamagen: VQ-nano, " in shown and f"autoencoder.path={vq}" in shown
    shown = run(
        *("convert", "--from", "maskgit", "--checkpoint", file, "--vae", vq, "--out", out),
        *("--model", "maskgit-nano", *config("maskgit")),
    )
    assert "maskgit: MaskGIT-nano at 16 pixels" in shown
    run("sample", "--model", out, "-n", 1, "--labels", 2, "--steps", 4, "--out", drawn)
    with Image.open(drawn / "000000.png") as picture:
        assert picture.size == (16, 16) and picture.mode == "RGB"
        stored = np.asarray(picture)
    [again] = gensynth.load(out, device="cpu")([2], [0], steps=4)
    assert np.array_equal(np.asarray(again), stored)


def test_a_llamagen_file_is_a_tokenizer_too(tokenizer, tmp_path):
    file, _ = published(tmp_path / "m.pth")
    chosen = {"model": "MaskGIT-nano", "changes": changes("maskgit")}
    store(tmp_path / "nano.pt", official("llamagen", random_model("VQ-nano", codebook_size=CODES)))
    convert("maskgit", file, tmp_path / "out", vae=str(tmp_path / "nano.pt"), **chosen)
    codec = gensynth.load(tmp_path / "out", device="cpu").autoencoder
    expected = random_model("VQ-nano", codebook_size=CODES)
    assert codec.fingerprint() == expected.fingerprint()
    assert torch.equal(codec.decoder.conv_in.weight, expected.decoder.conv_in.weight)


def test_a_tokenizer_of_diffusers(tmp_path):
    file, _ = published(tmp_path / "m.pth")
    with torch.random.fork_rng(devices=[]):
        tokenizer = VQModel(
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            block_out_channels=[4, 8],
            norm_num_groups=2,
            num_vq_embeddings=CODES,
        )
    tokenizer.save_pretrained(tmp_path / "vq")
    chosen = {"model": "MaskGIT-nano", "changes": changes("maskgit")}
    done = convert("maskgit", file, tmp_path / "out", vae=str(tmp_path / "vq"), **chosen)
    assert done.size == 8
    assert len(gensynth.load(tmp_path / "out", device="cpu")([1], [0], steps=2)) == 1


@pytest.mark.parametrize(
    "keywords",
    [{"num_registers": 0}, {"num_registers": 3}, {"proj": 2}, {"input_size": 6}],
    ids=str,
)
def test_keywords_are_read_off_the_shapes(keywords, tokenizer, tmp_path):
    file, model = published(tmp_path / "m.pth", **keywords)
    chosen = {"model": "MaskGIT-nano", "changes": changes("maskgit")}
    convert("maskgit", file, tmp_path / "out", vae=str(tokenizer[1]), **chosen)
    loaded = gensynth.load(tmp_path / "out", device="cpu").model
    for key in ("input_size", "codebook_size", "num_classes", "num_registers", "proj"):
        assert loaded.config[key] == model.config[key], key


def test_guidance_is_that_of_the_published_table():
    """Its README counts the scale from 0: 1.5, 1.0, 0.7 and 0.5 from the smallest size on."""
    assert {name: drawn_tokens(name)[1]["guidance"] for name in GUIDANCE} == {
        "MaskGIT-T": 2.5,
        "MaskGIT-S": 2.0,
        "MaskGIT-B": 1.7,
        "MaskGIT-L": 1.5,
    }
    assert drawn_tokens("MaskGIT-XL")[1]["guidance"] == 1.5


def test_another_size_is_noted(tokenizer, tmp_path):
    file, _ = published(tmp_path / "m.pth")
    chosen = {"model": "MaskGIT-nano", "changes": changes("maskgit")}
    done = convert("maskgit", file, tmp_path / "out", vae=str(tokenizer[1]), size=24, **chosen)
    assert "positions were trained at 16 pixels; it will draw at 24" in done.summary()


# What does not fit


def refused(kind, words, *arguments, **keywords):
    with pytest.raises(kind, match=words) as caught:
        convert(*arguments, **keywords)
    assert "\n" not in str(caught.value)


def test_without_a_tokenizer_it_says_which_to_fetch(tmp_path):
    words = r"LlamaGen/resolve/main/vq_ds16_c2i\.pt.*--from llamagen .*--from maskgit .*--vae"
    refused(UsageError, words, "maskgit", tmp_path / "nowhere.pth", tmp_path / "out")


def test_a_tokenizer_of_other_size_is_refused(tokenizer, tmp_path):
    file, _ = published(tmp_path / "m.pth", codebook_size=CODES + 1)
    chosen = {"model": "MaskGIT-nano", "changes": changes("maskgit")}
    words = f"{CODES + 1} codes.*{CODES} codes"
    refused(
        *(UsageError, words, "maskgit", file, tmp_path / "out"), vae=str(tokenizer[1]), **chosen
    )
    assert not (tmp_path / "out").exists()


def test_a_vae_is_no_tokenizer(tiny_vae_folder, tmp_path):
    file, _ = published(tmp_path / "m.pth")
    chosen = {"model": "MaskGIT-nano", "changes": changes("maskgit")}
    vae = str(tiny_vae_folder)
    refused(UsageError, "AutoencoderKL", "maskgit", file, tmp_path / "out", vae=vae, **chosen)


def test_a_model_file_is_no_tokenizer(tmp_path):
    file, _ = published(tmp_path / "m.pth")
    chosen = {"model": "MaskGIT-nano", "changes": changes("maskgit")}
    words = "m.pth looks like a MaskGIT checkpoint"
    refused(UsageError, words, "maskgit", file, tmp_path / "out", vae=str(file), **chosen)
    words = "there is no checkpoint file"
    missing = str(tmp_path / "vq.pt")
    refused(InputError, words, "maskgit", file, tmp_path / "out", vae=missing, **chosen)


@pytest.mark.parametrize("keywords", [{"vae": "vq"}, {"size": 256}])
def test_a_tokenizer_has_no_vae_and_no_size(keywords, tokenizer, tmp_path):
    words = "has no --vae and no --size"
    refused(UsageError, words, "llamagen", tokenizer[0], tmp_path / "out", **keywords)


def test_a_tokenizer_of_no_known_size_lists_the_differences(tokenizer, tmp_path):
    words = r"no known size has these weights; nearest: VQ-nano: .*missing encoder\.conv_blocks\.2"
    refused(UsageError, words, "llamagen", tokenizer[0], tmp_path / "out")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_learning_rate_of_numpy_is_let_pass(zipped, tmp_path):
    content = {"model_state_dict": {"a": torch.ones(2)}, "lr": np.float64(0.5)}
    torch.save(content, tmp_path / "m.pth", _use_new_zipfile_serialization=zipped)
    assert read_state(tmp_path / "m.pth").part == "model_state_dict"
