"""Prompts of pretrained pipelines: read alone, and what is cut is told."""

import pytest
import torch

from gensynth.errors import UsageError

LONG = "a red apple on a green table " * 40


@pytest.mark.parametrize(
    ("kind", "cut"),
    [
        ("sd", [(77, "")]),
        ("sdxl", [(77, "")]),
        ("sd3", [(77, " for CLIP (T5 reads further)"), (256, " for T5")]),
        ("flux", [(77, " for CLIP (T5 reads further)"), (512, " for T5")]),
        ("flux-schnell", [(77, " for CLIP (T5 reads further)"), (256, " for T5")]),
        ("pixart-alpha", [(120, "")]),
        ("pixart-sigma", [(300, "")]),
        ("sana", [(300, "")]),
    ],
)
def test_lost_words_are_told(drawing, kind, cut):
    condition = drawing(kind).condition
    notes = condition.notes(["a red apple", LONG.strip(), ""])
    begins = [f"the prompt is cut after {most} tokens{whom}; not read: '" for most, whom in cut]
    assert len(notes) == len(begins)
    assert all(note.startswith(begin) for note, begin in zip(notes, begins, strict=True))
    assert condition.length == cut[-1][0]


@pytest.mark.parametrize("kind", ["sd", "pixart-alpha", "sana"])
def test_what_is_said_to_be_lost_is_not_read_and_the_rest_is(drawing, kind):
    condition = drawing(kind).condition
    [reader] = condition.readers
    text = LONG.strip()
    lost = reader.lost(text)
    kept = text.removesuffix(lost).strip()
    assert lost and text.endswith(lost)
    before = kept.rpartition(" ")[0]
    cut, _, rest = lost.partition(" ")  # of the first lost word a beginning may be read
    others = {"lost": f"{kept} {cut} {rest[::-1]}", "kept": f"{before} apple {lost}"}
    whole, changed = (
        {name: condition.encode([one])["prompt_embeds"] for name, one in texts.items()}
        for texts in (dict.fromkeys(others, text), others)
    )
    assert rest and torch.equal(changed["lost"], whole["lost"])
    assert not torch.allclose(changed["kept"], whole["kept"], atol=1e-4)


@pytest.mark.parametrize("kind", ["sd", "sdxl", "sd3", "flux", "pixart-alpha", "sana"])
def test_a_prompt_is_read_alone_and_once(drawing, kind, monkeypatch):
    condition, read = drawing(kind).condition, []
    now = type(condition)._told

    def noted(self, prompt, **given):
        read.append(prompt)
        return now(self, prompt, **given)

    monkeypatch.setattr(type(condition), "_told", noted)
    four = condition.encode(["a cat", "the sea", "a cat", "a cat"])
    alone = condition.encode(["the sea"])
    assert read == [["a cat"], ["the sea"], ["the sea"]]
    assert set(four) == set(condition.tensors) == set(alone)
    for name, tensor in four.items():
        assert len(tensor) == 4 and torch.equal(tensor[1:2], alone[name])
        assert torch.equal(tensor[0], tensor[3])


def test_without_a_negative_prompt_sdxl_leads_away_from_zeros(drawing):
    condition = drawing("sdxl").condition
    positive = condition.encode(["a cat", "the sea"])
    none, empty = condition.against(None, positive), condition.against("", positive)
    assert set(none) == {"negative_prompt_embeds", "negative_pooled_prompt_embeds"}
    assert not any(tensor.any() for tensor in none.values())
    assert all(len(tensor) == 2 and tensor.any() for tensor in empty.values())


def test_items(drawing):
    condition = drawing("sd").condition
    assert condition.item("  a   cat ") == "a cat" and condition.reads == "texts"
    assert condition.recipe("a cat") == {"prompt": "a cat"}
    assert condition.every()[0] == "a red apple on a wooden table"
    with pytest.raises(UsageError, match="knows no classes"):
        condition.parse("3")
    with pytest.raises(UsageError, match="may have 10,000 characters"):
        condition.item("word " * 3000)
    with pytest.raises(UsageError, match=r"pipe.inner.save_pretrained"):
        condition.save(None)
