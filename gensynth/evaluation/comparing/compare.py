"""`gensynth compare`: the numbers of several runs side by side, ranked if they are alike."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gensynth.errors import RefusedError, UsageError
from gensynth.evaluation.comparing.compared_runs import (
    CONDITIONS,
    DRAWING,
    IF_KNOWN,
    KnownReference,
    Run,
    different,
    of_metric,
    read_run,
    score_of,
    short_names,
    worth,
)
from gensynth.evaluation.measuring.measures import Score
from gensynth.preflight.measuring import numbers_file

ROUNDING = 1e-6  # relative: by which distances differ with other numbers of processes or threads
BUDGETS = {"images": "at {:,} images", "seconds": "after {:,.0f} s"}


@dataclass(frozen=True)
class Row:
    """One number of every run; None where a run does not have it.

    Attributes:
        best: which run is best, by position; None if they are not ranked, or several are.
        apart: differences to the best in units of the combined standard error.
        equal: the runs that share the best number.
    """

    name: str
    scores: list[Score | None]
    best: int | None
    apart: list[float | None]
    equal: tuple[int, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """
    Attributes:
        differences: sentences on why the runs are not ranked; empty if they are.
        notes: sentences on differences that are no reason not to.
    """

    runs: list[Run]
    rows: list[Row]
    differences: list[str]
    notes: list[str] = field(default_factory=list)


def compare(places: Sequence[str], force: bool = False) -> Comparison:
    """Numbers side by side.

    Args:
        places: metrics.json files, folders with one, or folders of training runs.
        force: compare numbers that are unlike too, without ranking them.

    Raises:
        InputError: no numbers there, or not readable.
        UsageError: fewer than two runs, or one given twice.
        RefusedError: the numbers are unlike and `force` is not given.
    """
    paths = [numbers_file(Path(place)) for place in places]
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise UsageError("compare takes two or more different runs.")
    names = short_names(places, paths)
    runs = [read_run(name, path) for name, path in zip(names, paths, strict=True)]
    differences = list(unlike(runs))
    if differences and not force:
        raise RefusedError(
            f"these numbers cannot be ranked. {' '.join(differences)} See them side by side with "
            "--force."
        )
    rows = list(rows_of(runs, ranked=not differences))
    return Comparison(runs, rows, differences, list(drawn_apart(runs)))


def unlike(runs: Sequence[Run]) -> Iterator[str]:
    """A sentence for each condition in which the runs differ."""
    # One hash in common is enough: files and images of a reference have each their own.
    if not frozenset.intersection(*(one.hashes for run in runs for one in run.references)):
        yield (
            "They differ in the reference: "
            f"{each_in_words({run.name: run.references for run in runs})}."
        )
    for key in CONDITIONS:
        values = {run.name: run.conditions[key] for run in runs}
        if key in IF_KNOWN:
            values = {name: value for name, value in values.items() if value != [None]}
        # What is not recorded may differ. A protocol may be absent, and so may a label rule.
        unknown = key not in ("protocol", *IF_KNOWN) and [None] in values.values()
        if unknown or len(different([one for value in values.values() for one in value])) > 1:
            yield f"They differ in the {key}: {each_in_words(values)}."


def drawn_apart(runs: Sequence[Run]) -> Iterator[str]:
    """A sentence for each setting that differs in how samples were drawn."""
    for key in DRAWING:
        values = {
            run.name: ["none" if value is None else value for value in run.drawing[key]]
            for run in runs
            if key in run.drawing
        }
        if len(different([one for value in values.values() for one in value])) > 1:
            yield f"Drawn with another {key.replace('_', ' ')}: {each_in_words(values)}."


def each_in_words(values: Mapping[str, Sequence[Any]]) -> str:
    return "; ".join(
        f"{name} has {' and '.join(map(in_words, value))}" for name, value in values.items()
    )


def in_words(value: Any) -> str:
    if value is None:
        return "none that is known"
    if isinstance(value, KnownReference):
        return value.in_words()
    if isinstance(value, int):
        return f"{value:,}"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return f"{text[:12]}…" if len(text) > 40 and " " not in text else text


def rows_of(runs: Sequence[Run], ranked: bool) -> Iterator[Row]:
    """The numbers of all runs; of training runs, those at the largest budget they all reached."""
    names = dict.fromkeys(name for run in runs for name in run.scores)
    for name in names:
        curves = [of_metric(run.curve, name) for run in runs]
        best = [run.scores.get(name) for run in runs]
        if not all(curves):  # not all are training runs
            yield row(name, best, ranked)
            continue
        yield row(f"{name}, best", best, ranked)
        for axis, words in BUDGETS.items():
            # the budget that every run has reached: the shortest one's
            budget = min(max(line[axis] for line in curve) for curve in curves)
            within = [latest(curve, axis, budget) for curve in curves]
            yield row(f"{name}, {words.format(budget)}", within, ranked)


def latest(curve: list[dict[str, Any]], axis: str, budget: float) -> Score | None:
    """The last evaluation within a budget."""
    within = [line for line in curve if line[axis] <= budget]
    return score_of(max(within, key=lambda line: line[axis])) if within else None


def row(name: str, scores: list[Score | None], ranked: bool) -> Row:
    """One number of every run, with the best of them if they are `ranked` and not equal."""
    present = {at: score for at, score in enumerate(scores) if score and math.isfinite(score.value)}
    if not ranked or len(present) < 2:
        return Row(name, scores, None, [None] * len(scores))
    least = min(map(worth, present.values()))  # smaller is better, whatever the number
    equal = tuple(
        at for at, score in present.items() if math.isclose(worth(score), least, rel_tol=ROUNDING)
    )
    best = present[equal[0]]
    apart = [
        standard_errors(present[at], best) if at in present and at not in equal else None
        for at in range(len(scores))
    ]
    if len(equal) > 1:
        return Row(name, scores, None, apart, equal)
    return Row(name, scores, equal[0], apart)


def standard_errors(score: Score, best: Score) -> float | None:
    """How many combined standard errors a number is behind the best."""
    if score.standard_error is None or best.standard_error is None:
        return None
    # of a difference of independent numbers
    combined = math.hypot(score.standard_error, best.standard_error)
    return abs(score.value - best.value) / combined if combined else None
