"""What may stand in an experiment's YAML file. `gensynth.experiments.read` reads and checks one.

Under `model:` every key but `name` is a keyword of the model's constructor.
"""

from typing import Annotated, Any, Self

import yaml
from pydantic import ConfigDict, Field, model_validator

from gensynth.config.data import Autoencoder, Data
from gensynth.config.evaluation import Evaluation
from gensynth.config.objectives import (
    DDPM,
    Dispersive,
    Distill,
    Flow,
    LayerSync,
    Masked,
    Objective,
    Reconstruction,
    Repa,
)
from gensynth.config.section import Place, Positive, Section, Seed
from gensynth.config.training import (
    EMA,
    STD_RANGE,
    Checkpoint,
    Lora,
    Optimizer,
    Sampling,
    Training,
)
from gensynth.config.yaml_text import Dumper, parse_yaml

__all__ = [
    "DDPM",
    "EMA",
    "STD_RANGE",
    "Autoencoder",
    "Checkpoint",
    "Data",
    "Dispersive",
    "Distill",
    "Evaluation",
    "Experiment",
    "Flow",
    "LayerSync",
    "Lora",
    "Masked",
    "Model",
    "Objective",
    "Optimizer",
    "Reconstruction",
    "Repa",
    "Sampling",
    "Section",
    "Shown",
    "Training",
    "parse_yaml",
]


ONE_AVERAGE = "the averages are one: ema.decay with one rate, or ema=null"
OF_TEACHER = "teacher"  # the name of a model that objective distill makes of its teacher


class Model(Section):
    model_config = ConfigDict(extra="allow", strict=True)
    name: str


class Shown(Section):
    """What pictures can show."""

    # A key of `gensynth.conditions.CONDITIONS`. classes; text: what captions say; none: nothing to
    # choose.
    kind: str = "classes"
    # All that follows is of kind text. small: a text encoder of the sizes below, trained with the
    # model; or a folder or hub id of transformers (CLIP, T5, Qwen, ...), which stays as it is.
    encoder: Place = "small"
    length: Annotated[int, Field(ge=4)] | None = None  # tokens of a prompt; none: 32, or encoder's
    vocabulary: Annotated[int, Field(ge=300, le=2**17)] = 3072  # of small: tokens, at most
    width: Positive = 256
    layers: Positive = 3
    heads: Positive = 4
    pooled: bool = True  # the summary of a text steers the blocks
    cross: bool = True  # the blocks look at its words

    @model_validator(mode="after")
    def keys_fit_kind(self) -> Self:
        if self.kind != "text":
            for name, field in type(self).model_fields.items():
                if name != "kind" and getattr(self, name) != field.default:
                    raise ValueError(f"{name} is for kind text")
        elif not self.pooled and not self.cross:
            raise ValueError("with neither pooled nor cross the model would not see the text")
        elif self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Experiment(Section):
    output: Place
    # A model folder, a run or a name whose weights the run begins with, as far as they fit; classes
    # are known by their names. Only looked at before the first checkpoint.
    init_from: Place | None = None
    seed: Seed = 0
    data: Data = Data()
    condition: Shown = Shown()
    autoencoder: Autoencoder = Autoencoder()
    model: Model
    objective: Annotated[Objective, Field(discriminator="name")]
    regularizers: list[Annotated[Dispersive | LayerSync | Repa, Field(discriminator="name")]] = (
        Field(default_factory=list)
    )
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    lora: Lora | None = None
    ema: EMA | None = EMA()
    checkpoint: Checkpoint = Checkpoint()
    sampling: Sampling = Sampling()
    evaluation: Evaluation = Evaluation()

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

    @model_validator(mode="after")
    def teacher_decides(self) -> Self:
        if self.objective.name != "distill":
            if self.model.name == OF_TEACHER:
                raise ValueError("model.name teacher is for objective distill; name a model")
            return self
        sampling = Sampling(every=self.sampling.every, num=self.sampling.num)
        of_teacher: dict[str, tuple[Any, Any]] = {
            "model": (self.model, Model(name=OF_TEACHER)),
            "condition": (self.condition, Shown()),
            "autoencoder": (self.autoencoder, Autoencoder()),
            "sampling, but for every and num,": (self.sampling, sampling),
        }
        missing: dict[str, tuple[Any, Any]] = {
            "init_from": (self.init_from, None),
            "lora": (self.lora, None),
            "regularizers": (self.regularizers, []),
            "training.freeze": (self.training.freeze, []),
            "training.compile": (self.training.compile, False),
            "data.zoom": (self.data.zoom, None),
        }
        for name, (value, own) in of_teacher.items():
            if value != own:
                raise ValueError(f"objective distill takes that from its teacher: leave {name} out")
        for name, (value, own) in missing.items():
            if value != own:
                raise ValueError(f"objective distill does not go with {name}: leave it out")
        if self.ema is not None and (self.ema.stds or len(self.ema.decays) != 1):
            raise ValueError(f"with objective distill {ONE_AVERAGE}")
        return self

    @model_validator(mode="after")
    def adapters_can_be_trained(self) -> Self:
        if self.lora is None:
            return self
        if self.init_from is None:
            raise ValueError(
                "lora trains adapters of a finished model; set init_from to one, or leave lora out"
            )
        if self.objective.works_on == "pixels":
            raise ValueError("lora is for models that draw, not for tokenizers; leave it out")
        if self.training.freeze:
            raise ValueError(
                "with lora all but the adapters and lora.whole is frozen; leave training.freeze out"
            )
        if self.ema is not None and (self.ema.stds or len(self.ema.decays) != 1):
            raise ValueError(f"with lora {ONE_AVERAGE}")
        return self

    @model_validator(mode="after")
    def evaluation_can_be_done(self) -> Self:
        if not self.evaluation.every:
            return self
        if not self.objective.draws:
            raise ValueError(
                f"evaluation.every is {self.evaluation.every}, but a tokenizer draws nothing to "
                "evaluate; leave it out"
            )
        given = self.evaluation.reference is not None or self.data.source == "fashion_mnist"
        if not given and (self.data.streaming or self.data.source == "encoded"):
            raise ValueError(
                "evaluation.reference is missing: data that are streamed or encoded cannot be "
                "compared with themselves, so give images or a file of statistics"
            )
        return self

    def to_yaml(self) -> str:
        """The whole experiment, defaults included, in the form `load_experiment` reads."""
        return yaml.dump(self.model_dump(mode="json"), Dumper=Dumper, sort_keys=False)
