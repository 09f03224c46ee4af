"""A finished model by folder, run, name or hub id."""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

from gensynth.autoencoders import AUTOENCODERS
from gensynth.errors import CorruptError, InputError, RefusedError, UsageError
from gensynth.models import MODELS
from gensynth.pipelines import PIPELINES
from gensynth.pipelines.foreign import about_model, about_pipeline
from gensynth.pipelines.saving import SavedPipeline
from gensynth.pretrained import DEFAULT, PRETRAINED
from gensynth.samplers.registry import SAMPLERS
from gensynth.settings import Settings

INDEX = "model_index.json"
PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
# Modules that folders of earlier versions name, whose classes have moved.
MOVED = (
    *("gensynth.schedulers", "gensynth.flow_schedulers", "gensynth.token_decoders"),
    "gensynth.samplers.respaced_ddim",
)


def parts() -> dict[str, type[ConfigMixin]]:
    """Every class that a model folder may name, by its name.

    The folder's word never imports anything: a class is looked up here, or among what diffusers
    exports, and the module beside it in the folder only has to be one that the class has been in.
    """
    models = [model_class for model_class, _ in MODELS.values()]
    classes = [
        *AUTOENCODERS.values(),
        *models,
        *(entry.kind for entry in SAMPLERS.values() if entry.kind),
    ]
    return {part.__name__: part for part in classes}


def load(model: str | Path = DEFAULT, device: str | torch.device = "auto") -> Any:
    """The pipeline of a finished model, ready to be called, in float32.

    Most are a `ClassConditionalPipeline`; all that draw keep to `pipelines.contract.Pipeline`.

    Args:
        model: a name in `PRETRAINED`, a pipeline folder, the output folder of a run (the newest
            checkpoint's averaged weights if the run is not finished), or a hub id "owner/name".
        device: "auto" (CUDA if there is one), "cpu", "cuda:1", ...

    Raises:
        InputError: there is no such model, or the folder is not one.
        RefusedError: the folder names code from elsewhere, or the file is a pickle.
        CorruptError: the weights are damaged or belong to another model, or the tokenizer is not
            the one that the model was trained with.
    """
    folder = resolve(model)
    pipeline_class = _checked_index(folder)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    diffusers_logging.disable_progress_bar()
    try:
        pipeline = _opened(folder, pipeline_class)
    except UsageError as error:  # parts that are not each other's
        raise CorruptError(f"{folder} cannot be loaded: {error}") from error
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError) as error:
        raise CorruptError(
            f"{folder} cannot be loaded: its files are damaged or do not belong together "
            f"({_first_line(error)}). Fetch or export the model again."
        ) from error
    for name, part in pipeline.components.items():
        if isinstance(part, ModelMixin):
            _check_weights(folder / name, part)
    pipeline.condition = pipeline.condition.load(folder)
    pipeline.name = str(model)
    pipeline.model.to(memory_format=torch.channels_last)  # the layout, not the values
    pipeline.model.eval()
    return pipeline.to(device)


def with_guide(settings: Settings, device: str | torch.device = "auto") -> Settings:
    """The settings with their guide loaded, if they name one."""
    if not isinstance(settings.guide, str):
        return settings
    return settings.but(guide=load(settings.guide, device))


def resolve(model: str | Path) -> Path:
    """The pipeline folder that a model argument of `load` means."""
    if str(model) in PRETRAINED:
        return PRETRAINED[str(model)]
    path = Path(model)
    if path.is_file():
        if path.suffix in PICKLES:
            raise RefusedError(
                f"{path} is a pickle file, which can run code when loaded. Give a model folder "
                "with safetensors; gensynth convert makes one of a published checkpoint."
            )
        raise InputError(f"{path} is a file; give the model's folder.")
    if path.is_dir():
        return _pipeline_folder(path)
    if str(model).count("/") == 1 and not str(model).startswith((".", "/")):
        return _from_hub(str(model))
    raise InputError(
        f"there is no model {str(model)!r}: not a folder here, not a hub id (owner/name), and not "
        f"one that comes with gensynth ({', '.join(PRETRAINED)})."
    )


def _pipeline_folder(path: Path) -> Path:
    finished = [path, path / "model"]
    unfinished = sorted(path.glob("checkpoints/step-????????/model"), reverse=True)
    for folder in [*finished, *unfinished]:
        if (folder / INDEX).is_file():
            return folder
    part = path / "config.json"
    about = about_model(path, read_json(part)) if part.is_file() else None
    raise InputError(
        about or f"{path} is neither a model folder nor a run with a checkpoint: no {INDEX} there."
    )


def _from_hub(name: str) -> Path:
    try:
        # Neither pickles nor Python files: nothing that could run.
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.md"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"there is no folder {name!r} here, and as a hub id it cannot be fetched: "
            f"{_first_line(error)}. Check the name, or use one of: {', '.join(PRETRAINED)}."
        ) from error


def _checked_index(folder: Path) -> type[SavedPipeline]:
    index = read_json(folder / INDEX)
    class_name = index.get("_class_name") if isinstance(index, dict) else None
    if not isinstance(class_name, str):
        raise CorruptError(f"{folder / INDEX} does not say which pipeline it describes.")
    if class_name not in PIPELINES:
        about = about_pipeline(folder, class_name, index)
        raise InputError(f"{about} Its own pipelines: {', '.join(PIPELINES)}.")
    for part, entry in index.items():
        if isinstance(entry, list):
            _check_part(folder, part, entry)
    for weights_index in folder.rglob("*.index.json"):
        _check_shards(weights_index)
    return PIPELINES[class_name]


def _check_part(folder: Path, part: str, entry: list[Any]) -> None:
    if len(entry) != 2 or not all(isinstance(name, str) for name in entry):
        raise CorruptError(f"{folder / INDEX}: {part} should name a module and a class.")
    _class_of(folder, part, entry)
    if not (folder / part).is_dir():
        raise CorruptError(f"{folder}: the folder {part}/ is missing.")


def _class_of(folder: Path, part: str, entry: list[str]) -> type[ConfigMixin]:
    """The class that `[module, class]` of an index means."""
    module, name = entry
    known = parts()
    if module == "diffusers":
        own = SAMPLERS[name].kind if name in SAMPLERS else None  # takes the steps of diffusers' own
        found = own or getattr(diffusers, name, None)
        if isinstance(found, type) and issubclass(found, ModelMixin | SchedulerMixin):
            return found
    elif name in known and module in (known[name].__module__, *MOVED):
        return known[name]
    elif module in (*MOVED, *(own.__module__ for own in known.values())):
        raise InputError(
            f"{folder}: its {part} is a {name}, which this version of gensynth does not know. "
            "A newer version may have written it, or a file of your own that is not imported."
        )
    raise RefusedError(f"{folder}: its {part} wants to import {module!r}, which is refused.")


def _opened(folder: Path, pipeline_class: type[SavedPipeline]) -> SavedPipeline:
    """The pipeline of a checked folder, part by part, in float32 and from safetensors only."""
    settings, loaded = {}, {}
    for key, value in read_json(folder / INDEX).items():
        if isinstance(value, list):
            kind: Any = _class_of(folder, key, value)
            how: dict[str, Any] = {}
            if issubclass(kind, ModelMixin):
                how = {"use_safetensors": True, "torch_dtype": torch.float32}
                how["low_cpu_mem_usage"] = False
            loaded[key] = kind.from_pretrained(str(folder / key), **how)
        elif not key.startswith("_"):  # _class_name, _diffusers_version
            settings[key] = value
    return pipeline_class(**loaded, **settings)


def _check_shards(weights_index: Path) -> None:
    content = read_json(weights_index)
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict):
        raise CorruptError(f"{weights_index} has no weight_map.")
    for name in set(map(str, shards.values())):
        # A bare name only: slashes could lead out of the folder.
        if Path(name).name != name or not (weights_index.parent / name).is_file():
            raise RefusedError(f"{weights_index} names {name!r}, which is not a file beside it.")


def _check_weights(folder: Path, model: ModelMixin) -> None:
    # diffusers leaves a missing tensor at its random start and only logs it.
    stored: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            stored |= set(tensors.keys())
    expected = set(model.state_dict())
    if stored != expected:
        missing, extra = sorted(expected - stored)[:3], sorted(stored - expected)[:3]
        raise CorruptError(
            f"the weights in {folder} are not those of its config.json: missing {missing}, "
            f"unexpected {extra}. Fetch or export the model again."
        )


def read_json(file: Path) -> Any:
    """The content of a JSON file of a model.

    Raises:
        CorruptError: it is missing or not JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CorruptError(f"{file.parent}: {file.name} is missing.") from error
    except (OSError, ValueError) as error:
        raise CorruptError(f"{file} is not readable: {_first_line(error)}.") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
