"""Parts of different models in one folder are told apart before anything is drawn."""

import json
import shutil

import pytest
import tiny_pipelines

import gensynth
from gensynth.errors import CorruptError


@pytest.fixture
def copied(pretrained_folder, tmp_path):
    return lambda kind: shutil.copytree(pretrained_folder(kind), tmp_path / kind)


def swapped(folder, other, part, theirs=None):
    """The folder with a part of another pipeline."""
    theirs = theirs or part
    shutil.rmtree(folder / part)
    shutil.copytree(other / theirs, folder / part)
    index, of_other = (
        json.loads((one / "model_index.json").read_text()) for one in (folder, other)
    )
    index[part] = of_other[theirs]
    (folder / "model_index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("kind", "part", "other", "theirs", "words"),
    [
        ("sd", "text_encoder", "sdxl", "text_encoder_2", "is a CLIPTextModelWithProjection, and a"),
        ("sd", "text_encoder", "pixart", None, "is a T5EncoderModel, and a StableDiffusionPipeli"),
        ("sd", "tokenizer", "pixart", None, "its tokenizer is a T5Tokenizer, .* with a CLIPToken"),
        ("flux", "tokenizer_2", "sd", "tokenizer", "tokenizer_2 is a CLIPTokenizer, .* T5Tokeni"),
        ("sana", "tokenizer", "pixart", None, "reads with a GemmaTokenizer"),
        (
            "flux",
            "text_encoder_2",
            "sd3",
            "text_encoder_3",
            "joint_attention_dim of 32, and its .* 64",
        ),
        ("sd", "unet", "sdxl", None, "cross_attention_dim of 64, and its text encoders give 32"),
    ],
)
def test_a_part_of_another_model(copied, pretrained_folder, kind, part, other, theirs, words):
    folder = copied(kind)
    swapped(folder, pretrained_folder(other), part, theirs)
    with pytest.raises(CorruptError, match=words):
        gensynth.load(folder)


@pytest.mark.parametrize(
    ("kind", "network", "words"),
    [
        ("sdxl", {"projection_class_embeddings_input_dim": 90}, "input_dim of 90, .* give 80"),
        ("sd3", {"pooled_projection_dim": 32}, "pooled_projection_dim of 32, .* give 64"),
        ("pixart", {"caption_channels": 16}, "caption_channels of 16, .* give 32"),
        ("sana", {"caption_channels": 16}, "caption_channels of 16, .* give 32"),
    ],
)
def test_a_network_for_other_texts(tmp_path, kind, network, words):
    make = getattr(tiny_pipelines, f"tiny_{kind}")
    if kind == "sdxl":
        inner = make()
        other = dict(inner.unet.config) | network
        inner.unet = type(inner.unet).from_config(other)
    else:
        inner = make(**network)
    inner.save_pretrained(tmp_path / kind)
    with pytest.raises(CorruptError, match=words):
        gensynth.load(tmp_path / kind)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_max_length": 100}, "has 100 tokens of a prompt, and its text_encoder knows 77"),
        ({"model_max_length": None}, "tokens of a prompt, and its text_encoder knows 77"),
    ],
)
def test_a_tokenizer_of_longer_prompts(copied, changes, words):
    file = copied("sd") / "tokenizer/tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(CorruptError, match=words):
        gensynth.load(file.parents[1])


def test_a_tokenizer_of_more_words(copied):
    folder = copied("sd")
    file = folder / "tokenizer/tokenizer.json"
    content = json.loads(file.read_text())
    added = {"id": 600, "content": "<new>", "special": False}
    added |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    content["added_tokens"].append(added)
    content["model"]["vocab"]["<new>"] = 600
    file.write_text(json.dumps(content))
    with pytest.raises(CorruptError, match="words, and its text_encoder knows 578"):
        gensynth.load(folder)
