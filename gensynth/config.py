"""The experiment: one YAML file, checked before anything loads.

`load_experiment(path, overrides)` reads the file, applies `key=value` overrides and returns an
`Experiment`. Under `model:` every key but `name` is a keyword of the model's constructor.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gensynth.errors import InputError, UsageError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Data(Section):
    source: Literal["fashion_mnist", "parquet", "imagefolder", "webdataset", "hub"] = (
        "fashion_mnist"
    )
    path: str | None = None  # files, folder, glob or hub id; none for the bundled set
    split: str = "train"
    size: Positive = 32  # pixels, of the square the model is trained on
    channels: Literal[1, 3] = 3
    fit: Literal["crop", "pad"] = "crop"  # ADM's centre crop, or a black border around the image
    flip: bool = False  # mirror every other image at random
    exif_rotate: bool = True  # turn photographs upright; ADM does not
    image_column: str | None = None  # none: the first of image, img, jpg, png, webp
    label_column: str | None = None  # none: the first of label, labels, cls, class
    classes: list[str] | None = None  # names, for sources that do not carry them
    streaming: bool = False
    shuffle_buffer: Positive = 10_000  # images, when streaming
    workers: NotNegative = 2  # decoding processes for each training process
    max_corrupt: Share = 0.01  # share of unreadable images above which the run stops

    @model_validator(mode="after")
    def path_fits_source(self) -> Self:
        if self.source == "fashion_mnist" and self.path:
            raise ValueError("path is for the other sources; fashion_mnist comes with the package")
        if self.source != "fashion_mnist" and not self.path:
            raise ValueError(f"source {self.source} needs a path")
        return self


class Autoencoder(Section):
    kind: Literal["pixels"] = "pixels"
    patch: Literal[1, 2, 4, 8] = 1  # pixels: side of the square folded into channels (lossless)


class Model(Section):
    model_config = ConfigDict(extra="allow", strict=True)
    name: str


class Flow(Section):
    """Rectified flow: linear path, velocity (SiT, arXiv 2401.08740)."""

    name: Literal["flow"]
    time: Literal["uniform", "logit-normal"] = "uniform"
    logit_mean: float = 0.0  # logit-normal: time = sigmoid(mean + std * normal)
    logit_std: Annotated[float, Field(gt=0)] = 1.0
    time_scale: Annotated[float, Field(gt=0)] = 1.0  # the model sees time in [0, time_scale]
    label_dropout: Share = 0.1


class DDPM(Section):
    """iDDPM: noise prediction, learned range variance, hybrid loss (arXiv 2102.09672, as DiT)."""

    name: Literal["ddpm"]
    num_timesteps: Positive = 1000
    label_dropout: Share = 0.1


class Optimizer(Section):
    lr: Annotated[float, Field(gt=0)] = 1e-4
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup_steps: NotNegative = 0
    schedule: Literal["constant", "cosine", "linear"] = "constant"  # after the warm-up, to zero
    clip: Annotated[float, Field(gt=0)] | None = None  # largest gradient norm


class Training(Section):
    steps: Positive = 400_000
    batch_size: Positive = 256  # images of one optimiser step, over all processes
    gradient_accumulation: Positive = 1
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    log_every: Positive = 10


class EMA(Section):
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    warmup: bool = False  # start at 0.1 and rise as (1 + step) / (10 + step)


class Checkpoint(Section):
    every: Positive = 5000
    keep: Annotated[int, Field(ge=2)] = 2  # the newest may be damaged, so at least two


class Sampling(Section):
    """How the finished model draws, and the grids drawn while it trains."""

    scheduler: str | None = None  # a diffusers scheduler; none: Euler for flow, DDPM for ddpm
    steps: Positive = 50
    guidance: Annotated[float, Field(ge=1)] = 1.0
    every: NotNegative = 0  # steps between grids; 0 for none
    num: Positive = 40  # pictures in a grid
    guided_channels: Positive | None = None  # none: all; DiT and DiCo published with 3


class Experiment(Section):
    output: str
    seed: NotNegative = 0
    data: Data = Data()
    autoencoder: Autoencoder = Autoencoder()
    model: Model
    objective: Annotated[Flow | DDPM, Field(discriminator="name")]
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    ema: EMA | None = EMA()
    checkpoint: Checkpoint = Checkpoint()
    sampling: Sampling = Sampling()

    @model_validator(mode="after")
    def sizes_fit(self) -> Self:
        if self.data.size % self.autoencoder.patch:
            raise ValueError(
                f"data.size {self.data.size} is not a multiple of autoencoder.patch "
                f"{self.autoencoder.patch}"
            )
        if self.training.batch_size % self.training.gradient_accumulation:
            raise ValueError(
                f"training.batch_size {self.training.batch_size} cannot be split into "
                f"training.gradient_accumulation {self.training.gradient_accumulation} equal parts"
            )
        return self

    def to_yaml(self) -> str:
        """The whole experiment, defaults included, in the form `load_experiment` reads."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


class _Loader(yaml.SafeLoader):
    """YAML without its traps: `1e-4` is a number, duplicate keys and aliases are errors."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key.value!r} is given twice", problem_mark=key.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    "-+0123456789",
)


def parse_yaml(text: str, origin: str) -> Any:
    """The value of a YAML text; `origin` names it in errors.

    Raises:
        UsageError: not YAML, a duplicate key or an alias.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UsageError(f"{origin}{where}: not valid YAML: {problem}.") from error


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a YAML file with `key=value` overrides applied.

    Raises:
        InputError: the file is not there.
        UsageError: an unknown key, a wrong value, or a combination that cannot work; the message
            names the file, the key, what is allowed and the nearest known key.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no configuration file {path}.{_nearest_configs(path)}")
    tree = parse_yaml(path.read_text(encoding="utf-8"), str(path)) or {}
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: expected sections like 'data:' and 'model:', got {tree!r}.")
    for override in overrides:
        _apply_override(tree, override)
    try:
        experiment = Experiment.model_validate(tree)
    except ValidationError as error:
        origin = f"{path} with {' '.join(overrides)}" if overrides else str(path)
        problems = [_explain(problem, tree) for problem in error.errors()]
        raise UsageError(f"{origin}: " + " ".join(problems)) from error
    check_model(experiment)
    return experiment


def check_model(experiment: Experiment) -> None:
    """Checks `model:` against the constructor of the model it names.

    Raises:
        UsageError: an unknown model or keyword, or one the objective or data contradict.
    """
    from gensynth.models import constructor_keywords, preset

    name, given = experiment.model.name, experiment.model.model_extra or {}
    preset(name)  # raises for an unknown name
    known = constructor_keywords(name)
    for key in given:
        if key not in known:
            raise UsageError(
                f"unknown key 'model.{key}' for {name}.{_nearest(key, known)} "
                f"Known: {', '.join(known)}."
            )
    learns_variance = experiment.objective.name == "ddpm"
    if given.get("learn_sigma", learns_variance) != learns_variance:
        raise UsageError(
            f"model.learn_sigma must be {str(learns_variance).lower()} with objective "
            f"{experiment.objective.name}; leave it out and it is chosen."
        )
    side = experiment.data.size // experiment.autoencoder.patch
    if side % 4:
        raise UsageError(
            f"{name} needs a latent size divisible by 4, but data.size {experiment.data.size} with "
            f"autoencoder.patch {experiment.autoencoder.patch} gives {side}."
        )


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"override {override!r} is not of the form key=value.")
    *parents, last = key.strip().split(".")
    section = tree
    for parent in parents:
        if not isinstance(section.get(parent), dict):
            section[parent] = {}
        section = section[parent]
    section[last] = parse_yaml(text, f"override {override!r}")


def _explain(problem: Any, tree: dict[str, Any]) -> str:
    """One sentence about one problem that pydantic found."""
    # A discriminated union inserts its tag into the location; the user never wrote it.
    location = [str(part) for part in problem["loc"]]
    if location[:1] == ["objective"] and location[1:2] in (["flow"], ["ddpm"]):
        del location[1]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1], tree)
        return f"unknown key '{key}'.{_nearest(location[-1], known)} Known: {', '.join(known)}."
    if problem["type"] == "missing":
        return f"'{key}' is missing."
    if problem["type"] in ("union_tag_not_found", "union_tag_invalid"):
        return "'objective.name' must be flow or ddpm."
    message = problem["msg"].removeprefix("Value error, ")
    if not key:
        return f"{message}."
    given = "" if isinstance(problem["input"], dict) else f", got {problem['input']!r}"
    return f"'{key}': {message}{given}."


def _known_keys(location: Iterable[str], tree: dict[str, Any]) -> list[str]:
    section: Any = Experiment
    for part in location:
        if part == "objective":
            section = DDPM if tree["objective"].get("name") == "ddpm" else Flow
        else:
            annotation = section.model_fields[part].annotation
            section = EMA if part == "ema" else annotation
    return list(section.model_fields)


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def _nearest_configs(path: Path) -> str:
    there = sorted(path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    return f" In {path.parent}: {', '.join(p.name for p in there)}." if there else ""
