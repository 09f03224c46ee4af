"""Held-out pairs and copies from plain lists of features and captions."""

import pytest
import torch

from gensynth.evaluation.measuring.captions import styles_of, thing_and_style
from gensynth.evaluation.measuring.neighbours import (
    copy_score,
    held_out_pairs,
    held_out_score,
    training_neighbours,
)

LEARNT = [["cat, flat"], ["cat, noto"], ["dog, flat"], ["cat, noto", "cat, old"], ["owl"]]
TRAINING = torch.tensor([[0.0, 0], [10, 0], [0, 50], [10, 9], [7, 7]])


def pairs(samples, prompts, captions, real):
    return held_out_pairs(
        torch.tensor(samples), prompts, torch.tensor(real), captions, TRAINING, LEARNT
    )


def test_a_sample_lies_between_the_truth_and_the_nearest_other_style():
    [found] = pairs([[3.0, 4]], ["cat, blob"], ["dog, noto", "cat, blob"], [[0.0, 51], [3, 16]])
    # (0, 0) is 5 away, (10, 0) 8.1, (10, 9) 8.6; the dog and the owl are other things
    assert (found.position, found.truth, found.other) == (0, 1, 0)
    assert (found.to_truth, found.to_other) == (12, 5)
    assert found.between == pytest.approx(98**0.5)  # from (3, 16) to (10, 9)


def test_what_is_no_held_out_pair_is_left_out():
    captions = ["cat, blob", "cat, flat", "bee, flat", "dog, noto"]
    prompts = ["cat, flat", "bee, flat", "cat, twemoji", "dog, noto"]
    # was learnt, has no other style, is no caption of the reference; the last is one
    found = pairs([[0.0, 0]] * 4, prompts, captions, [[0.0, 0]] * 4)
    assert [pair.position for pair in found] == [3]


def test_no_caption_of_a_training_picture_is_held_out():
    """Also one that is not its first; one more caption is not one more picture."""
    assert pairs([[0.0, 0]], ["cat, old"], ["cat, old"], [[0.0, 0]]) == []
    training = torch.tensor([[9.0, 0], [1, 0]])
    learnt = [["a pet", "bee, flat"], ["bee, noto", "bee, blob"]]
    captions = ["bee, x"]
    [found] = held_out_pairs(
        *(torch.zeros(1, 2), captions), *(torch.ones(1, 2), captions), *(training, learnt)
    )
    assert (found.other, found.to_other) == (1, 1)
    learnt[1] = []
    [found] = held_out_pairs(
        *(torch.zeros(1, 2), captions), *(torch.ones(1, 2), captions), *(training, learnt)
    )
    assert found.other == 0  # by its second caption


def test_the_first_of_equal_captions_is_the_truth():
    [found] = pairs([[0.0, 0]], ["cat, x"], ["cat, x", "cat, x"], [[1.0, 0], [2, 0]])
    assert found.truth == 0


def test_the_share_and_both_means():
    captions = ["cat, x", "dog, x"]
    found = pairs([[1.0, 0], [0, 49]], captions, captions, [[1.0, 0.5], [0, 0]])
    score = held_out_score("h1280", found)
    assert score.key == "held_out_features" and score.value == 0.5
    assert score.details["to_truth"] == pytest.approx((0.5 + 49) / 2)
    assert score.details["to_other_style"] == pytest.approx((1 + 1) / 2)
    assert score.details["truth_to_other_style"] == pytest.approx((1.25**0.5 + 50) / 2)
    assert score.standard_error == pytest.approx((0.25 / 2) ** 0.5)


def test_as_near_to_both_is_not_nearer_to_the_truth():
    found = pairs([[5.0, 0]], ["cat, x"], ["cat, x"], [[5.0, 5]])
    assert held_out_score("rgb32", found).value == 0


def test_the_rate_of_copies_beside_that_of_real_pictures():
    samples = torch.tensor([[0.1, 0], [5, 0]])
    real = torch.tensor([[5.0, 1], [6, 1], [0, 49], [5, 2]])
    score = copy_score(samples, TRAINING, real)
    assert (score.value, score.floor, score.better) == (0.5, 0.25, "lower")
    assert score.standard_error == pytest.approx((0.25 / 2) ** 0.5)
    assert copy_score(samples, TRAINING, None).floor is None


def test_neighbours_come_nearest_first():
    numbers, distances = training_neighbours(torch.tensor([[0.0, 1]]), TRAINING)
    assert numbers.tolist() == [[0, 4, 1]]
    assert distances[0].tolist() == pytest.approx([1, 85**0.5, 101**0.5])


def test_captions_of_things_and_styles():
    assert thing_and_style("red apple, fluent") == ("red apple", "fluent")
    assert thing_and_style("flag: Bosnia, Herzegovina, blob") == (
        "flag: Bosnia, Herzegovina",
        "blob",
    )
    assert thing_and_style("apple") == ("apple", "")
    captions = [f"{thing}, {style}" for thing in "abcdefgh" for style in ("flat", "blob")]
    assert styles_of(captions) == ["blob", "flat"]
    assert styles_of([*captions, "a dog"]) == []  # one without a style
    assert styles_of([f"a dog, {number}" for number in range(50)]) == []  # no styles
    assert styles_of(["a, flat"] * 9) == []  # one alone is no choice
