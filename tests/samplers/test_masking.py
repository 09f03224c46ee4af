"""What the orders and decoders of masked tokens promise beyond the published traces."""

from itertools import pairwise

import pytest
import torch

from gensynth.errors import UsageError
from gensynth.samplers.masking import MASKED_SHARE, decided_counts, masked_share
from gensynth.samplers.token_decoders import ConfidenceDecoder, Draws, HaltonDecoder

CODES, MASK = 9, 9
DECODERS = [
    HaltonDecoder(),
    HaltonDecoder(roll=True, top_k=3),
    ConfidenceDecoder(),
    ConfidenceDecoder(order_noise="random", schedule="cosine"),
    ConfidenceDecoder(order_noise="warmup", schedule="square"),
]


@pytest.mark.parametrize("schedule", MASKED_SHARE)
@pytest.mark.parametrize("steps, tokens", [(1, 16), (8, 64), (12, 256), (16, 16)])
def test_every_step_decides_and_the_last_decides_the_rest(schedule, steps, tokens):
    counts = decided_counts(schedule, steps, tokens)
    assert counts[-1] == tokens and len(counts) == steps
    assert all(b > a for a, b in pairwise([0, *counts]))
    share = masked_share(schedule, torch.linspace(0, 1, 5))
    assert share[0] == 1 and abs(share[-1]) < 1e-6 and (share.diff() < 0).all()


def test_impossible_steps_and_schedules_are_refused():
    with pytest.raises(UsageError, match=r"steps must be from 1 to the 16 tokens .* got 17"):
        decided_counts("arccos", 17, 16)
    with pytest.raises(UsageError, match="unknown schedule 'arcos'; known: arccos"):
        masked_share("arcos", torch.zeros(1))
    with pytest.raises(UsageError, match="order_noise must be one of gumbel"):
        ConfidenceDecoder(order_noise="gumble")


def predict(tokens, progress):
    """Logits that depend on the tokens known so far, and like the mask token best."""
    rows = torch.arange(tokens[0].numel()) % CODES
    logits = torch.nn.functional.one_hot(rows, CODES + 1).float().expand(len(tokens), -1, -1)
    known = (tokens != MASK).sum(dim=(1, 2))[:, None, None]
    return logits * (1 + known / 10) + torch.tensor([0.0] * CODES + [50.0])


def run(decoder, seeds, tokens, steps=5):
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    draws = Draws.of(generators, steps, tokens[0].numel(), torch.device("cpu"))
    return list(decoder.decode(predict, tokens, MASK, steps, draws))


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: f"{type(d).__name__}-{d.config}"[:40])
def test_committed_tokens_stay_and_masks_fall_to_zero(decoder):
    tokens = torch.full((3, 6, 4), MASK)
    tokens[:, :2] = torch.arange(8).view(2, 4)  # known before: an image being edited
    before = tokens
    masked = [16]
    for step in run(decoder, [0, 1, 2], tokens):
        known = before != MASK
        assert torch.equal(step.tokens[known], before[known])
        assert (step.decided & known).sum() == 0
        masked.append(int((step.tokens[0] == MASK).sum()))
        before = step.tokens
    assert masked[-1] == 0 and all(b < a for a, b in pairwise(masked))
    assert before.max() < CODES


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: f"{type(d).__name__}-{d.config}"[:40])
def test_a_picture_depends_on_its_seed_alone(decoder):
    tokens = torch.full((3, 4, 4), MASK)
    together = run(decoder, [5, 6, 7], tokens)[-1].tokens
    alone = run(decoder, [6], tokens[:1])[-1].tokens
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together[0], together[1])


def test_a_config_survives_json():
    decoder = ConfidenceDecoder(temperature=1.1, schedule="cosine")
    again = ConfidenceDecoder.from_config(decoder.config)
    assert again.config.temperature == 1.1 and again.config.schedule == "cosine"


@pytest.mark.parametrize(
    ("decoder", "options", "message"),
    [
        (HaltonDecoder, {"top_k": 0}, "top_k must be a whole number from 1, got 0"),
        (HaltonDecoder, {"top_k": "many"}, "top_k must be a whole number"),
        (HaltonDecoder, {"warmup_steps": 1.5}, "warmup_steps must be a whole number from 0"),
        (HaltonDecoder, {"temperature": -1.0}, "temperature must be a number from 0, got -1.0"),
        (HaltonDecoder, {"last_temperature": "warm"}, "last_temperature must be a number"),
        (ConfidenceDecoder, {"noise_temperature": float("nan")}, "noise_temperature must be"),
        (ConfidenceDecoder, {"top_k": True}, "top_k must be a whole number"),
        (ConfidenceDecoder, {"order_noise": "loud"}, "order_noise must be one of"),
    ],
)
def test_options_that_make_no_sense_are_refused(decoder, options, message):
    with pytest.raises(UsageError, match=message):
        decoder(**options)
