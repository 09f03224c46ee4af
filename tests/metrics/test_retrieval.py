import pytest
import torch
from torch.overrides import TorchFunctionMode

from gensynth.errors import UsageError
from gensynth.metrics import clip_scores, own_ranks, recall, retrieval

# Of the unit circle: texts in four directions, pictures near to some of them.
TEXTS = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])


def test_ranks_by_hand():
    pictures = torch.tensor([[3.0, 1], [3, 1], [3, 1], [3, 1]])
    # cosines fall in the order right, up, down, left
    assert own_ranks(pictures, TEXTS, torch.tensor([0, 1, 3, 2])).tolist() == [0, 1, 2, 3]


def test_length_does_not_matter():
    pictures = torch.tensor([[100.0, 90], [0.02, 0.01]])
    assert own_ranks(pictures, TEXTS * 7, torch.tensor([1, 0])).tolist() == [1, 0]


def test_what_cannot_be_told_apart_is_not_found():
    same = torch.ones(5, 2)
    assert own_ranks(torch.ones(3, 2), same, torch.tensor([0, 2, 4])).tolist() == [4, 4, 4]


def test_only_some_texts_count():
    among = torch.tensor([[True, False, True, True]])
    picture = torch.tensor([[1.0, 2]])  # nearest is up, then right
    assert own_ranks(picture, TEXTS, torch.tensor([0])).tolist() == [1]
    assert own_ranks(picture, TEXTS, torch.tensor([0]), among=among).tolist() == [0]


def test_recall_counts_ranks_below_k():
    ranks = torch.tensor([0, 0, 1, 4, 5])
    assert recall(ranks, 1) == pytest.approx(0.4)
    assert recall(ranks, 5) == pytest.approx(0.8)
    assert recall(ranks, 6) == 1


def test_random_embeddings_are_at_chance():
    generator = torch.Generator().manual_seed(0)
    pictures, texts = torch.randn(2, 2000, 8, generator=generator)
    ranks = own_ranks(pictures, texts[:100], torch.arange(2000) % 100)
    assert recall(ranks, 5) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("most", [1, 7 * 90, 7 * 90 + 89])
def test_not_all_is_compared_at_once(monkeypatch, most):
    """Ranks are those of one product, whatever number of rows it is done in."""
    generator = torch.Generator().manual_seed(1)
    pictures, texts = torch.randn(2, 90, 8, generator=generator)
    own, among = torch.arange(90).flip(0), torch.rand(90, 90, generator=generator) < 0.5
    expected = [own_ranks(pictures, texts, own, among=some) for some in (None, among)]
    held = []

    class Watched(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if func is torch.Tensor.matmul or func is torch.Tensor.__matmul__:
                held.append(result.numel())
            return result

    monkeypatch.setattr(retrieval, "MOST_AT_ONCE", most)
    with Watched():
        found = [own_ranks(pictures, texts, own, among=some) for some in (None, among)]
    assert all(map(torch.equal, found, expected))
    assert sum(held) == 2 * 90 * 90 and max(held) <= max(most, 90)


@pytest.mark.parametrize(
    ("pictures", "own", "said"),
    [
        (torch.ones(2, 2), [0, 4], "which of 4 texts"),
        (torch.ones(2, 2), [0], "which of 4 texts"),
        (torch.ones(2, 3), [0, 1], "rows of features of one length"),
        (torch.zeros(2, 2), [0, 1], "row of zeros"),
        (torch.full((2, 2), torch.nan), [0, 1], "NaN"),
    ],
)
def test_what_is_refused(pictures, own, said):
    with pytest.raises(UsageError, match=said):
        own_ranks(pictures, TEXTS, torch.tensor(own))


def test_clip_scores_by_hand():
    pictures = torch.tensor([[2.0, 0], [1, 1], [0, 3]])
    scores = clip_scores(pictures, TEXTS[[0, 0, 3]])
    assert scores.tolist() == pytest.approx([100, 100 / 2**0.5, -100])
    with pytest.raises(UsageError, match="3 pictures and 4 texts"):
        clip_scores(pictures, TEXTS)
