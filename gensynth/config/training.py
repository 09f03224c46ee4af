"""The sections `optimizer:`, `training:`, `lora:`, `ema:`, `checkpoint:` and `sampling:`."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from gensynth.config.section import NotNegative, Positive, Section, Share


class Optimizer(Section):
    name: Literal["adamw", "adan"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-4
    # None: 0.9, 0.999 for adamw and 0.98, 0.92, 0.99 for adan.
    betas: Annotated[list[Share], Field(min_length=2, max_length=3)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup_steps: NotNegative = 0
    schedule: Literal["constant", "cosine", "linear"] = "constant"  # after the warm-up, to zero
    clip: Annotated[float, Field(gt=0)] | None = None  # largest gradient norm

    @model_validator(mode="after")
    def betas_fit_name(self) -> Self:
        count = {"adamw": 2, "adan": 3}[self.name]
        if self.betas is not None and len(self.betas) != count:
            raise ValueError(f"{self.name} takes {count} betas, got {self.betas}")
        return self


class Training(Section):
    steps: Positive = 400_000
    batch_size: Positive = 256  # images of one optimiser step, over all processes
    gradient_accumulation: Positive = 1
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    compile: bool = False  # the repeated blocks, each kind once, in the first steps
    log_every: Positive = 10
    timeout: Positive = 600  # seconds that a process waits for the gradients of another one
    # Parts that are not trained, by patterns of the names of their weights: patch_embed,
    # blocks.0-5, "*.mlp*".
    freeze: list[str] = Field(default_factory=list)


class Lora(Section):
    """Adapters (LoRA, arXiv 2106.09685) are trained; the model of `init_from` stays as it is."""

    rank: Annotated[int, Field(ge=1, le=4096)] = 16
    alpha: Annotated[float, Field(gt=0)] | None = None  # adapters count alpha / rank; none: rank
    # Linear and convolution layers that get an adapter, by patterns of their names.
    targets: Annotated[list[str], Field(min_length=1)] = Field(default_factory=lambda: ["*"])
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    # Weights that are trained as a whole beside the adapters, such as "class_embedder*" or "text*";
    # what the model of `init_from` does not have always is.
    whole: list[str] = Field(default_factory=list)


# Widths of averages between which EDM2's authors publish reconstructions.
STD_RANGE = (0.01, 0.25)
Std = Annotated[float, Field(ge=STD_RANGE[0], le=STD_RANGE[1])]


class EMA(Section):
    """Running averages of the weights; the first decay, or else the first std, is the model's."""

    decay: float | list[float] | None = 0.9999  # one rate, several, or none
    warmup: bool = False  # decay starts at 0.1 and rises as (1 + step) / (10 + step)
    # Relative standard deviations of power-function averages (EDM2), from whose snapshots
    # `gensynth ema` makes averages of other lengths.
    stds: Annotated[list[Std], Field(min_length=1)] | None = None
    snapshot_every: Positive | None = None  # steps between snapshots; none: checkpoint.every

    @field_validator("decay", mode="plain")
    @classmethod
    def rates(cls, value: Any) -> float | list[float] | None:
        given = value if isinstance(value, list) else [] if value is None else [value]
        numbers = all(type(rate) in (int, float) and 0 <= rate < 1 for rate in given)
        if not numbers or value == [] or len(set(given)) < len(given):
            raise ValueError("one number in [0, 1), a list of different ones, or null is needed")
        rates = [float(rate) for rate in given]
        return rates if isinstance(value, list) else rates[0] if rates else None

    @model_validator(mode="after")
    def fit_together(self) -> Self:
        stds = self.stds or []
        if len({f"{std:.3f}" for std in stds}) < len(stds) or any(
            float(f"{std:.3f}") != std for std in stds
        ):
            raise ValueError(f"stds must be different multiples of 0.001, got {stds}")
        if not stds and self.decay is None:
            raise ValueError("give ema.decay or ema.stds, or ema=null for no average")
        if not stds and self.snapshot_every:
            raise ValueError("ema.snapshot_every is for snapshots of ema.stds; give those")
        return self

    @property
    def decays(self) -> list[float]:
        given = self.decay
        return given if isinstance(given, list) else [] if given is None else [given]


class Checkpoint(Section):
    every: Positive = 5000
    keep: Annotated[int, Field(ge=2)] = 2  # the newest may be damaged, so at least two


class Sampling(Section):
    """How the finished model draws, and the grids drawn while it trains."""

    # A diffusers scheduler or one of ours; none: Euler for flow, DDPM for ddpm.
    scheduler: str | None = None
    scheduler_options: dict[str, Any] = Field(default_factory=dict)  # of its constructor
    steps: Positive = 50
    guidance: Annotated[float, Field(ge=0)] = 1.0
    every: NotNegative = 0  # steps between grids; 0 for none
    num: Positive = 40  # pictures in a grid
    guided_channels: Positive | None = None  # none: all; DiT and DiCo published with 3
    # From no guidance at noise: linear is Halton-MaskGIT's, power-cosine MDT's.
    guidance_schedule: Literal["constant", "linear", "power-cosine"] = "constant"
    guidance_power: Annotated[float, Field(gt=0)] = 4.0  # of power-cosine
    # Noise levels between which guidance acts, 0 at data and 1 at noise; none: all.
    guidance_interval: Annotated[list[Share], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def interval_is_in_order(self) -> Self:
        if self.guidance_interval and self.guidance_interval[0] >= self.guidance_interval[1]:
            raise ValueError(
                f"guidance_interval must be [low, high] with low < high, got "
                f"{self.guidance_interval}"
            )
        return self
