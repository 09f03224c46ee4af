"""`gensynth convert`: a published checkpoint -> a finished pipeline folder."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError
from torch import Tensor

from gensynth.autoencoders import KLAutoencoder
from gensynth.config import parse_yaml
from gensynth.convert import SYSTEMS, differences, rename
from gensynth.convert.reading import State, read_state
from gensynth.errors import CorruptError, OutputError, RefusedError, UsageError
from gensynth.files import new_folder
from gensynth.models import MODELS, constructor_keywords, create_model, preset
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.schedulers import create_scheduler

DEFAULT_VAE = "stabilityai/sd-vae-ft-ema"
# How the names of a system's presets start.
FAMILIES = {"dico": "DiCo-", "dic": "DiC-", "dit": "DiT-", "sit": "SiT-", "mdt": "MDTv2-"}
SHOWN = 4  # differences named in an error
CONVNET_SIZE = 256  # pixels; nothing in a ConvNet's tensors tells, and 256 is what was published
IMAGENET = 1000  # a class table of this length has no row for the null label; any other has

# How each system's published tables were drawn; DiC does not say and has DiT's.
STEPS = 250
_DDPM = {"prediction": "epsilon", "guidance": 1.5}
DRAWN: dict[str, dict[str, Any]] = {
    "dit": _DDPM,
    "dic": _DDPM,
    "dico": {**_DDPM, "guidance": 1.4},
    "mdt": {
        **_DDPM,
        "guidance": 3.8,
        "guidance_schedule": "power-cosine",
        "guidance_power": 4.0,
    },
    "sit": {"prediction": "velocity", "guidance": 1.5},
}
SCHEDULERS = {"sit": "FlowSDEScheduler"}  # of the others the default, DDPM


@dataclass(frozen=True)
class Converted:
    """What `convert` wrote."""

    folder: Path
    system: str
    model: str  # name of the preset
    parameters: int
    part: str | None  # of the checkpoint, see `State`
    size: int  # pixels
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Lines for a terminal."""
        parts = {
            None: "the file's only weights (it does not say whether they are averaged)",
            "ema": "EMA weights",
        }
        which = parts.get(self.part, f"raw weights ('{self.part}'; there are no EMA weights)")
        notes = "".join(f"note: {note}\n" for note in self.notes)
        return (
            f"{notes}{self.system}: {self.model} at {self.size} pixels, "
            f"{self.parameters:,} parameters, {which}\n"
            f"sample: gensynth sample --model {self.folder}"
        )


def convert(
    system: str,
    checkpoint: Path,
    out: Path,
    model: str | None = None,
    vae: str | None = None,
    size: int | None = None,
    changes: Sequence[str] = (),
) -> Converted:
    """Writes the pipeline folder of a published checkpoint, whole or not at all.

    Args:
        checkpoint: a file of `torch.save` or safetensors, under the official names.
        out: a folder that is not there yet, or empty.
        model: a preset; None: the one whose tensors have these names and shapes.
        vae: folder or hub id of a diffusers AutoencoderKL; None: `DEFAULT_VAE`.
        size: pixels; None: the size of the position table, or 256 for a ConvNet.
        changes: "key=value" of keywords in which the model differs from `model`.

    Raises:
        UsageError: a checkpoint of another system or size, with the differences.
        InputError, RefusedError, CorruptError: a file or VAE that is missing, unsafe or damaged.
        OutputError: `out` cannot be written.
    """
    if system not in FAMILIES:
        raise UsageError(f"--from must be one of {', '.join(FAMILIES)}, got {system!r}.")
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise RefusedError(f"{out} exists and is not an empty folder; choose another --out.")
    if changes and model is None:
        raise UsageError("--config changes keywords of a named size; give --model too.")
    state = read_state(checkpoint)
    _check_system(system, state, checkpoint)
    tensors = rename(system, state.tensors)
    name, keywords = matching_size(system, tensors, model, _parsed(changes, model))
    vae = vae or DEFAULT_VAE
    codec = KLAutoencoder.open(vae)
    built = _filled(name, keywords, tensors, checkpoint)
    pipeline = _pipeline(system, built, codec, vae, size)
    _write(pipeline, out)
    parameters = sum(parameter.numel() for parameter in built.parameters())
    drawn = pipeline.config.size
    notes = []
    if system in ("dit", "sit"):
        other = {"dit": "SiT", "sit": "DiT"}[system]
        notes.append(f"a {other} checkpoint would look the same; --from decides which it is.")
    trained = _trained_size(keywords, codec.patch)
    if trained is not None and trained != drawn:
        notes.append(f"its positions were trained at {trained} pixels; it will draw at {drawn}.")
    return Converted(out, system, name, parameters, state.part, drawn, tuple(notes))


def _trained_size(keywords: Mapping[str, Any], patch: int) -> int | None:
    """Pixels of a side at which a table of positions was trained; None without one."""
    side = keywords.get("input_size")
    return side * patch if isinstance(side, int) else None


def _write(pipeline: ClassConditionalPipeline, out: Path) -> None:
    try:
        with new_folder(out) as folder:
            pipeline.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {out}: {error}.") from error


def _parsed(changes: Sequence[str], model: str | None) -> dict[str, Any]:
    parsed = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise UsageError(f"--config must look like key=value, got {change!r}.")
        known = constructor_keywords(model or "")
        if key not in known:
            raise UsageError(f"{model} has no keyword {key!r}. Known: {', '.join(known)}.")
        parsed[key] = parse_yaml(text, f"--config {change}")
    return parsed


def _check_system(system: str, state: State, checkpoint: Path) -> None:
    """Refuses a state whose names are another system's. Those of DiT and SiT are the same."""
    shares = {
        known: sum(name.startswith(tuple(SYSTEMS[known].NAMES.prefixes)) for name in state.tensors)
        / len(state.tensors)
        for known in FAMILIES
    }
    best = max(shares.values())
    alike = [known for known, share in shares.items() if share == best and best > 0.5]
    if not alike:
        some = ", ".join(list(state.tensors)[:SHOWN])
        raise UsageError(
            f"{checkpoint} is not a checkpoint of {', '.join(FAMILIES)}: its tensors are called "
            f"{some}, ..."
        )
    if system not in alike:
        names = " or ".join(FAMILIES[known].rstrip("-") for known in alike)
        flags = " or ".join(f"--from {known}" for known in alike)
        raise UsageError(f"{checkpoint} looks like a {names} checkpoint: {flags}.")


def matching_size(
    system: str, tensors: Mapping[str, Tensor], model: str | None, changes: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The preset that the tensors are of, and the keywords in which they differ from it.

    Raises:
        UsageError: there is none, with the differences to the nearest.
    """
    family = [name for name in MODELS if name.startswith(FAMILIES[system])]
    if model is not None:
        preset(model)  # raises for an unknown name
        family = [name for name in family if name.lower() == model.lower()]
        if not family:
            raise UsageError(f"--model {model} is not a {FAMILIES[system].rstrip('-')}.")
    compared = []
    for name in family:
        keywords = {**inferred(system, name, tensors, changes), **changes}
        try:
            with torch.device("meta"):
                own = create_model(name, **keywords).state_dict()
        except (ValueError, TypeError, RuntimeError) as error:
            if changes:
                raise UsageError(f"{name} cannot be built with {changes}: {error}.") from error
            continue  # a patch that does not divide the picture
        problems = differences(system, tensors, own)
        if not problems:
            return name, keywords
        compared.append((len(problems), name, problems))
    if not compared:
        raise UsageError(f"no {FAMILIES[system].rstrip('-')} has positions of this number.")
    raise UsageError(_explain(*min(compared)[1:], named=model is not None))


def _explain(name: str, problems: list[str], named: bool) -> str:
    counts = {
        kind: sum(problem.startswith(kind) for problem in problems)
        for kind in ("missing", "unexpected")
    }
    counts["of another shape"] = len(problems) - sum(counts.values())
    total = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    whose = "these are not the weights of" if named else "no known size has these weights; nearest:"
    more = "; ..." if len(problems) > SHOWN else ""
    return (
        f"{whose} {name}: {total} ({'; '.join(problems[:SHOWN])}{more}). For a size of your own "
        "give --model NAME and --config KEY=VALUE for each keyword that differs from it."
    )


def inferred(
    system: str, name: str, tensors: Mapping[str, Tensor], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """What the tensors say about channels, classes, variance and size, as keywords of a preset.

    What a tensor should say that is missing stays as in the preset.
    """

    def length(tensor: str, axis: int) -> int | None:
        found = tensors.get(tensor)
        return found.shape[axis] if found is not None and found.ndim > axis else None

    keywords: dict[str, Any] = {}
    transformer = "patch_size" in preset(name)[1]
    patch = length("patch_embed.proj.weight", 2) if transformer else 1
    channels = length("patch_embed.proj.weight" if transformer else "stem.weight", 1)
    outputs = length(f"final_layer.{'proj' if transformer else 'conv'}.weight", 0)
    if channels is not None:
        keywords["in_channels"] = channels
        if outputs and patch:
            keywords["learn_sigma"] = outputs // patch**2 == 2 * channels
            if system == "sit":
                keywords["discard_sigma"] = keywords["learn_sigma"]
    rows = length(f"class_embedder{'' if transformer else 's.0'}.weight", 0)
    if rows is not None:
        null_label = bool(changes.get("null_label", rows != IMAGENET))
        keywords |= {"num_classes": rows - null_label, "null_label": null_label}
    tokens = length("token_positions.table", 1)
    if tokens is not None:
        own_patch = changes.get("patch_size", preset(name)[1]["patch_size"])
        keywords["input_size"] = math.isqrt(tokens) * own_patch
    if system == "mdt":
        blocks = {key.split(".")[1] for key in tensors if key.startswith("decoder.")}
        keywords["decode_layer"] = len(blocks)
    return keywords


def _filled(
    name: str, keywords: dict[str, Any], tensors: dict[str, Tensor], checkpoint: Path
) -> ModelMixin:
    """The model with the checkpoint's weights, in float32."""
    spoilt = [key for key, tensor in tensors.items() if not tensor.isfinite().all()]
    if spoilt:
        raise CorruptError(f"{checkpoint} has weights that are not finite: {spoilt[0]}, ...")
    with torch.random.fork_rng(devices=[]):
        model = create_model(name, **keywords)
    model.load_state_dict(tensors)
    return model.eval()


def _pipeline(
    system: str, model: ModelMixin, codec: KLAutoencoder, vae: str, size: int | None
) -> ClassConditionalPipeline:
    """The pipeline that draws as the system's published tables were."""
    drawn = DRAWN[system]
    channels = codec.config.latent_channels
    if model.config.in_channels != channels:
        raise UsageError(
            f"the model works on {model.config.in_channels} channels and the VAE {vae} has "
            f"{channels}; give the one it was trained with: --vae."
        )
    latent = model.config.get("input_size")
    if size is None:
        if latent is not None and not isinstance(latent, int):
            raise UsageError(f"the model is of {latent[0]}x{latent[1]} latents; give a --size.")
        size = CONVNET_SIZE if latent is None else latent * codec.patch
    multiple = model.size_multiple * codec.patch
    if size < multiple or size % multiple:
        raise UsageError(f"--size must be a multiple of {multiple} pixels, got {size}.")
    if not model.config.null_label:
        drawn = {**drawn, "guidance": 1.0}
    scheduler = create_scheduler(SCHEDULERS.get(system), drawn["prediction"])
    return ClassConditionalPipeline(
        model, scheduler, codec, size=size, steps=STEPS, guided_channels=3, **drawn
    )
