"""What one press of Generate asks for, within limits."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gensynth.errors import UsageError
from gensynth.settings import Settings, known_settings
from gensynth.values import is_whole

MAX_IMAGES = 16
MAX_STEPS = 250
MIN_GUIDANCE, MAX_GUIDANCE = 0.0, 20.0
MAX_SEED = 2**32 - 1
MAX_LABELS = 1000
# Options of schedulers that change neither how much is computed nor what the model's times mean.
ALLOWED_OPTIONS = {
    *("method", "form", "norm", "last_step", "last_step_size", "sample_eps"),
    *("temperature", "last_temperature", "temperature_power", "warmup_steps", "top_k", "roll"),
    *("greedy", "schedule", "order_noise", "noise_temperature"),
}
# Options of strategies that change how much is computed by no more than MAX_REFINE_STEPS allows.
ALLOWED_OF_STRATEGIES = {"strength", "refine_steps", "refine_guidance", "upsample", "colours"}
MAX_REFINE_STEPS = 50
_RANDOM_SEEDS = 1_000_000  # short enough to read out and type
_SHOWN = 40  # characters of a refused value


@dataclass
class Order:
    """Pictures to draw: the classes in turn, with the seeds seed, seed + 1, ...

    One that is out of limits cannot be made, so whoever holds an order need not check it again.

    Args:
        model: name of a served model.
        labels: class numbers or names, at least one; [None] for a model without classes.
            [] beside a prompt.
        num: how many pictures.
        further: other settings by name, as JSON holds them.
        most_steps: the most steps of this model.
        prompt: what every picture shows in words, instead of classes.

    Raises:
        UsageError: a value that is out of range or not a number.
    """

    model: str
    labels: list[int | str]
    num: int
    seed: int
    steps: int
    guidance: float
    further: Mapping[str, Any] = field(default_factory=dict)
    most_steps: int = MAX_STEPS
    prompt: str | None = None

    @property
    def settings(self) -> Settings:
        """How the pictures are drawn."""
        return Settings.from_json({**self.further, "steps": self.steps, "guidance": self.guidance})

    def __post_init__(self) -> None:
        if not isinstance(self.model, str):
            raise UsageError(f"the model is a name, got {_shown(self.model)}.")
        if self.prompt is None:
            self.labels = _labels(self.labels)
        elif not isinstance(self.prompt, str):
            raise UsageError(f"the prompt is a text, got {_shown(self.prompt)}.")
        else:
            self.labels = []
        self.num = whole("the number of images", self.num, 1, MAX_IMAGES)
        self.seed = whole("the seed", self.seed, 0, MAX_SEED)
        self.steps = whole("the number of steps", self.steps, 1, self.most_steps)
        self.guidance = _between("guidance", self.guidance, MIN_GUIDANCE, MAX_GUIDANCE)
        self.further = _further(self.further)
        if self.seed + self.num - 1 > MAX_SEED:
            raise UsageError(
                f"{self.num} images from seed {self.seed} go past the largest seed, {MAX_SEED}. "
                f"Choose a seed up to {MAX_SEED - self.num + 1}."
            )


def random_seed() -> int:
    """A seed chosen at random."""
    return secrets.randbelow(_RANDOM_SEEDS)


def whole(what: str, value: Any, low: int, high: int) -> int:
    """The value as int.

    Raises:
        UsageError: a fraction, text, a truth value, nothing, or out of range.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or value != int(value):  # NaN compares false
        raise UsageError(
            f"{what} must be a whole number from {low} to {high}, got {_shown(value)}."
        )
    return int(value)


def _between(what: str, value: Any, low: float, high: float) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise UsageError(f"{what} must be a number from {low:g} to {high:g}, got {_shown(value)}.")
    return float(value)


def _labels(value: Any) -> list[int | str]:
    if value is None or value in ([], ()):
        raise UsageError("choose at least one class.")
    if not isinstance(value, list | tuple):
        raise UsageError(f"classes are a list, such as [0, 3], got {_shown(value)}.")
    if len(value) > MAX_LABELS:
        raise UsageError(f"at most {MAX_LABELS} classes at once, got {len(value)}.")
    for label in value:
        known = isinstance(label, int | str | None) and not isinstance(label, bool)
        if not known or (isinstance(label, str) and len(label) > 100):
            raise UsageError(f"a class is a number or a name, got {_shown(label)}.")
    return list(value)


def _further(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"settings are names with values, got {_shown(value)}.")
    known = [name for name in known_settings() if name not in ("steps", "guidance")]
    for name in value:
        if name not in known:
            raise UsageError(f"there is no setting {_shown(name)}. Known: {', '.join(known)}.")
    options = value.get("scheduler_options") or {}
    if not isinstance(options, Mapping) or not options.keys() <= ALLOWED_OPTIONS:
        raise UsageError(
            f"scheduler_options are names with values. Allowed here: "
            f"{', '.join(sorted(ALLOWED_OPTIONS))}."
        )
    of_strategy = value.get("strategy_options") or {}
    if not isinstance(of_strategy, Mapping) or not of_strategy.keys() <= ALLOWED_OF_STRATEGIES:
        raise UsageError(
            f"strategy_options are names with values. Allowed here: "
            f"{', '.join(sorted(ALLOWED_OF_STRATEGIES))}."
        )
    refine = of_strategy.get("refine_steps", 1)
    if not is_whole(refine) or not 1 <= refine <= MAX_REFINE_STEPS:
        raise UsageError(
            f"refine_steps must be a whole number from 1 to {MAX_REFINE_STEPS}, got "
            f"{_shown(refine)}."
        )
    return dict(value)


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        return "a very large number"  # Python refuses to print thousands of digits
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
