"""Captions that were encoded once, and what does not fit them."""

import json

import pyarrow.parquet as pq
import pytest
import torch

from gensynth.data.encoded.texts import EncodedTexts, write_texts
from gensynth.errors import CorruptError, GensynthError, InputError, UsageError

CPU = torch.device("cpu")
LENGTH, WIDTH, POOLED = 5, 3, 2
TEXTS = ["", "a cat", "ein H\u00fcndchen", "\u732b \U0001f431", "one two three four five six"]


class Encoder:
    """As many words as a text has, at least one, each with numbers of its own."""

    place, length = "somewhere", LENGTH

    def __init__(self, print_of_it="0123", length=LENGTH):
        self.print_of_it, self.length = print_of_it, length

    def fingerprint(self):
        return self.print_of_it

    def encode(self, texts, device):
        words = torch.tensor([max(1, min(self.length, len(text.split()))) for text in texts])
        size = (len(texts), self.length, WIDTH)
        states = torch.stack(
            [torch.rand(size[1:], generator=torch.Generator().manual_seed(len(t))) for t in texts]
        )
        return {
            "encoder_hidden_states": states - 0.5,
            "encoder_attention_mask": torch.arange(self.length)[None] < words[:, None],
            "pooled_projections": states[:, 0, :POOLED] / 3,
        }


@pytest.fixture
def folder(tmp_path):
    write_texts(tmp_path, TEXTS, Encoder(), CPU, shard_bytes=100)
    return tmp_path


def test_every_text_is_read_as_it_was_written(folder):
    found, encoder = EncodedTexts(folder, Encoder()), Encoder()
    assert len(list(folder.glob("*.parquet"))) > 1
    for text in TEXTS:
        told, expected = found.get(text), encoder.encode([text], CPU)
        mask = expected["encoder_attention_mask"]
        expected["encoder_hidden_states"] *= mask[..., None]  # padding is not kept
        assert told.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(told[name], tensor) and told[name].dtype == tensor.dtype
    assert found.get("a dog") is None


def test_the_record(folder):
    record = json.loads((folder / "texts.json").read_text())
    assert record.pop("gensynth")
    assert record == {
        "schema": 1,
        "encoder": "somewhere",
        "fingerprint": "0123",
        "length": LENGTH,
        "width": WIDTH,
        "pooled_width": POOLED,
        "count": len(TEXTS),
    }


def test_another_encoder_or_length_is_refused(folder):
    with pytest.raises(UsageError, match="its fingerprint is 0123, that of somewhere is 9999"):
        EncodedTexts(folder, Encoder("9999"))
    with pytest.raises(UsageError, match="its length is 5, that of somewhere is 6"):
        EncodedTexts(folder, Encoder(length=6))


def test_numbers_that_are_not_finite_are_not_written(tmp_path):
    class Broken(Encoder):
        def encode(self, texts, device):
            told = super().encode(texts, device)
            told["pooled_projections"][0, 1] = float("nan")
            return told

    with pytest.raises(CorruptError, match="not finite"):
        write_texts(tmp_path, ["a"], Broken(), CPU)
    assert not (tmp_path / "texts.json").exists()


def test_damage_is_named_with_what_to_do(folder):
    record = folder / "texts.json"
    text = record.read_text()
    for content, error, words in (
        ("{", CorruptError, "is damaged. Encode the captions again: gensynth encode --text"),
        (text.replace('"schema": 1', '"schema": 2'), InputError, "not of a version"),
        (text.replace('"count": 5', '"count": 6'), CorruptError, "should have 6 .* but has 5"),
    ):
        record.write_text(content)
        with pytest.raises(error, match=words):
            EncodedTexts(folder, Encoder())
    record.write_text(text.replace('"width": 3', '"width": 4'))
    with pytest.raises(CorruptError, match="a caption of a wrong length"):
        EncodedTexts(folder, Encoder()).get("a cat")
    record.write_text(text)
    last = max(folder.glob("*.parquet"))
    last.write_bytes(last.read_bytes()[:40])
    with pytest.raises(GensynthError, match="cannot read encoded captions at"):
        EncodedTexts(folder, Encoder())
    record.unlink()
    with pytest.raises(InputError, match=r"there is no .*texts\.json; gensynth encode --text"):
        EncodedTexts(folder, Encoder())


def test_rows_of_no_bytes_are_noticed(folder):
    first = min(folder.glob("*.parquet"))
    table = pq.read_table(first)
    hollow = table.set_column(1, "states", [[None] * len(table)])
    pq.write_table(hollow.cast(table.schema), first)
    with pytest.raises(CorruptError, match="wrong length"):
        EncodedTexts(folder, Encoder()).get("")
