"""A frozen text encoder reads each text by itself, and each of the newest once."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_clip import save_clip
from transformers import CLIPTextModel

from gensynth.conditions import text_encoder
from gensynth.conditions.text_encoder import FrozenTextEncoder
from gensynth.data.encoded.texts import EncodedTexts, write_texts
from gensynth.errors import CorruptError, InputError

CPU = torch.device("cpu")
TEXTS = ["a", "red apple, fluent", "", "cat face", "a", "two words and some more than fit into it"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP of odd sizes, whose last bits depend on how many texts it reads together."""
    folder = tmp_path_factory.mktemp("clip")
    sizes = {"hidden_size": 24, "intermediate_size": 37, "num_hidden_layers": 2}
    save_clip(folder, TEXTS, **sizes, max_position_embeddings=13)
    return str(folder)


@pytest.fixture
def counted(folder, monkeypatch):
    """An encoder, and the list of the texts that it has read."""
    read = []
    now = FrozenTextEncoder._encoded_now

    def noted(self, text, device):
        read.append(text)
        return now(self, text, device)

    monkeypatch.setattr(FrozenTextEncoder, "_encoded_now", noted)
    return FrozenTextEncoder(folder), read


def test_a_text_does_not_depend_on_the_others(folder):
    together = FrozenTextEncoder(folder).encode(TEXTS, CPU)
    assert together["encoder_hidden_states"].shape == (6, 13, 24)
    alone = [FrozenTextEncoder(folder).encode([text], CPU) for text in TEXTS]
    for name, tensor in together.items():
        assert torch.equal(tensor, torch.cat([told[name] for told in alone]))


def test_a_text_is_read_once(counted):
    encoder, read = counted
    first, second = (encoder.encode(TEXTS, CPU) for _ in range(2))
    assert read == list(dict.fromkeys(TEXTS))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_only_the_newest_texts_are_kept(counted, monkeypatch):
    encoder, read = counted
    size = sum(tensor.nbytes for tensor in encoder.encode(["a"], CPU).values())
    monkeypatch.setattr(text_encoder, "RECENT", 2 * size)
    for text in ("b", "a", "c", "a", "b"):  # "b" goes when "c" comes, since "a" was asked for
        encoder.encode([text], CPU)
    assert read == ["a", "b", "c", "b"]


def test_what_was_encoded_before_is_taken_and_the_rest_is_read(counted):
    encoder, read = counted
    known = FrozenTextEncoder(encoder.place).encode(["known"], CPU)
    read.clear()

    class Before:
        def get(self, text):
            return known if text == "known" else None

    encoder.encoded = Before()
    found = encoder.encode(["new", "known"], CPU)
    assert read == ["new"]
    assert torch.equal(found["pooled_projections"][1:], known["pooled_projections"])


def test_the_print_of_an_encoder_makes_no_network_and_ignores_shards(folder, tmp_path, monkeypatch):
    before = FrozenTextEncoder(folder).fingerprint()
    monkeypatch.setattr(FrozenTextEncoder, "model", property(lambda self: pytest.fail("loaded")))
    assert FrozenTextEncoder(folder).fingerprint() == before
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    CLIPTextModel.from_pretrained(folder).save_pretrained(tmp_path, max_shard_size="9KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert FrozenTextEncoder(str(tmp_path)).fingerprint() == before


def test_the_print_is_of_weights_and_words(folder, tmp_path):
    before = FrozenTextEncoder(folder).fingerprint()
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights, words = tmp_path / "model.safetensors", tmp_path / "tokenizer.json"
    tensors = load_file(weights)
    last = max(tensors)
    kept = tensors[last].clone()
    tensors[last].view(-1)[-1] += 1e-6
    save_file(tensors, weights, {"format": "pt"})
    assert FrozenTextEncoder(str(tmp_path)).fingerprint() != before
    save_file({**tensors, last: kept}, weights, {"format": "pt"})
    assert FrozenTextEncoder(str(tmp_path)).fingerprint() == before
    content = json.loads(words.read_text())
    content["post_processor"] = None  # the same vocabulary, other tokens of a text
    words.write_text(json.dumps(content))
    assert FrozenTextEncoder(str(tmp_path)).fingerprint() != before
    words.unlink()
    with pytest.raises(InputError, match=r"there is no tokenizer\.json"):
        FrozenTextEncoder(str(tmp_path)).fingerprint()
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(CorruptError, match="are damaged"):
        FrozenTextEncoder(str(tmp_path)).fingerprint()


@pytest.fixture
def without_marks(folder, tmp_path):
    """An encoder whose tokenizer marks neither beginning nor end, as Qwen's."""
    shutil.copytree(folder, tmp_path / "plain")
    words = tmp_path / "plain" / "tokenizer.json"
    content = json.loads(words.read_text()) | {"post_processor": None}
    words.write_text(json.dumps(content))
    return str(tmp_path / "plain")


def test_a_text_without_tokens_has_one_word(without_marks, tmp_path):
    encoder = FrozenTextEncoder(without_marks)
    assert encoder.tokenizer("")["input_ids"] == []
    told = encoder.encode(["", "\u200b", "cat face"], CPU)
    mask = told["encoder_attention_mask"]
    assert mask[0].tolist() == [True] + 12 * [False] and mask[2].sum() > 1
    assert all(tensor.isfinite().all() for tensor in told.values())
    (tmp_path / "out").mkdir()
    write_texts(tmp_path / "out", ["", "cat face"], encoder, CPU)
    found = EncodedTexts(tmp_path / "out", encoder).get("")
    assert torch.equal(found["encoder_attention_mask"], mask[:1])
    state = told["encoder_hidden_states"][0, 0]
    assert torch.equal(found["encoder_hidden_states"][0, 0], state)
