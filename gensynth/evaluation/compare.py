"""`gensynth compare`: the numbers of several runs side by side, ranked if they are alike."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gensynth.errors import InputError, RefusedError, UsageError
from gensynth.evaluation.measures import Score
from gensynth.evaluation.report import METRICS_FILE, SCHEMA
from gensynth.files import read_json_lines

EVALUATIONS_FILE = "evaluations.jsonl"
# What has to agree before numbers may be ranked: its place in metrics.json, and in a line of
# evaluations.jsonl.
CONDITIONS = {
    "extractor": (("extractor", "fingerprint"), "extractor_fingerprint"),
    "reference": (("reference", "statistics_sha256"), "reference_sha256"),
    "number of samples": (("samples", "count"), "num_samples"),
    "protocol": (("protocol",), "protocol"),
    "label rule": (("samples", "label_rule"), "label_rule"),
}
REFERENCE_FILE = ("reference", "sha256")  # in reports that lack the hash of the statistics
IF_KNOWN = ("label rule",)  # not recorded of samples from files
# What is said but does not keep numbers from being ranked: it may be what is compared.
DRAWING = ("steps", "guidance", "guidance_interval", "scheduler", "scheduler_options", "size")
BUDGETS = {"images": "at {:,} images", "seconds": "after {:,.0f} s"}


@dataclass(frozen=True)
class Run:
    """The numbers of one evaluation, or of the evaluations while a model trained.

    Attributes:
        conditions: what the numbers depend on, see `CONDITIONS`; every value that occurs.
        scores: by name; of a training run the best ones.
        curve: lines of evaluations.jsonl; empty if this is no training run.
        drawing: how the samples were drawn, as far as it is known; every value that occurs.
        reference_file: hash of the reference's file; none of a training run.
    """

    name: str
    conditions: dict[str, list[Any]]
    scores: dict[str, Score]
    curve: list[dict[str, Any]] = field(default_factory=list)
    drawing: dict[str, list[Any]] = field(default_factory=dict)
    reference_file: str | None = None


@dataclass(frozen=True)
class Row:
    """One number of every run; none where a run does not have it.

    Attributes:
        best: which run is best, by position; none if they are not ranked.
        apart: differences to the best in units of the combined standard error.
    """

    name: str
    scores: list[Score | None]
    best: int | None
    apart: list[float | None]


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
        force: compare also what is unlike, without ranking it.

    Raises:
        InputError: no numbers there, or not readable.
        UsageError: fewer than two runs, or one given twice.
        RefusedError: the numbers are unlike and `force` is not given.
    """
    paths = [found(Path(place)) for place in places]
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise UsageError("compare takes two or more different runs.")
    names = short_names(places, paths)
    runs = by_known([read_run(name, path) for name, path in zip(names, paths, strict=True)])
    differences = list(unlike(runs))
    if differences and not force:
        raise RefusedError(
            f"these numbers cannot be ranked. {' '.join(differences)} Evaluate the runs alike, or "
            "see them side by side with --force."
        )
    rows = list(rows_of(runs, ranked=not differences))
    return Comparison(runs, rows, differences, list(drawn_apart(runs)))


def found(place: Path) -> Path:
    """The file with the numbers of a run.

    Raises:
        InputError: there is none.
    """
    candidates = [place] if place.is_file() else [place / METRICS_FILE, place / EVALUATIONS_FILE]
    for path in candidates:
        if path.is_file():
            return path
    raise InputError(
        f"there are no numbers in {place}: give a {METRICS_FILE}, a folder with one, or a training "
        f"run with {EVALUATIONS_FILE}."
    )


def short_names(places: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """Names of folders, of files that are not called as usual; as typed where names are equal."""
    usual = (METRICS_FILE, EVALUATIONS_FILE)
    names = [path.resolve().parent.name if path.name in usual else path.stem for path in paths]
    return names if len(set(names)) == len(names) else list(places)


def read_run(name: str, path: Path) -> Run:
    """
    Raises:
        InputError: the file is damaged, empty, or of another version.
    """
    try:
        if path.suffix == ".jsonl":
            return training_run(name, read_json_lines(path))
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["schema"] != SCHEMA:
            raise InputError(f"{path} is of another version of gensynth; evaluate again.")
        scores = {entry["name"]: Score(**entry) for entry in report["scores"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not hold numbers of gensynth evaluate: {error}.") from error
    conditions = {key: [inner(report, keys)] for key, (keys, _) in CONDITIONS.items()}
    settings = inner(report, ("samples", "drawing")) or {}
    drawing = {key: [settings[key]] for key in DRAWING if key in settings}
    return Run(name, conditions, scores, [], drawing, inner(report, REFERENCE_FILE))


def by_known(runs: list[Run]) -> list[Run]:
    """Runs whose references are told apart by their files, if one of them knows only that."""
    if all(run.conditions["reference"] != [None] for run in runs):
        return runs
    return [
        run
        if run.reference_file is None
        else replace(run, conditions={**run.conditions, "reference": [run.reference_file]})
        for run in runs
    ]


def inner(tree: Any, keys: Sequence[str]) -> Any:
    """The entry of a tree at this path; none if there is none."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def training_run(name: str, lines: list[dict[str, Any]]) -> Run:
    """
    Raises:
        InputError: there is no evaluation.
        KeyError: lines that are no evaluations.
    """
    if not lines:
        raise InputError(f"{name} has no evaluation yet.")
    conditions: dict[str, list[Any]] = {}
    for key, (_, entry) in CONDITIONS.items():
        conditions[key] = different([line.get(entry) for line in lines])
    metrics = dict.fromkeys(line["metric"] for line in lines)
    best = {
        metric: min((score_of(line) for line in of_metric(lines, metric)), key=worth)
        for metric in metrics
    }
    drawing = {key: different([line[key] for line in lines if key in line]) for key in DRAWING}
    return Run(name, conditions, best, lines, {k: v for k, v in drawing.items() if v})


def different(values: Sequence[Any]) -> list[Any]:
    """Each value once, in order; some cannot be hashed."""
    return [value for at, value in enumerate(values) if value not in values[:at]]


def of_metric(lines: list[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["metric"] == metric]


def score_of(line: dict[str, Any]) -> Score:
    """A Fréchet distance that was taken while a model trained."""
    when = {key: line[key] for key in ("step", "images", "seconds")}
    return Score(
        line["metric"],
        line["metric"],
        line["value"],
        standard_error=line.get("standard_error"),
        floor=line.get("floor"),
        details=when,
    )


def worth(score: Score) -> float:
    """The smaller the better; a number that is not finite is worth nothing."""
    if not math.isfinite(score.value):
        return math.inf
    return score.value if score.better == "lower" else -score.value


def unlike(runs: Sequence[Run]) -> Iterator[str]:
    """A sentence for each condition in which the runs differ."""
    for key in CONDITIONS:
        values = {run.name: run.conditions[key] for run in runs}
        if key in IF_KNOWN:
            values = {name: value for name, value in values.items() if value != [None]}
        unknown = key not in ("protocol", *IF_KNOWN) and [None] in values.values()
        if unknown or len(different([one for value in values.values() for one in value])) > 1:
            yield f"They differ in the {key}: {each_in_words(values)}."


def drawn_apart(runs: Sequence[Run]) -> Iterator[str]:
    """A sentence for each setting with which samples were drawn otherwise."""
    for key in DRAWING:
        values = {
            run.name: ["none" if value is None else value for value in run.drawing[key]]
            for run in runs
            if key in run.drawing
        }
        if len(different([one for value in values.values() for one in value])) > 1:
            yield f"Drawn with another {key.replace('_', ' ')}: {each_in_words(values)}."


def each_in_words(values: dict[str, list[Any]]) -> str:
    return "; ".join(
        f"{name} has {' and '.join(map(in_words, value))}" for name, value in values.items()
    )


def in_words(value: Any) -> str:
    if value is None:
        return "none that is known"
    if isinstance(value, int):
        return f"{value:,}"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return f"{text[:12]}…" if len(text) > 40 and " " not in text else text


def rows_of(runs: Sequence[Run], ranked: bool) -> Iterator[Row]:
    """The numbers of all runs, and of training runs those at the budget that all of them spent."""
    names = dict.fromkeys(name for run in runs for name in run.scores)
    for name in names:
        curves = [of_metric(run.curve, name) for run in runs]
        best = [run.scores.get(name) for run in runs]
        if not all(curves):
            yield row(name, best, ranked)
            continue
        yield row(f"{name}, best", best, ranked)
        for axis, words in BUDGETS.items():
            budget = min(max(line[axis] for line in curve) for curve in curves)
            within = [latest(curve, axis, budget) for curve in curves]
            yield row(f"{name}, {words.format(budget)}", within, ranked)


def latest(curve: list[dict[str, Any]], axis: str, budget: float) -> Score | None:
    """The last evaluation within a budget."""
    within = [line for line in curve if line[axis] <= budget]
    return score_of(max(within, key=lambda line: line[axis])) if within else None


def row(name: str, scores: list[Score | None], ranked: bool) -> Row:
    """One number of every run, with the best of them if they are `ranked`."""
    present = {at: score for at, score in enumerate(scores) if score and math.isfinite(score.value)}
    if not ranked or len(present) < 2:
        return Row(name, scores, None, [None] * len(scores))
    best = min(present, key=lambda at: worth(present[at]))
    apart = [
        standard_errors(present[at], present[best]) if at in present and at != best else None
        for at in range(len(scores))
    ]
    return Row(name, scores, best, apart)


def standard_errors(score: Score, best: Score) -> float | None:
    """How many combined standard errors a number is behind the best."""
    if score.standard_error is None or best.standard_error is None:
        return None
    combined = math.hypot(score.standard_error, best.standard_error)
    return abs(score.value - best.value) / combined if combined else None
