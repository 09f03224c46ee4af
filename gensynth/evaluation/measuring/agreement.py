"""Whether samples show what their prompts say, as a scorer of pictures and texts sees it."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gensynth.evaluation.measuring.captions import styles_of, thing_and_style
from gensynth.evaluation.measuring.measures import Score
from gensynth.metrics import clip_scores, own_ranks, recall
from gensynth.metrics.extractors.pairs import PairScorer

RECALLED = (1, 5)  # how many of the nearest prompts are looked at


def retrieval_scores(
    scorer: PairScorer,
    samples: tuple[Tensor, Sequence[str]],
    real: tuple[Tensor, Sequence[str]] | None,
) -> Iterator[Score]:
    """By how many pictures their own prompt is found, among all prompts and among the styles.

    Args:
        samples: embeddings [N, D] and the prompt of each.
        real: those of real pictures and their captions, of which the ones that are prompts too are
            found by the same rule: what the scorer can see at best, in `floor`.
    """
    prompts = list(dict.fromkeys(samples[1]))
    texts = scorer.embed(prompts)
    known = None if real is None else only(real, set(prompts))
    found = ranks(samples, prompts, texts)
    best = None if known is None else ranks(known, prompts, texts)
    for k in RECALLED:
        if k < len(prompts):
            name = f"Retrieval@{k}({scorer.name})"
            yield share(f"retrieval_{k}", name, found, best, k, len(prompts), samples, known)
    styles = styles_of(prompts)
    if styles:
        found = style_ranks(scorer, samples, styles)
        best = None if known is None else style_ranks(scorer, known, styles)
        name = f"Style@1({scorer.name})"
        yield share("style_1", name, found, best, 1, len(styles), samples, known)


def share(
    key: str,
    name: str,
    found: Tensor,
    best: Tensor | None,
    k: int,
    among: int,
    samples: tuple[Tensor, Sequence[str]],
    known: tuple[Tensor, Sequence[str]] | None,
) -> Score:
    """A share of samples, with the binomial error, and that of real pictures."""
    value = recall(found, k)
    details = {"among": among, "chance": k / among, "samples": len(samples[1])}
    if known is not None:
        details["real_pictures"] = len(known[1])
    error = (value * (1 - value) / len(found)) ** 0.5
    floor = None if best is None else recall(best, k)
    return Score(key, name, value, "higher", error, floor=floor, details=details)


def only(
    pairs: tuple[Tensor, Sequence[str]], prompts: set[str]
) -> tuple[Tensor, Sequence[str]] | None:
    """The pictures whose caption is one of the prompts; None if there is none."""
    rows = [row for row, caption in enumerate(pairs[1]) if caption in prompts]
    return (pairs[0][rows], [pairs[1][row] for row in rows]) if rows else None


def ranks(pairs: tuple[Tensor, Sequence[str]], prompts: list[str], texts: Tensor) -> Tensor:
    number = {prompt: at for at, prompt in enumerate(prompts)}
    own = torch.tensor([number[prompt] for prompt in pairs[1]])
    return own_ranks(pairs[0], texts, own)


def style_ranks(
    scorer: PairScorer, pairs: tuple[Tensor, Sequence[str]], styles: list[str]
) -> Tensor:
    """How many other styles of its thing are nearer to each picture than its own, int64 [N]."""
    parts = [thing_and_style(prompt) for prompt in pairs[1]]
    things = list(dict.fromkeys(thing for thing, _ in parts))
    number = {thing: at for at, thing in enumerate(things)}
    texts = scorer.embed([f"{thing}, {style}" for thing in things for style in styles])
    thing_of = torch.tensor([number[thing] for thing, _ in parts])
    own = thing_of * len(styles) + torch.tensor([styles.index(style) for _, style in parts])
    among = torch.arange(len(texts)) // len(styles) == thing_of[:, None]
    return own_ranks(pairs[0], texts, own, among=among)


def clip_score(
    scorer: PairScorer,
    samples: tuple[Tensor, Sequence[str]],
    real: tuple[Tensor, Sequence[str]] | None,
) -> Score:
    """The mean CLIP score of samples and their prompts, beside that of real pictures."""
    scores = clip_scores(samples[0], scorer.embed(samples[1]))
    best = None if real is None else float(clip_scores(real[0], scorer.embed(real[1])).mean())
    return Score(
        "clip_score",
        f"CLIP score({scorer.name})",
        max(float(scores.mean()), 0.0),
        "higher",
        float(scores.std()) / len(scores) ** 0.5 if len(scores) > 1 else None,
        floor=None if best is None else max(best, 0.0),
        details={"samples": len(scores), "weights_sha256": scorer.weights_sha256},
    )
