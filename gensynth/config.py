"""What may stand in an experiment's YAML file. `gensynth.experiment` reads and checks one.

Under `model:` every key but `name` is a keyword of the model's constructor.
"""

import re
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gensynth.errors import UsageError


def _no_truth_value(value: Any) -> Any:
    # Python takes True for 1, and so does pydantic in a Literal.
    if isinstance(value, bool):
        raise ValueError("a number is needed")
    return value


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Data(Section):
    source: Literal["fashion_mnist", "parquet", "imagefolder", "webdataset", "hub"] = (
        "fashion_mnist"
    )
    path: str | None = None  # files, folder, glob or hub id; none for the bundled set
    split: str = "train"
    size: Positive = 32  # pixels, of the square the model is trained on
    channels: Annotated[Literal[1, 3], BeforeValidator(_no_truth_value)] = 3
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
    # Side in pixels of the square folded into channels, without loss.
    patch: Annotated[Literal[1, 2, 4, 8], BeforeValidator(_no_truth_value)] = 1


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
    seed: Seed = 0
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
        return yaml.dump(self.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False)


class _Loader(yaml.SafeLoader):
    """YAML without its traps; duplicate keys and aliases are errors."""

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


class _Dumper(yaml.SafeDumper):
    """Quotes the text that `_Loader` would take for a number."""


# Instead of YAML 1.1's rules, by which `no` is false, `012` is ten and `1e-4` is text.
_PLAIN = {
    "bool": (re.compile(r"^(true|false|True|False)$"), list("tfTF")),
    "int": (re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789")),
    "float": (
        re.compile(r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|nan)$"),
        list("-+.0123456789"),
    ),
}
_Loader.yaml_implicit_resolvers = {
    first: [entry for entry in entries if entry[0].rpartition(":")[2] not in _PLAIN]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, (_pattern, _first) in _PLAIN.items():
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, _first)


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
        problem = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise UsageError(f"{origin}{where}: not valid YAML: {problem}.") from error
    except RecursionError as error:
        raise UsageError(f"{origin}: nested too deeply.") from error
