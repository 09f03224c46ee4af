"""How a picture is drawn: one object for pipelines, command line, recipes, protocols and server.

A new setting is one field of `Settings`, or, from outside of the package, one entry of `FURTHER`.
It appears in `--help`, in recipes, in the description of a job and in the server's interface. What
it does stands where it acts; a further one acts on the model call.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from json import dumps
from typing import Any, Self

from gensynth.errors import UsageError, did_you_mean
from gensynth.values import (
    is_falling,
    is_guide,
    is_number,
    is_pair,
    is_respacing,
    is_whole,
    read_interval,
    read_options,
    read_size,
    read_timesteps,
    respacing_text,
)
from gensynth.whole import listed


@dataclass(frozen=True)
class Setting:
    """What is known of one setting.

    Attributes:
        help: what it does, for `--help`.
        kind: type of its value on the command line: int, float, str, or list[str] for an option
            that can be repeated.
        read: makes the value of what the command line gives.
        option: name of its option, without dashes; None for the setting's own.
        metavar: how `--help` writes the value.
        fits: whether a value can be meant, and `what` says what it must be.
        json: the value as JSON can hold it.
        write: the texts that the option is given on the command line, for a value as in JSON.
        check: of a further setting, the value that is used, given (pipeline, value).
        act: of a further setting, given (predict, value): another model call.
    """

    help: str
    kind: Any = str
    read: Callable[[Any], Any] = lambda given: given
    option: str | None = None
    metavar: str | None = None
    fits: Callable[[Any], bool] = lambda value: True
    what: str = ""
    json: Callable[[Any], Any] = lambda value: value
    write: Callable[[Any], list[str]] = lambda value: [str(value)]
    check: Callable[[Any, Any], Any] = lambda pipeline, value: value
    act: Callable[[Any, Any], Any] | None = None


# Settings that a sampler is made with; `samplers.registry` says which scheduler understands which.
OF_THE_WALK = ("timesteps", "timestep_respacing", "eta")
# Settings that do not come with the package, by name.
FURTHER: dict[str, Setting] = {}


def as_name(value: Any) -> str:
    """The name of a model, or of a pipeline that was loaded by it."""
    return value if isinstance(value, str) else value.name


def setting(help: str, **known: Any) -> Any:
    """A field of `Settings`; None, its default, leaves the choice to the model."""
    return field(default=None, metadata={"setting": Setting(help, **known)})


@dataclass(frozen=True)
class Settings:
    """How pictures are drawn; None leaves a choice to the model.

    Attributes:
        steps: along the path; most schedulers call the model once in each.
        guidance: scale: 1 is none, above 1 is more typical; below 1 towards no condition at all.
        negative: a prompt that guidance leads away from, instead of from no prompt.
        guidance_interval: noise levels (low, high), from 0 (data) to 1, between which guidance
            acts.
        guide: a worse model of the same kind, from which guidance leads away instead of from "no
            condition" (arXiv 2406.02507): a name, or a pipeline.
        size: height and width in pixels; one number for a square.
        scheduler: name of one that fits.
        scheduler_options: keywords of its constructor in which it differs from the model's.
        timesteps: of a diffusion's chain, from noise (999) to data (0); their number is `steps`.
        timestep_respacing: instead, as DiT writes it: how many steps in each of several equal
            sections of the chain, from data to noise ("10,20,30"), or with a whole stride
            ("ddim50").
        eta: noise that DDIM adds: 0 (none) to 1 (as much as DDPM).
        strategy: how a picture of another size than the model's is drawn, a name of
            `pipelines.highres.strategies`.
        strategy_options: keywords of the strategy.
        further: settings by the names of `FURTHER`.
    """

    steps: int | None = setting(
        "Steps from noise to data; most schedulers call the model once in each. "
        "[default: the model's]",
        kind=int,
        fits=is_whole,
        what="a whole number",
    )
    guidance: float | None = setting(
        "Guidance scale: 1 is none, above 1 more typical, 0 draws no class in particular. "
        "[default: the model's]",
        kind=float,
        fits=is_number,
        what="a number",
        write=lambda scale: [f"{float(scale)!r}".removesuffix(".0")],
    )
    negative: str | None = setting(
        "What the picture is not to show, for models of prompts. [default: nothing]",
        metavar="TEXT",
        fits=lambda value: isinstance(value, str),
        what="a text",
    )
    guidance_interval: tuple[float, float] | None = setting(
        "Noise levels, from 0 (data) to 1, where guidance acts. [default: the model's]",
        read=read_interval,
        metavar="LOW,HIGH",
        fits=lambda value: is_pair(value, is_number),
        what="two noise levels",
        json=list,
        write=lambda ends: ["{},{}".format(*ends)],
    )
    guide: Any = setting(
        "A worse model of the same kind to lead away from.",
        metavar="MODEL",
        fits=is_guide,
        what="the name of a model, or a pipeline",
        json=as_name,
    )
    size: Any = setting(
        "Height x width in pixels. [default: the model's]",
        read=read_size,
        metavar="N|HxW",
        fits=lambda value: is_whole(value) or is_pair(value, is_whole),
        what="a whole number of pixels, or height and width",
        json=list,
        write=lambda sides: [str(sides) if is_whole(sides) else "{}x{}".format(*sides)],
    )
    scheduler: str | None = setting(
        "A fitting scheduler or decoder. [default: the model's]",
        fits=lambda value: isinstance(value, str) and value != "",
        what="the name of a scheduler",
    )
    scheduler_options: Mapping[str, Any] | None = setting(
        "An option of the scheduler, such as top_k=50; repeatable.",
        kind=list[str],
        fits=lambda value: isinstance(value, Mapping) and all(isinstance(k, str) for k in value),
        what="names with values",
        read=read_options,
        option="option",
        metavar="KEY=VALUE",
        json=dict,
        write=lambda options: [f"{key}={dumps(value)}" for key, value in options.items()],
    )
    timesteps: Any = setting(
        "Timesteps of a diffusion to visit, from noise to data, in place of --steps.",
        read=read_timesteps,
        metavar="T,T,...",
        fits=is_falling,
        what="whole numbers from 0, each below the one before",
        json=list,
        write=lambda timesteps: [",".join(map(str, timesteps))],
    )
    timestep_respacing: Any = setting(
        "Steps of a diffusion as DiT counts them, in place of --steps: 10,20,30 for equal sections "
        "of the chain from data to noise, ddim50 for a whole stride.",
        metavar="N,N,...|ddimN",
        fits=is_respacing,
        what='numbers of steps, such as "10,20,30", or "ddim50"',
    )
    eta: float | None = setting(
        "Noise that DDIM adds: 0 (none) to 1 (as much as DDPM).",
        kind=float,
        fits=lambda value: is_number(value) and 0 <= value <= 1,
        what="a number from 0 to 1",
        write=lambda share: [f"{float(share)!r}".removesuffix(".0")],
    )
    strategy: str | None = setting(
        "How a picture larger than the model's is drawn: direct, progressive (drawn small, then "
        "enlarged and refined) or tiled (in windows). [default: direct]",
        fits=lambda value: isinstance(value, str) and value != "",
        what="the name of a strategy",
    )
    strategy_options: Mapping[str, Any] | None = setting(
        "An option of the strategy, such as strength=0.4; repeatable.",
        kind=list[str],
        fits=lambda value: isinstance(value, Mapping) and all(isinstance(k, str) for k in value),
        what="names with values",
        read=partial(read_options, option="--strategy-option", example="strength=0.4"),
        option="strategy-option",
        metavar="KEY=VALUE",
        json=dict,
        write=lambda options: [f"{key}={dumps(value)}" for key, value in options.items()],
    )
    further: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = known_settings()
        for name in self.further:
            if name not in FURTHER:
                raise _unknown(name)
        for name, value in self.given().items():
            if not known[name].fits(value):
                raise UsageError(f"{name} must be {known[name].what}, got {value!r}.")
        # One form for each meaning, so that equal settings are equal and JSON can hold them.
        if self.steps is not None:
            object.__setattr__(self, "steps", int(self.steps))
        if self.guidance is not None and not isinstance(self.guidance, int):
            object.__setattr__(self, "guidance", float(self.guidance))
        if self.size is not None:
            height, width = (self.size, self.size) if is_whole(self.size) else self.size
            object.__setattr__(self, "size", (int(height), int(width)))
        if self.guidance_interval is not None:
            low, high = map(float, self.guidance_interval)
            object.__setattr__(self, "guidance_interval", (low, high))
        if self.timesteps is not None:
            object.__setattr__(
                self, "timesteps", tuple(map(int, listed(self.timesteps, "timesteps")))
            )
        if self.timestep_respacing is not None:
            object.__setattr__(self, "timestep_respacing", respacing_text(self.timestep_respacing))

    @property
    def fixes_steps(self) -> bool:
        """Whether the number of steps follows from the other settings."""
        return self.timesteps is not None or self.timestep_respacing is not None

    def of_the_walk(self) -> dict[str, Any]:
        """What a sampler is made with: settings that not every scheduler understands."""
        return {name: self.get(name) for name in OF_THE_WALK if self.get(name) is not None}

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Settings by name, further ones among them.

        Raises:
            UsageError: there is no such setting; the message names the nearest.
        """
        for name in values:
            if name not in known_settings():
                raise _unknown(name)
        further = {key: values.pop(key) for key in list(values) if key in FURTHER}
        return cls(**values, further={k: v for k, v in further.items() if v is not None})

    def get(self, name: str) -> Any:
        """The value of a setting by name; None if it is left to the model."""
        return self.further.get(name) if name in FURTHER else getattr(self, name)

    def given(self) -> dict[str, Any]:
        """The settings that are not left to the model, by name."""
        values = {name: self.get(name) for name in known_settings()}
        return {name: value for name, value in values.items() if value is not None}

    def but(self, **changes: Any) -> Self:
        """These settings with some others; None leaves a choice to the model."""
        return type(self).of(**{**self.given(), **changes})

    def to_json(self) -> dict[str, Any]:
        """What is given, as JSON can hold it; `from_json` reads it."""
        known = known_settings()
        return {name: known[name].json(value) for name, value in self.given().items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The settings that `to_json` wrote; other keys of a recipe beside them are left alone."""
        known = {key: value for key, value in content.items() if key in known_settings()}
        for pair in ("size", "guidance_interval"):
            if isinstance(known.get(pair), list):
                known[pair] = tuple(known[pair])  # JSON has no tuples
        return cls.of(**known)


def _unknown(name: str) -> UsageError:
    known = known_settings()
    return UsageError(
        f"there is no setting {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}."
    )


def known_settings() -> dict[str, Setting]:
    """Every setting by name, in the order in which they are shown."""
    own = {f.name: f.metadata["setting"] for f in fields(Settings) if "setting" in f.metadata}
    return own | FURTHER


def option_of(name: str) -> str:
    """The command line's option of a setting: "--guidance-interval"."""
    return "--" + (known_settings()[name].option or name.replace("_", "-"))


def as_options(content: Mapping[str, Any]) -> list[str]:
    """The words of a command line for settings as `Settings.to_json` writes them."""
    return [
        word
        for name, about in known_settings().items()
        if content.get(name) is not None
        for text in about.write(content[name])
        for word in (option_of(name), text)
    ]
