"""Samples beside training pictures: copies, and pairs that no training picture shows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gensynth.evaluation.measuring.captions import thing_and_style
from gensynth.evaluation.measuring.measures import Score
from gensynth.metrics import copied, nearest

SPACES = {"h1280": "features", "rgb32": "pixels"}  # of `EmojiScorer`, and what to call them
COPIES = "rgb32"  # noise moves features so far that copies are not found by them
SHOWN = 3  # training pictures beside a sample


@dataclass(frozen=True)
class HeldOut:
    """One sample of a held-out pair of thing and style, in one space.

    Attributes:
        position: of the sample.
        truth: the number of the true picture in the reference.
        other: the number of the training picture of the same thing in another style that is the
            nearest.
        to_truth, to_other: how far from the sample they are, Euclidean.
        between: how far from the truth the nearest such training picture is.
    """

    position: int
    truth: int
    other: int
    to_truth: float
    to_other: float
    between: float


def copy_score(samples: Tensor, training: Tensor, real: Tensor | None) -> Score:
    """The share of samples that are copies of training pictures, see `metrics.copied`.

    Args:
        samples, training, real: `rgb32` [N, D]. The share of real pictures is the floor: what
            pictures score that nobody copied, if they are not in the training set.
    """
    value = float(copied(training, samples).double().mean())
    return Score(
        "copies_pixels",
        "Copies(pixels)",
        value,
        standard_error=(value * (1 - value) / len(samples)) ** 0.5,
        floor=None if real is None else float(copied(training, real).double().mean()),
        details={"space": COPIES, "training_pictures": len(training)},
    )


def training_neighbours(samples: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers [N, SHOWN] of the training pictures nearest to each sample, and their distances."""
    squared, numbers = nearest(samples, training, min(SHOWN, len(training)))
    return numbers, squared.sqrt()


def held_out_pairs(
    samples: Tensor,
    prompts: Sequence[str],
    real: Tensor,
    captions: Sequence[str],
    training: Tensor,
    training_captions: Sequence[Sequence[str]],
) -> list[HeldOut]:
    """Each sample between the true picture of its prompt and the training pictures of its thing.

    Left out are prompts that are no caption of the reference, those that are a caption of a
    training picture, which is then no held-out pair, and things that the training set shows in no
    other style.

    Args:
        samples, real, training: features [N, D], [R, D] and [M, D] of one space.
        prompts, captions, training_captions: what each of these was drawn for or shows; of a
            training picture all its captions, as the model may have learnt any of them.
    """
    truth_of = {caption: at for at, caption in reversed(list(enumerate(captions)))}
    seen = {caption for some in training_captions for caption in some}
    of_thing: dict[str, list[int]] = {}
    for at, some in enumerate(training_captions):
        parts = map(thing_and_style, some)
        for thing in {thing for thing, style in parts if style}:
            of_thing.setdefault(thing, []).append(at)
    found = []
    for position, prompt in enumerate(prompts):
        others = of_thing.get(thing_and_style(prompt)[0], [])
        if prompt not in truth_of or prompt in seen or not others:
            continue
        sample, truth = samples[position].double(), truth_of[prompt]
        far = (training[others].double() - sample).norm(dim=1)
        at = int(far.argmin())
        true = real[truth].double()
        between = float((training[others].double() - true).norm(dim=1).min())
        distances = float((true - sample).norm()), float(far[at]), between
        found.append(HeldOut(position, truth, others[at], *distances))
    return found


def held_out_score(space: str, pairs: Sequence[HeldOut]) -> Score:
    """The share of samples that are nearer to the truth; the means of both distances beside it."""
    to_truth = torch.tensor([pair.to_truth for pair in pairs], dtype=torch.float64)
    to_other = torch.tensor([pair.to_other for pair in pairs], dtype=torch.float64)
    between = torch.tensor([pair.between for pair in pairs], dtype=torch.float64)
    value = float((to_truth < to_other).double().mean())
    return Score(
        f"held_out_{SPACES[space]}",
        f"Nearer to the truth({SPACES[space]})",
        value,
        "higher",
        (value * (1 - value) / len(pairs)) ** 0.5,
        details={
            "space": space,
            "pairs": len(pairs),
            "to_truth": float(to_truth.mean()),
            "to_other_style": float(to_other.mean()),
            "truth_to_other_style": float(between.mean()),
        },
    )
