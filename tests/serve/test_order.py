"""Limits of an order: every value a stranger can send."""

import math

import pytest

from gensynth.errors import UsageError
from gensynth_serve.queue.order import MAX_SEED, Order, random_seed

GOOD = {"model": "m", "labels": [8], "num": 4, "seed": 7, "steps": 30, "guidance": 2.0}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num", 1),
        ("num", 16),
        ("num", 16.0),
        ("seed", 0),
        ("seed", MAX_SEED - 3),
        ("steps", 1),
        ("steps", 250),
        ("guidance", 0),
        ("guidance", 20),
        ("labels", ["Bag", 3]),
    ],
)
def test_values_within_limits_are_taken(field, value):
    order = Order(**{**GOOD, field: value})
    assert getattr(order, field) == value
    assert [type(order.num), type(order.seed), type(order.steps)] == [int, int, int]


@pytest.mark.parametrize("field", ["num", "seed", "steps", "guidance"])
@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, True, False, "30", "abc", None, -1, 1e999, 10**5000, [4], {}],
    ids=lambda value: type(value).__name__,
)
def test_values_that_are_no_number_or_out_of_range_are_refused(field, value):
    with pytest.raises(UsageError, match=r"must be a .*number from"):
        Order(**{**GOOD, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num", 0),
        ("num", 17),
        ("num", 2.5),
        ("seed", MAX_SEED + 1),
        ("seed", 0.5),
        ("steps", 0),
        ("steps", 251),
        ("steps", 20.7),
        ("guidance", -0.01),
        ("guidance", 20.01),
    ],
)
def test_limits_and_fractions(field, value):
    with pytest.raises(UsageError, match=f"got {value}"):
        Order(**{**GOOD, field: value})


@pytest.mark.parametrize(
    "labels",
    [[], None, "Bag", 8, [True], [2.5], [math.nan], ["x" * 101], [0] * 1001, [[1]]],
)
def test_labels_must_be_numbers_or_names(labels):
    with pytest.raises(UsageError):
        Order(**{**GOOD, "labels": labels})


def test_further_settings_join_steps_and_guidance():
    further = {"guidance_interval": [0.1, 0.7], "scheduler": "UniPCMultistepScheduler"}
    settings = Order(**GOOD, further=further).settings
    assert settings.to_json() == {"steps": 30, "guidance": 2.0, **further}
    assert settings.guidance_interval == (0.1, 0.7)


@pytest.mark.parametrize(
    ("further", "words"),
    [
        ({"scale": 2}, "there is no setting 'scale'. Known: negative, guidance_interval"),
        ({"steps": 10**9}, "there is no setting 'steps'"),  # around its limit
        ({"guidance": 1e9}, "there is no setting 'guidance'"),
        ({"further": {}}, "there is no setting 'further'"),
        ({"strategy_options": {"overlap": 0.999}}, "Allowed here: colours, refine_guidance"),
        ({"strategy_options": {"refine_steps": 1000}}, "from 1 to 50, got 1000"),
        ({"strategy_options": {"refine_steps": "many"}}, "from 1 to 50"),
        ({"strategy_options": [1]}, "names with values"),
        ({"scheduler_options": {"rtol": 1e-30}}, "Allowed here: form, greedy"),
        ({"scheduler_options": {"method": "dopri5", "atol": 0}}, "Allowed here: form, greedy"),
        ({"scheduler_options": [["rtol", 0]]}, "names with values"),
        ([], "names with values"),
        ("steps", "names with values"),
        (None, "names with values"),
    ],
)
def test_further_settings_that_are_refused(further, words):
    with pytest.raises(UsageError, match=words):
        Order(**GOOD, further=further)


def test_the_last_seed_may_not_go_past_the_largest():
    with pytest.raises(UsageError, match=f"seed up to {MAX_SEED - 3}"):
        Order(**{**GOOD, "seed": MAX_SEED - 2})


def test_a_refused_value_is_quoted_in_short():
    with pytest.raises(UsageError) as caught:
        Order(**{**GOOD, "steps": "9" * 1_000_000})
    assert len(str(caught.value)) < 200


def test_a_random_seed_makes_a_valid_order():
    assert Order(**{**GOOD, "num": 16, "seed": random_seed()})


def test_a_model_may_have_more_steps_of_its_own():
    assert Order(**{**GOOD, "steps": 1000}, most_steps=1000).steps == 1000
    with pytest.raises(UsageError, match="from 1 to 1000, got 1001"):
        Order(**{**GOOD, "steps": 1001}, most_steps=1000)


@pytest.mark.parametrize("model", [None, 7, ["m"], {"m": 1}])
def test_a_model_is_named(model):
    with pytest.raises(UsageError, match="the model is a name"):
        Order(**{**GOOD, "model": model})
