"""A folder that diffusers saved -> the pipeline, from safetensors and without code of its own."""

import inspect
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gensynth.conditions.encoder_files import OLDER_WORDS, WORDS
from gensynth.errors import CorruptError, InputError, RefusedError, UsageError
from gensynth.pipelines.finding import INDEX
from gensynth.pipelines.parts import CONFIG, SCHEDULER, check_numbers, telling_damage
from gensynth.pipelines.pretrained.families import FAMILIES, LEFT_OUT, OPTIONAL
from gensynth.pipelines.pretrained.options import DTYPES, LoadOptions
from gensynth.pipelines.pretrained.pipeline import PretrainedPipeline
from gensynth.pipelines.pretrained.quiet import quietly
from gensynth.pipelines.pretrained.together import check_readers, check_together
from gensynth.stored import check_finite, check_fit, choose_variant, read_json
from gensynth.system.memory import LESS, telling_full

Entries = dict[str, Any]  # part -> its class
# What a part has to be, by the start of its name.
KINDS = {
    "scheduler": SchedulerMixin,
    "vae": ModelMixin,
    "unet": ModelMixin,
    "transformer": ModelMixin,
    "text_encoder": PreTrainedModel,
    "tokenizer": PreTrainedTokenizerBase,
}
DECODERS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "AsymmetricAutoencoderKL")
ADAPTER = "adapter_config.json"  # of peft, which transformers loads by itself
HALF = (8, 0)  # the first GPUs that compute in bf16, by CUDA's "compute capability"


def open_pretrained(
    model: str,
    folder: Path,
    index: Mapping[str, Any],
    device: torch.device,
    variant: str | None,
    options: LoadOptions,
) -> PretrainedPipeline:
    """The pipeline of a folder, on a device.

    Args:
        model: what it was asked for as.
        index: what its `model_index.json` says, of a class in `FAMILIES`.

    Raises:
        InputError, RefusedError, CorruptError, UsageError: as `gensynth.load`.
    """
    if options.offload != "none" and device.type == "cpu":
        where = "it is loaded on the CPU" if torch.cuda.is_available() else "there is no GPU here"
        raise UsageError(
            f"offload moves networks between a GPU and memory, and {where}; leave it out."
        )
    name = str(index["_class_name"])
    with quietly():
        kind = getattr(diffusers, name)
        entries = checked_entries(folder, index, kind)
        check_readers(folder, entries, kind)
        variants = check_parts(folder, entries, variant)
        lighter = ", ".join([*options.lighter(device.type), LESS])
        with telling_full(f"{model} cannot be loaded", lighter):
            with telling_damage(folder):
                parts = load_parts(folder, entries, variants, dtype_of(options, device))
                check_together(folder, FAMILIES[name], parts)
                inner = kind(**{**_left_out(kind), **parts, **_settings(index, kind)})
            for part, loaded in parts.items():
                if isinstance(loaded, torch.nn.Module):
                    check_finite(loaded.eval(), str(folder / part))
            inner.set_progress_bar_config(disable=True)
            _place(inner, device, options)
    pipeline = PretrainedPipeline(inner, options, variant)
    pipeline.name = model
    return pipeline


def dtype_of(options: LoadOptions, device: torch.device) -> torch.dtype:
    """What networks compute in: as asked, else 16 bits on a GPU and float32 elsewhere."""
    if options.dtype is not None:
        return getattr(torch, DTYPES[options.dtype])
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= HALF else torch.float16


def checked_entries(folder: Path, index: Mapping[str, Any], kind: Any) -> Entries:
    """The parts of a folder and their classes; the folder's word imports nothing.

    Raises:
        CorruptError: a part is missing, or is none of what it should be.
        InputError, RefusedError: a class that is not known, or from elsewhere.
    """
    takes = inspect.signature(kind.__init__).parameters
    optional = OPTIONAL.get(kind.__name__, ())
    entries: Entries = {}
    for part, entry in index.items():
        if not isinstance(entry, list) or part in LEFT_OUT:
            continue
        if part not in takes:
            raise InputError(
                f"{folder}: a {kind.__name__} of diffusers {diffusers.__version__} has no part "
                f"{part!r}. A newer one may have written it, or code of its own draws with it."
            )
        if entry != [None, None]:
            entries[part] = _class_of(folder, part, entry)
    for part, about in takes.items():
        needed = about.default is inspect.Parameter.empty and part not in ("self", *LEFT_OUT)
        if needed and part not in (*entries, *optional):
            raise CorruptError(f"{folder / INDEX} names no {part}, which a {kind.__name__} needs.")
        if part in entries and not (folder / part).is_dir():
            raise CorruptError(f"{folder}: the folder {part}/ is missing.")
    return entries


def _class_of(folder: Path, part: str, entry: list[Any]) -> Any:
    """The class that `[module, class]` of an index means."""
    if len(entry) != 2 or not all(isinstance(name, str) for name in entry):
        raise CorruptError(f"{folder / INDEX}: {part} should name a module and a class.")
    module, name = entry
    libraries = {"diffusers": diffusers, "transformers": transformers}
    if module not in libraries:
        raise RefusedError(f"{folder}: its {part} wants to import {module!r}, which is refused.")
    found = getattr(libraries[module], name, None)
    start = part.rstrip("_23")
    if not (isinstance(found, type) and issubclass(found, KINDS.get(start, object))):
        raise InputError(
            f"{folder}: its {part} is a {name}, which the {module} installed here does not know as "
            "such. A newer one may."
        )
    if start == "vae" and name not in DECODERS:
        raise InputError(f"{folder}: its vae is a {name}; known are {', '.join(DECODERS)}.")
    return found


def check_parts(folder: Path, entries: Entries, variant: str | None) -> dict[str, str | None]:
    """Looks at what the parts are made of before one of them is made.

    Returns:
        The variant of the weights of each part that has weights.

    Raises:
        CorruptError, RefusedError: pickles, or weights that do not fit their configuration.
        InputError: a variant that is not there, or several and none was asked for.
    """
    networks = {
        part: kind
        for part, kind in entries.items()
        if issubclass(kind, ModelMixin | PreTrainedModel)
    }
    chosen = choose_variant([folder / part for part in networks], variant)
    for part, kind in networks.items():
        place = folder / part
        if (place / ADAPTER).is_file():
            raise RefusedError(
                f"{place / ADAPTER}: an adapter in the place of a part would be loaded unseen; "
                "take its files away, and load it into the pipeline's .inner afterwards."
            )
        if issubclass(kind, ModelMixin):
            # Autoencoders of Stable Diffusion 1 and 2 have older names, which diffusers translates.
            check_fit(kind, place, chosen[place], names=part != "vae")
        else:  # transformers renames some tensors while it reads them

            def made(config: dict[str, Any], kind: Any = kind) -> torch.nn.Module:
                return kind(kind.config_class.from_dict(config))

            check_fit(kind, place, chosen[place], names=False, make=made)
    if "scheduler" in entries:
        file = folder / "scheduler" / SCHEDULER
        config = read_json(file)
        if not isinstance(config, dict):
            raise CorruptError(f"{file} holds no settings.")
        check_numbers(config, file)
    return {part: chosen[folder / part] for part in networks}


def load_parts(
    folder: Path, entries: Entries, variants: Mapping[str, str | None], dtype: torch.dtype
) -> dict[str, Any]:
    """The parts of a checked folder.

    Raises:
        CorruptError: a part lacks weights.
    """
    loaded: dict[str, Any] = {}
    for part, kind in entries.items():
        place = str(folder / part)
        if issubclass(kind, PreTrainedModel):
            loaded[part], report = kind.from_pretrained(
                place,
                dtype=dtype,
                variant=variants[part],
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            _check_whole(folder / part, report)
        elif issubclass(kind, ModelMixin):
            how = {"use_safetensors": True, "dtype": dtype, "variant": variants[part]}
            loaded[part], report = kind.from_pretrained(place, output_loading_info=True, **how)
            _check_whole(folder / part, report)
        else:
            if issubclass(kind, PreTrainedTokenizerBase):
                _check_words(folder / part)
            loaded[part] = kind.from_pretrained(place, local_files_only=True)
    return loaded


def _check_whole(folder: Path, report: Mapping[str, Any]) -> None:
    """
    Raises:
        CorruptError: weights were not there, and would be random.
    """
    if report["missing_keys"]:
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise CorruptError(f"{folder / CONFIG}: the weights beside it lack {some}.")


def _check_words(folder: Path) -> None:
    """Refuses a tokenizer without words, of which transformers would make one of three tokens.

    Raises:
        CorruptError: no words are there.
        InputError: they are in a file that another library reads.
    """
    there = {file.name for file in folder.iterdir()}
    if there & {WORDS, "vocab.json"}:
        return
    pieces = sorted(there.intersection(OLDER_WORDS))
    if not pieces:
        raise CorruptError(f"{folder} holds no words: {WORDS} is missing.")
    if pieces[0].endswith(".model") and find_spec("sentencepiece") is None:
        raise InputError(
            f"{folder / pieces[0]} is read by the library sentencepiece, which is not installed: "
            "pip install sentencepiece."
        )


def _left_out(kind: Any) -> dict[str, None]:
    takes = inspect.signature(kind.__init__).parameters
    return {part: None for part in (*LEFT_OUT, *OPTIONAL.get(kind.__name__, ())) if part in takes}


def _settings(index: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """What an index says beside its parts, as far as the class takes it."""
    takes = inspect.signature(kind.__init__).parameters
    said = {
        key: value for key, value in index.items() if key in takes and not isinstance(value, list)
    }
    forced = {"requires_safety_checker": False, "add_watermarker": False}
    return said | {key: value for key, value in forced.items() if key in takes}


def _place(inner: Any, device: torch.device, options: LoadOptions) -> None:
    if options.vae_slicing or options.vae_tiling:
        try:
            if options.vae_slicing:
                inner.vae.enable_slicing()
            if options.vae_tiling:
                inner.vae.enable_tiling()
        except NotImplementedError as error:
            name = type(inner.vae).__name__
            raise UsageError(f"its {name} knows no slices or tiles; leave them out.") from error
    if options.offload == "model":
        inner.enable_model_cpu_offload(device=device)
    elif options.offload == "sequential":
        inner.enable_sequential_cpu_offload(device=device)
    else:
        inner.to(device)
