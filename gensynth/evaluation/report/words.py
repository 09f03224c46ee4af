"""Numbers of prompts and training pictures in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gensynth.evaluation.measuring.rounding import number

MEANING = {
    "retrieval": "Share of samples whose own prompt is among the nearest to a small scorer; no "
    "CLIP score.",
    "style_1": "Share of samples whose own style is the nearest among the styles of their thing.",
    "clip_score": "100 times the cosine of picture and prompt.",
    "copies": "Share of samples less than a third as far from the nearest training picture as from "
    "the second nearest. Real images: those of the reference.",
    "held_out": "Share of samples nearer to the true picture than to any training picture of the "
    "same thing in another style.",
}
UNITS = {"features": "lite0-64 h1280", "pixels": "grey levels at 32x32"}


def meaning(key: str) -> str | None:
    """What a number of prompts or training pictures says, in a sentence."""
    return next((text for name, text in MEANING.items() if key.startswith(name)), None)


def sentences(scores: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the numbers are to be read with: chance, and the distances behind a share."""
    chances = [
        f"{score['name']} {score['details']['chance']:.2%}"
        for score in scores
        if "chance" in score["details"]
    ]
    if chances:
        yield f"By chance: {', '.join(chances)}."
    for score in scores:
        if score["key"].startswith("held_out_"):
            word, details = score["key"].removeprefix("held_out_"), score["details"]
            yield (
                f"Held-out pairs, {details['pairs']:,} samples, {word} ({UNITS[word]}): "
                f"{number(details['to_truth'])} from the true picture, "
                f"{number(details['to_other_style'])} from the nearest training picture of the "
                f"same thing in another style; {score['value']:.1%} are nearer to the truth."
            )
