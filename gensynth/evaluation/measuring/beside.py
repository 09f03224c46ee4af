"""What is measured of samples beside their distance to a reference: prompts and training pictures.

A scorer of pictures and texts looks at the samples, at the reference and at the training pictures.
Its features are kept as all others are, and every process makes its share of them.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gensynth.data.files.image_set import ImageSet
from gensynth.evaluation.measuring.agreement import clip_score, retrieval_scores
from gensynth.evaluation.measuring.features import (
    PIXELS,
    Effort,
    FeatureFiles,
    Images,
    extract,
    pixels_sha256,
)
from gensynth.evaluation.measuring.measures import Score
from gensynth.evaluation.measuring.neighbours import (
    COPIES,
    SPACES,
    HeldOut,
    copy_score,
    held_out_pairs,
    held_out_score,
)
from gensynth.metrics.extractors.pairs import PairScorer
from gensynth.metrics.extractors.scorer import EmojiScorer
from gensynth.processes import processes

KNOWN = 0.5  # of real pictures, by their captions: less, and the scorer does not know such pictures


@dataclass(frozen=True)
class Beside:
    """What samples are held against.

    Attributes:
        metrics: which numbers are wanted, some of `measures.BESIDE`.
        training: what the model was trained on.
        clip: for CLIP score.
    """

    metrics: Sequence[str]
    training: ImageSet | None = None
    clip: PairScorer | None = None


@dataclass
class Looked:
    """What was seen of the pictures, in all processes.

    Attributes:
        samples, real, training: features by `scorer`, of the reference only if it holds pictures.
        clip: features of samples and of the reference by a CLIP.
    """

    scorer: EmojiScorer
    samples: FeatureFiles | None = None
    real: FeatureFiles | None = None
    training: FeatureFiles | None = None
    clip: tuple[FeatureFiles, FeatureFiles | None] | None = None

    @property
    def of_samples(self) -> list[FeatureFiles]:
        """All features of samples."""
        seen = (self.samples, None if self.clip is None else self.clip[0])
        return [files for files in seen if files is not None]


@dataclass
class Companions:
    """The pictures that a page shows beside the samples.

    Attributes:
        prompts: of each sample, by its position; None if they are not known.
        training: the training pictures; None if they were not given.
        features: feature -> of samples and of training pictures, in which neighbours are looked
            for.
        held_out: space -> samples of held-out pairs.
        facts: what the numbers depend on, for the report.
    """

    prompts: Sequence[str] | None
    training: Images | None = None
    features: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    held_out: dict[str, list[HeldOut]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def reason_against(metric: str, beside: Beside, samples: Images, real: Images | None) -> str | None:
    """Why one of `measures.BESIDE` cannot be computed, in words; None if it can."""
    if metric != "copies" and samples.texts is None:
        return "what the samples were drawn for is not known; give --prompts"
    if metric == "clip-score" and beside.clip is None:
        return "it needs the weights of a CLIP; give --clip"
    if metric in ("copies", "held-out"):
        training = beside.training
        if training is None:
            return "the training pictures are not known; give --trained-on"
        if training.length < 2:
            return f"{training.name} has only one picture"
    if metric == "held-out":
        for images in (real, beside.training):
            if images is None or images.texts is None:
                name = "the reference" if images is real else "the set of training pictures"
                return f"{name} has no pictures with captions"
    return None


def look(
    samples: Images,
    order: Sequence[int],
    real: Images | None,
    beside: Beside,
    effort: Effort,
) -> Looked | None:
    """The features that `beside.metrics` need; None if there are none. All processes take part.

    Raises:
        InputError: a picture cannot be read, or is of another size than the others of its set.
    """
    asked = set(beside.metrics)
    if not asked:
        return None
    found = Looked(EmojiScorer().to(processes().device))
    everything = None if real is None else range(real.length)

    def seen_by(scorer: PairScorer) -> tuple[FeatureFiles, FeatureFiles | None]:
        effort.expect(len(order) + len(everything or ()))
        of_real = extract(real, everything, scorer, effort) if real and everything else None
        return extract(samples, order, scorer, effort), of_real

    if asked - {"clip-score"}:
        found.samples, found.real = seen_by(found.scorer)
    if asked & {"copies", "held-out"}:
        assert beside.training is not None
        effort.expect(beside.training.length)
        chosen = range(beside.training.length)
        found.training = extract(beside.training, chosen, found.scorer, effort)
    if "clip-score" in asked:
        assert beside.clip is not None
        found.clip = seen_by(beside.clip.to(processes().device))
    return found


def scores_beside(
    looked: Looked,
    beside: Beside,
    prompts: Sequence[str] | None,
    real: Images | None,
) -> tuple[list[Score], Companions, list[str]]:
    """The numbers, what a page shows of them, and sentences that a reader has to know."""
    companions = Companions(prompts, facts=facts(looked, beside, prompts))
    scores: list[Score] = []
    captions = None if real is None else real.texts
    if "retrieval" in beside.metrics:
        assert prompts is not None and looked.samples is not None
        scores += retrieval_scores(
            looked.scorer,
            (looked.samples.all("embedding"), prompts),
            of_captions(looked.real, captions, "embedding"),
        )
    if looked.clip is not None:
        assert prompts is not None and beside.clip is not None
        own, of_real = looked.clip
        pairs = own.all("embedding"), prompts
        scores.append(clip_score(beside.clip, pairs, of_captions(of_real, captions, "embedding")))
    if looked.training is not None:
        assert beside.training is not None
        scores += list(_training_scores(looked, beside, real, companions))
    return scores, companions, list(remarks(looked, scores))


def facts(looked: Looked, beside: Beside, prompts: Sequence[str] | None) -> dict[str, Any]:
    """What numbers of prompts and training pictures depend on."""
    found: dict[str, Any] = {
        "scorer": looked.scorer.name,
        "scorer_sha256": looked.scorer.weights_sha256,
    }
    if prompts is not None:
        text = json.dumps(sorted(prompts))  # in any order
        found |= {
            "different_prompts": len(set(prompts)),
            "prompts_sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
    if looked.training is not None and beside.training is not None:
        found |= {
            "trained_on": beside.training.name,
            "trained_on_count": looked.training.count,
            "trained_on_sha256": pixels_sha256(looked.training, sort=True),
        }
    if looked.clip is not None and beside.clip is not None:
        found |= {"clip": beside.clip.name, "clip_sha256": beside.clip.weights_sha256}
    return found


def of_captions(
    files: FeatureFiles | None, captions: Sequence[str] | None, feature: str
) -> tuple[Tensor, Sequence[str]] | None:
    """Features and captions of the pictures that have one; None if there are none."""
    if files is None or captions is None:
        return None
    rows = [row for row, caption in enumerate(captions) if caption]
    return files.all(feature)[rows], [captions[row] for row in rows]


def _training_scores(
    looked: Looked, beside: Beside, real: Images | None, companions: Companions
) -> Iterator[Score]:
    assert looked.samples is not None
    assert looked.training is not None and beside.training is not None
    samples = {space: looked.samples.all(space) for space in SPACES}
    training = {space: looked.training.all(space) for space in SPACES}
    companions.training = beside.training
    companions.features = {space: (samples[space], training[space]) for space in SPACES}
    known = None if looked.real is None else {name: looked.real.all(name) for name in SPACES}
    if "copies" in beside.metrics:
        of_real = None if known is None else known[COPIES]
        yield copy_score(samples[COPIES], training[COPIES], of_real)
    if "held-out" in beside.metrics:
        captions, learnt = None if real is None else real.texts, beside.training.captioned
        assert known and captions and learnt and companions.prompts
        for space in SPACES:
            pairs = held_out_pairs(
                *(samples[space], companions.prompts),
                *(known[space], captions),
                *(training[space], learnt),
            )
            if pairs:
                companions.held_out[space] = pairs
                yield held_out_score(space, pairs)


def remarks(looked: Looked, scores: Sequence[Score]) -> Iterator[str]:
    """What a reader of these numbers has to know."""
    retrieval = next((score for score in scores if score.key == "retrieval_5"), None)
    if retrieval is not None and retrieval.floor is not None and retrieval.floor < KNOWN:
        yield (
            f"{looked.scorer.name} knows emoji only: of the real pictures here it finds the "
            f"caption of {retrieval.floor:.0%} among the 5 nearest, so its numbers say little"
        )
    if looked.training is not None and looked.real is not None:
        inside = torch.isin(looked.real.all(PIXELS), looked.training.all(PIXELS)).sum()
        if inside:
            yield (
                f"{int(inside):,} images of the reference are training pictures, pixel for pixel; "
                "of those a low distance is no merit"
            )
