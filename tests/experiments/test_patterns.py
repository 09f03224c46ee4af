"""Patterns of names of weights."""

import pytest

from gensynth.errors import UsageError
from gensynth.experiments.beginning.patterns import chosen

NAMES = [
    "patch_embed.proj.weight",
    "patch_embed.proj.bias",
    *(f"blocks.{n}.{part}.weight" for n in range(12) for part in ("mlp_in", "mixer.qkv")),
    "mask_token",
]


@pytest.mark.parametrize(
    ("pattern", "count", "one"),
    [
        ("patch_embed", 2, "patch_embed.proj.bias"),
        ("patch_embed.proj.bias", 1, "patch_embed.proj.bias"),
        ("mask_token", 1, "mask_token"),
        ("blocks.1", 2, "blocks.1.mlp_in.weight"),  # and neither 10 nor 11
        ("blocks.0-5", 12, "blocks.5.mixer.qkv.weight"),
        ("blocks.9-99.mlp_in", 3, "blocks.11.mlp_in.weight"),
        ("*.mlp*", 12, "blocks.7.mlp_in.weight"),
        ("blocks.[02].mixer", 2, "blocks.2.mixer.qkv.weight"),
        ("*", len(NAMES), "mask_token"),
    ],
)
def test_what_a_pattern_means(pattern, count, one):
    found = chosen([pattern], NAMES, "training.freeze")
    assert len(found) == count and one in found
    assert found == [name for name in NAMES if name in found]  # in the model's order


def test_several_patterns_are_added_up():
    assert len(chosen(["mask_token", "*token", "patch_embed"], NAMES, "x")) == 3
    assert chosen([], NAMES, "x") == []


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("patch_embd", "patch_embed"),
        ("blocks.0.mlp", "blocks.0.mlp_in"),
        ("Mask_token", "mask_tok"),
    ],
)
def test_a_pattern_without_meaning_is_refused_and_the_advice_works(pattern, near):
    with pytest.raises(UsageError, match=r"training\.freeze: nothing in this model") as error:
        chosen(["blocks", pattern], NAMES, "training.freeze")
    suggested = str(error.value).split("Did you mean '")[1].split("'")[0]
    assert suggested.startswith(near)
    assert chosen([suggested], NAMES, "training.freeze")


@pytest.mark.parametrize("pattern", ["", "blocks.5-0", "blocks.40-50", "."])
def test_empty_and_impossible_patterns(pattern):
    with pytest.raises(UsageError, match="Its parts: patch_embed, blocks, mask_token"):
        chosen([pattern], NAMES, "training.freeze")
