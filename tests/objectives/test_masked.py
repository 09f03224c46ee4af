"""Guessing masked tokens: the loss, which tokens it is over, dropped labels, and splits."""

import math

import pytest
import torch
from torch import nn

from gensynth.config import Masked
from gensynth.objectives import create_objective
from gensynth.objectives.masked import MaskedObjective, mask_tokens, token_loss
from gensynth.seeding import StepRandom

CODES = 16
NULL = {"class_labels": torch.tensor([10])}


def random(size: int, step: int = 0) -> StepRandom:
    return StepRandom(0, step, slice(0, size), size)


def classes(labels: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"class_labels": labels}


def drawn(*shape: int) -> torch.Tensor:
    return torch.randint(CODES, shape, generator=torch.Generator().manual_seed(0))


class KnowsTheTokens(nn.Module):
    """Is sure of the right token where it is masked, and of the next one where it is shown."""

    def __init__(self, tokens, of_shown: int = 0):
        super().__init__()
        self.tokens, self.of_shown, self.calls = tokens, of_shown, []

    def forward(self, token_ids, class_labels, wanted=None, **keywords):
        self.calls.append((token_ids, class_labels, keywords))
        shown = (token_ids != CODES) * self.of_shown
        right = (self.tokens + shown) % CODES
        logits = 30.0 * nn.functional.one_hot(right, CODES + 1)
        return logits.flatten(1, 2) if wanted is None else logits[wanted]


@pytest.mark.parametrize("loss_on", ["all", "masked"])
def test_a_perfect_model_has_no_loss(loss_on):
    tokens, labels = drawn(6, 4, 4), classes(torch.arange(6))
    objective = MaskedObjective(Masked(name="masked", loss_on=loss_on), CODES, NULL)
    loss = objective.loss(KnowsTheTokens(tokens), tokens, labels, random(6))
    assert loss.total < 1e-6
    assert loss.parts["masked_accuracy"] == pytest.approx(1.0)
    worse = objective.loss(KnowsTheTokens((tokens + 1) % CODES), tokens, labels, random(6))
    assert worse.total > 10
    assert worse.parts["masked_accuracy"] == 0


def test_the_loss_is_over_masked_tokens_or_over_all():
    """A model that is wrong about every token it is shown."""
    tokens, labels = drawn(8, 4, 4), classes(torch.zeros(8, dtype=torch.int64))
    model = KnowsTheTokens(tokens, of_shown=1)
    masked = MaskedObjective(Masked(name="masked", loss_on="masked"), CODES, NULL)
    assert masked.loss(model, tokens, labels, random(8)).total < 1e-6
    everywhere = MaskedObjective(Masked(name="masked", loss_on="all"), CODES, NULL)
    total = everywhere.loss(model, tokens, labels, random(8)).total
    shown = (model.calls[-1][0] != CODES).float().mean()
    assert total.item() == pytest.approx(30 * shown.item(), rel=1e-4)


def test_only_the_masked_tokens_are_hidden():
    tokens, model = drawn(8, 4, 4), KnowsTheTokens(drawn(8, 4, 4))
    MaskedObjective(Masked(name="masked"), CODES, NULL).loss(
        model, tokens, classes(torch.zeros(8, dtype=torch.int64)), random(8)
    )
    seen = model.calls[0][0]
    assert torch.equal(seen[seen != CODES], tokens[seen != CODES])
    assert (seen == CODES).any() and (seen != CODES).any()


# The mean over progress of each schedule.
MEANS = {"arccos": 2 / math.pi, "cosine": 2 / math.pi, "linear": 1 / 2, "square": 2 / 3}


@pytest.mark.parametrize("schedule", [*MEANS, "cubic", "root"])
def test_the_share_of_masked_tokens(schedule):
    mean = {**MEANS, "cubic": 3 / 4, "root": 1 / 3}[schedule]
    tokens, model = drawn(2000, 4, 4), KnowsTheTokens(drawn(2000, 4, 4))
    labels = classes(torch.zeros(2000, dtype=torch.int64))
    objective = MaskedObjective(Masked(name="masked", schedule=schedule), CODES, NULL)
    objective.loss(model, tokens, labels, random(2000))
    masked = (model.calls[0][0] == CODES).float()
    assert masked.mean().item() == pytest.approx(mean, abs=0.02)
    assert masked.mean(dim=(1, 2)).std() > 0.2  # the share differs from image to image


def test_label_dropout():
    tokens, labels = drawn(2000, 2, 2), torch.arange(2000) % 10
    for share in (0.0, 0.1, 1.0):
        model = KnowsTheTokens(tokens)
        objective = MaskedObjective(Masked(name="masked", label_dropout=share), CODES, NULL)
        objective.loss(model, tokens, classes(labels), random(2000))
        _, seen, keywords = model.calls[0]
        dropped = seen == 10
        assert torch.equal(seen[~dropped], labels[~dropped]) and keywords == {}
        assert dropped.float().mean().item() == pytest.approx(share, abs=0.03)
        assert dropped.any() == (share > 0)


def test_without_a_null_label_nothing_is_dropped_and_the_draws_stay():
    tokens, labels, model = drawn(64, 2, 2), torch.arange(64) % 10, KnowsTheTokens(drawn(64, 2, 2))
    for none in (None, NULL):
        objective = MaskedObjective(Masked(name="masked", label_dropout=1.0), CODES, none)
        objective.loss(model, tokens, classes(labels), random(64), ({}, {"mask": 0.3}))
    assert torch.equal(model.calls[0][1], labels)
    assert model.calls[2][1].tolist() == [10] * 64
    for one, other in zip(model.calls[:2], model.calls[2:], strict=True):
        assert torch.equal(one[0], other[0])


def test_passes_share_the_progress_and_nothing_else():
    tokens, model = drawn(64, 8, 8), KnowsTheTokens(drawn(64, 8, 8))
    objective = MaskedObjective(Masked(name="masked", label_dropout=0.5), CODES, NULL)
    labels = classes(torch.zeros(64, dtype=torch.int64))
    loss = objective.loss(model, tokens, labels, random(64), ({}, {"mask": 0.3}))
    (one, labels1, none), (other, labels2, keywords) = model.calls
    assert 0 < (labels1 == 10).sum() < 64 and 0 < (labels2 == 10).sum() < 64
    assert (none, keywords) == ({}, {"mask": 0.3})
    assert not torch.equal(one, other) and not torch.equal(labels1, labels2)
    shares = [(seen == CODES).float().mean(dim=(1, 2)) for seen in (one, other)]
    assert torch.corrcoef(torch.stack(shares))[0, 1] > 0.8
    assert set(loss.parts) == {"masked_accuracy", "mask_masked_accuracy"}


class Guesses(nn.Module):
    """Stored logits, some better than others."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, token_ids, class_labels, wanted=None):
        return self.logits if wanted is None else self.logits[wanted.flatten(1)]


@pytest.mark.parametrize("loss_on", ["all", "masked"])
def test_a_split_batch_has_the_loss_of_the_whole(loss_on):
    """Its parts hold unlike numbers of masked tokens."""
    tokens, labels = drawn(6, 4, 4), torch.arange(6)
    logits = 5 * torch.randn(6, 16, CODES + 1, generator=torch.Generator().manual_seed(1))
    objective = MaskedObjective(Masked(name="masked", loss_on=loss_on), CODES, NULL)
    whole = objective.loss(Guesses(logits), tokens, classes(labels), random(6))
    parts = []
    for rows in (slice(0, 2), slice(2, 4), slice(4, 6)):
        part = StepRandom(0, 0, rows, 6)
        told = classes(labels[rows])
        parts.append(objective.loss(Guesses(logits[rows]), tokens[rows], told, part))
    torch.testing.assert_close(torch.stack([part.total for part in parts]).mean(), whole.total)
    accuracies = torch.stack([part.parts["masked_accuracy"] for part in parts])
    torch.testing.assert_close(accuracies.mean(), whole.parts["masked_accuracy"])


def test_smoothing_against_its_formula():
    logits = torch.randn(2, 4, CODES + 1, generator=torch.Generator().manual_seed(1))
    logits, tokens = logits.flatten(0, 1), drawn(8)
    log = logits.log_softmax(-1)
    right = log.gather(-1, tokens[:, None])[:, 0]
    expected = -(0.9 * right + 0.1 * log.mean(-1)).mean()
    torch.testing.assert_close(token_loss(logits, tokens, 0.1), expected)


def test_nothing_masked_is_no_loss():
    assert token_loss(torch.zeros(0, CODES + 1), drawn(0)) == 0


@pytest.mark.parametrize("loss_on", ["all", "masked"])
def test_the_loss_and_its_gradient_by_hand(loss_on, make_token_model):
    """The head is computed where it counts only, and nothing else changes."""
    model = make_token_model()
    tokens = drawn(6, 4, 4)
    objective = MaskedObjective(Masked(name="masked", loss_on=loss_on), CODES, None)
    loss = objective.loss(model, tokens, {}, random(6))
    loss.total.backward()
    found = [one.grad for one in model.parameters() if one.grad is not None]
    model.zero_grad()
    everyone = random(6).all_rows()
    progress = everyone.uniform()
    mask = mask_tokens(tokens, progress, everyone.uniform(4, 4), "arccos")
    logits = model(torch.where(mask, CODES, tokens)).flatten(0, 1)
    losses = nn.functional.cross_entropy(logits, tokens.flatten(), reduction="none")
    expected = losses.mean() if loss_on == "all" else losses[mask.flatten()].mean()
    expected.backward()
    torch.testing.assert_close(loss.total, expected)
    there = [one.grad for one in model.parameters() if one.grad is not None]
    assert len(found) > 10
    torch.testing.assert_close(found, there)


def test_the_mask_token_is_the_models(make_token_model):
    objective = create_objective(Masked(name="masked"), make_token_model(), NULL)
    assert isinstance(objective, MaskedObjective) and objective.mask_token == CODES
