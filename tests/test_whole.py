import numpy as np
import pytest
import torch

from gensynth.errors import UsageError
from gensynth.whole import listed, whole_number


@pytest.mark.parametrize(
    "value", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor(3).short()]
)
def test_whole_numbers(value):
    assert whole_number(value) == 3 and type(whole_number(value)) is int


@pytest.mark.parametrize(
    "value",
    [
        *(True, np.True_, np.array(True), torch.tensor(True)),
        *(1.7, 1.0, np.float32(1), torch.tensor(1.0), np.array(1.5)),
        *("3", None, [3], (3,), torch.tensor([1, 2]), np.array([1, 2]), object()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_whole_number(value):
    assert whole_number(value) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], [1, 2]),
        (range(2), [0, 1]),
        (np.arange(3), [0, 1, 2]),
        (torch.arange(3), [0, 1, 2]),
        (np.array(["Bag", "Cat"]), ["Bag", "Cat"]),
        ((x for x in "ab"), ["a", "b"]),
        ("Bag", ["Bag"]),  # not its letters
        (7, [7]),
        (np.array(7), [7]),
        (np.array([]), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_lists(values, expected):
    assert listed(values, "labels") == expected


@pytest.mark.parametrize(
    "values", [{1, 2}, {"Bag": 1}, b"Bag", 1.5, None, True, np.zeros((2, 2)), torch.tensor(1.5)]
)
def test_what_is_no_list(values):
    with pytest.raises(UsageError, match="labels are given"):
        listed(values, "labels")
