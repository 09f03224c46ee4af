"""How a pretrained pipeline is loaded: numbers, memory. Nothing heavy is imported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from gensynth.errors import UsageError, did_you_mean
from gensynth.values import read_options

DTYPES = {"float32": "float32", "bf16": "bfloat16", "fp16": "float16"}
OFFLOADS = ("none", "model", "sequential")
HELP = (
    "How a pretrained pipeline of diffusers is loaded; repeatable: dtype=bf16|fp16|float32, "
    "offload=model|sequential, vae_tiling=true, vae_slicing=true."
)


@dataclass(frozen=True)
class LoadOptions:
    """
    Attributes:
        dtype: what the networks compute in: "bf16", "fp16" or "float32". [default: on a GPU bf16,
            or fp16 where it has none; else float32]
        offload: "model" keeps on the GPU only the network that is at work, "sequential" only its
            layer, the others in memory; slower.
        vae_tiling: decodes a picture in tiles, for large ones; seams are blended.
        vae_slicing: decodes the pictures of a batch one after the other.
    """

    dtype: str | None = None
    offload: str = "none"
    vae_tiling: bool = False
    vae_slicing: bool = False

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in list(DTYPES):  # a list has no hash
            raise UsageError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}.")
        if self.offload not in OFFLOADS:
            raise UsageError(f"offload must be one of {', '.join(OFFLOADS)}, got {self.offload!r}.")
        for name in ("vae_tiling", "vae_slicing"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} must be true or false, got {getattr(self, name)!r}.")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """
        Raises:
            UsageError: an unknown name, or a value that is none.
        """
        known = [one.name for one in fields(cls)]
        for name in options:
            if name not in known:
                raise UsageError(
                    f"there is no option {name!r} of loading.{did_you_mean(name, known)} "
                    f"Known: {', '.join(known)}."
                )
        return cls(**options)

    @classmethod
    def read(cls, texts: Sequence[str]) -> Self:
        """The options in texts like "dtype=bf16", as the command line has them."""
        return cls.of(read_options(texts, "--load", "dtype=bf16") or {})

    def given(self) -> dict[str, Any]:
        """Those that are not the defaults, by name."""
        own = {one.name: (getattr(self, one.name), one.default) for one in fields(self)}
        return {name: value for name, (value, default) in own.items() if value != default}

    def lighter(self, device: str) -> list[str]:
        """Options of the command line that let networks take less memory of a kind of device."""
        ways = {"none": ["offload=model"], "model": ["offload=sequential"], "sequential": []}
        found = ways[self.offload] if device == "cuda" else []
        if self.dtype == "float32" or (self.dtype is None and device == "cpu"):
            found = [*found, "dtype=bf16"]
        return [f"--load {one}" for one in found]

    def lighter_decoding(self) -> list[str]:
        """Options of the command line that let a picture take less memory."""
        return [] if self.vae_tiling else ["--load vae_tiling=true"]


def as_loaded(facts: Mapping[str, Any]) -> list[str]:
    """The options of the command line that load a pipeline as its facts say.

    Args:
        facts: `PretrainedPipeline.facts`, or a recipe, which has these too.
    """
    names = {long: short for short, long in DTYPES.items()}
    dtype, variant = str(facts.get("dtype")), facts.get("variant")
    words = ["--load", f"dtype={names[dtype]}"] if dtype in names else []
    words += ["--load", "vae_tiling=true"] if facts.get("vae_tiling") is True else []
    return [*words, "--variant", variant] if isinstance(variant, str) else words


def check_own(options: LoadOptions, model: str) -> None:
    """Refuses options for a model of gensynth itself.

    Raises:
        UsageError: one is given.
    """
    if options.given():
        names = ", ".join(options.given())
        raise UsageError(
            f"{model} is no pipeline of diffusers but one of gensynth, which is loaded whole and "
            f"in float32; leave out {names}."
        )
