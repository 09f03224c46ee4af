"""Norm-aware linear attention has the properties its paper asks for."""

import torch

from gensynth.models.layers.mixers.nala import key_features, query_features


def weights(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Attention weights [N, M] that the features stand for."""
    scores = query_features(q) @ key_features(k).transpose(-2, -1)
    return scores / scores.sum(dim=-1, keepdim=True)


def test_weights_are_never_negative():
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(64, 16, generator=generator) for _ in range(2))
    assert weights(q, k).min() >= 0


def test_a_longer_query_attends_more_sharply():
    """The normaliser of plain linear attention would cancel the length of the query."""
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(64, 16, generator=generator) for _ in range(2))
    q = q / q.norm(dim=-1, keepdim=True)

    def entropy(length: float) -> float:
        share = weights(length * q, k)
        return float(-(share * (share + 1e-12).log()).sum(dim=-1).mean())

    assert entropy(0.1) > entropy(0.5) > entropy(2.0)


def test_gradients_are_finite_at_zero():
    q = torch.zeros(4, 8, requires_grad=True)
    (query_features(q).sum() + key_features(q).sum()).backward()
    assert q.grad.isfinite().all()
