"""A frozen text encoder reads each text by itself, and each of the newest once."""

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from gensynth.conditions import text_encoder
from gensynth.conditions.text_encoder import FrozenTextEncoder
from gensynth.conditions.tokens import SPECIAL, learn_tokenizer, own_tokenizer

CPU = torch.device("cpu")
TEXTS = ["a", "red apple, fluent", "", "cat face", "a", "two words and some more than fit into it"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP of odd sizes, whose last bits depend on how many texts it reads together."""
    folder = tmp_path_factory.mktemp("clip")
    own_tokenizer(learn_tokenizer(TEXTS, 300)).save_pretrained(folder)
    config = CLIPTextConfig(
        vocab_size=300,
        hidden_size=24,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=13,
        pad_token_id=SPECIAL.index("<pad>"),
        bos_token_id=SPECIAL.index("<begin>"),
        eos_token_id=SPECIAL.index("<end>"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPTextModel(config).save_pretrained(folder)
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


def test_the_print_of_an_encoder_does_not_keep_its_weights(folder):
    encoder = FrozenTextEncoder(folder)
    before = encoder.fingerprint()
    assert encoder._model is None
    encoder.encode(["a"], CPU)
    assert encoder._model is not None and encoder.fingerprint() == before
