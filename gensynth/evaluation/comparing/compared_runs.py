"""The runs that `gensynth compare` puts side by side, from their files."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gensynth.errors import InputError
from gensynth.evaluation.measuring.measures import Score
from gensynth.evaluation.report.report import SCHEMA
from gensynth.files import read_json_lines
from gensynth.preflight.measuring import EVALUATIONS_FILE, METRICS_FILE
from gensynth.settings import OF_THE_WALK

# What has to agree, besides the reference, before numbers may be ranked: its place in metrics.json,
# and in a line of evaluations.jsonl.
CONDITIONS = {
    "extractor": (("extractor", "fingerprint"), "extractor_fingerprint"),
    "number of samples": (("samples", "count"), "num_samples"),
    "protocol": (("protocol",), "protocol"),
    "label rule": (("samples", "label_rule"), "label_rule"),
    "prompts": (("beside", "prompts_sha256"), "prompts_sha256"),
    "training pictures": (("beside", "trained_on_sha256"), "trained_on_sha256"),
    "scorer": (("beside", "scorer_sha256"), "scorer_sha256"),
}
# Hashes of a reference in metrics.json: of its images, its statistics and its file; the first that
# is known is shown.
REFERENCE_HASHES = ("images_sha256", "statistics_sha256", "sha256")
# Not recorded of samples from files; of those without prompts and training pictures.
IF_KNOWN = ("label rule", "prompts", "training pictures", "scorer")
# What is said but does not keep numbers from being ranked: it may be what is compared.
DRAWING = (
    *("steps", "guidance", "guidance_interval", "scheduler", "scheduler_options", "size"),
    *OF_THE_WALK,
)


@dataclass(frozen=True)
class KnownReference:
    """A reference by what it is made of; two are the same if they share a hash.

    Attributes:
        name: what the run called it.
        shown: the hash that a message names.
        hashes: all that are known, see `REFERENCE_HASHES`.
    """

    name: str | None
    shown: str | None
    hashes: frozenset[str]

    def in_words(self) -> str:
        """The name, and the beginning of the hash."""
        name = self.name or "a reference"
        if self.shown is None:
            return f"{name}, which no hash tells"
        return f"{name} ({self.shown[:12]}…)"


@dataclass(frozen=True)
class Run:
    """The numbers of one evaluation, or of the evaluations while a model trained.

    Attributes:
        conditions: what the numbers depend on besides the reference, see `CONDITIONS`; every value
            that occurs.
        scores: by name; of a training run the best ones.
        references: what its numbers were taken against; one, unless a training run changed it.
        curve: lines of evaluations.jsonl; empty if this is no training run.
        drawing: how the samples were drawn, as far as it is known; every value that occurs.
    """

    name: str
    conditions: dict[str, list[Any]]
    scores: dict[str, Score]
    references: list[KnownReference]
    curve: list[dict[str, Any]] = field(default_factory=list)
    drawing: dict[str, list[Any]] = field(default_factory=dict)


def short_names(places: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """Names of the folders, or of files with an unusual name; as typed where two are equal."""
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
    drawing = {key: [value] for key, value in drawing_of(settings).items()}
    reference = inner(report, ("reference",)) or {}
    hashes = frozenset(reference[key] for key in REFERENCE_HASHES if reference.get(key))
    shown = next((reference[key] for key in REFERENCE_HASHES if reference.get(key)), None)
    known = KnownReference(reference.get("name"), shown, hashes)
    return Run(name, conditions, scores, [known], [], drawing)


def drawing_of(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What is recorded of how samples were drawn; settings of the walk only stand where given."""
    known = dict.fromkeys(OF_THE_WALK) if "steps" in recorded else {}
    return known | {key: recorded[key] for key in DRAWING if key in recorded}


def inner(tree: Any, keys: Sequence[str]) -> Any:
    """The entry of a tree at this path; None if there is nothing."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def training_run(name: str, lines: list[dict[str, Any]]) -> Run:
    """
    Raises:
        InputError: there is no evaluation.
        KeyError: lines that are not evaluations.
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
    drawn = [drawing_of(line) for line in lines]
    drawing = {key: different([one[key] for one in drawn if key in one]) for key in DRAWING}
    references = different([reference_of(line) for line in lines])
    return Run(name, conditions, best, references, lines, {k: v for k, v in drawing.items() if v})


def reference_of(line: dict[str, Any]) -> KnownReference:
    """What a line of evaluations.jsonl was taken against."""
    digest = line.get("reference_sha256")
    return KnownReference(line.get("reference"), digest, frozenset([digest] if digest else ()))


def different(values: Sequence[Any]) -> list[Any]:
    """Each value once, in order; without a set, since some cannot be hashed."""
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
    """A sort key, smaller for better; a number that is not finite comes last."""
    if not math.isfinite(score.value):
        return math.inf
    return score.value if score.better == "lower" else -score.value
