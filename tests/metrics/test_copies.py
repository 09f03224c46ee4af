import pytest
import torch

from gensynth.errors import UsageError
from gensynth.metrics import copied

TRAINING = torch.tensor([[0.0, 0], [12, 0], [0, 40]])


def test_a_third_of_the_second_distance_is_the_limit():
    samples = torch.tensor([[2.9, 0], [3.1, 0], [12, 0], [6, 0], [0, 31]])
    # 2.9 of 9.1, 3.1 of 8.9; the fourth lies between two; the last is 9 and 31 away
    assert copied(TRAINING, samples).tolist() == [True, False, True, False, True]


def test_the_scale_does_not_matter():
    samples = torch.tensor([[2.9, 0], [3.1, 0]])
    assert copied(TRAINING * 1000, samples * 1000).tolist() == [True, False]


def test_new_pictures_of_the_same_kind_are_none_and_copies_are_found():
    generator = torch.Generator().manual_seed(0)
    training, new = torch.randn(2, 300, 64, generator=generator)
    assert not copied(training, new).any()
    assert copied(training, training[:50] + 0.1 * new[:50]).all()


def test_what_is_there_twice_hides_its_copies():
    assert copied(TRAINING[[0, 0, 1]], torch.zeros(1, 2)).tolist() == [False]


def test_one_training_picture_is_too_few():
    with pytest.raises(UsageError, match="at least 2 training pictures"):
        copied(TRAINING[:1], TRAINING)
