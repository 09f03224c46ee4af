"""A model folder -> the parts that its index names: checked, then loaded."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

import diffusers
import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError

from gensynth.autoencoders import AUTOENCODERS
from gensynth.errors import (
    CorruptError,
    GensynthError,
    InputError,
    RefusedError,
    UsageError,
    first_line,
)
from gensynth.files import DAMAGED
from gensynth.models import MODELS
from gensynth.pipelines.finding import INDEX
from gensynth.samplers.registry import SAMPLERS
from gensynth.stored import check_finite, check_fit, choose_variant, read_json
from gensynth.system.memory import is_full

# Modules that folders of earlier versions name, whose classes have moved.
MOVED = (
    *("gensynth.schedulers", "gensynth.flow_schedulers", "gensynth.token_decoders"),
    "gensynth.samplers.respaced_ddim",
)
CONFIG, SCHEDULER = "config.json", "scheduler_config.json"
LARGEST = 10**6  # whole number in a scheduler's settings; they make tables of num_train_timesteps
STRICT = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False, strict=True)
Entries = dict[str, type[ConfigMixin]]  # part -> its class


def known_classes() -> Entries:
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


def read_index(folder: Path) -> dict[str, Any]:
    """What `model_index.json` says.

    Raises:
        CorruptError: it is missing or damaged.
    """
    index = read_json(folder / INDEX)
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise CorruptError(f"{folder / INDEX} does not say which pipeline it describes.")
    return index


def checked_entries(folder: Path, index: Mapping[str, Any]) -> Entries:
    """The parts of a folder and their classes.

    Raises:
        CorruptError: a part is missing, or does not say what it is.
        InputError, RefusedError: a class that is not known, or from elsewhere.
    """
    entries: Entries = {}
    for part, entry in index.items():
        if not isinstance(entry, list):
            continue
        if len(entry) != 2 or not all(isinstance(name, str) for name in entry):
            raise CorruptError(f"{folder / INDEX}: {part} should name a module and a class.")
        entries[part] = _class_of(folder, part, entry)
        if not (folder / part).is_dir():
            raise CorruptError(f"{folder}: the folder {part}/ is missing.")
    return entries


def _class_of(folder: Path, part: str, entry: list[str]) -> type[ConfigMixin]:
    """The class that `[module, class]` of an index means."""
    module, name = entry
    known = known_classes()
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


def check_parts(folder: Path, entries: Entries, variant: str | None) -> dict[str, str | None]:
    """Looks at what the parts are made of before one of them is made.

    Returns:
        The variant of the weights of each part that has weights.

    Raises:
        CorruptError, RefusedError: weights that do not fit their configuration, or a scheduler of
            an impossible size.
        InputError: a variant that is not there, or several and none was asked for.
    """
    weighty = [part for part, kind in entries.items() if issubclass(kind, ModelMixin)]
    chosen = choose_variant([folder / part for part in weighty], variant)
    for part, kind in entries.items():
        file = folder / part / (CONFIG if part in weighty else SCHEDULER)
        config = read_json(file)
        if not isinstance(config, dict):
            raise CorruptError(f"{file} holds no settings.")
        check_types(kind, config, file)
        if part in weighty:
            check_fit(kind, folder / part, chosen[folder / part])
        else:
            check_numbers(config, file)
    return {part: chosen[folder / part] for part in weighty}


def check_numbers(config: Mapping[str, Any], file: Path) -> None:
    """
    Raises:
        CorruptError: a scheduler of an impossible size.
    """
    for key, value in config.items():
        if isinstance(value, int) and abs(value) > LARGEST:
            raise CorruptError(f"{file}: {key} cannot be as large as {str(value)[:20]}.")


def checked_settings(folder: Path, index: Mapping[str, Any], pipeline_class: Any) -> dict[str, Any]:
    """What an index says beside its parts, as the pipeline's constructor takes it.

    Raises:
        CorruptError: an unknown setting, or a value of another type.
    """
    takes = signature(pipeline_class.__init__).parameters
    settings = {
        key: value
        for key, value in index.items()
        # without [module, class] of the parts, _class_name and _diffusers_version
        if not isinstance(value, list) and not key.startswith("_")
    }
    for key in settings:
        if key not in takes:
            raise CorruptError(
                f"{folder / INDEX} has a setting {key!r}, which {pipeline_class.__name__} does not."
            )
    check_types(pipeline_class, settings, folder / INDEX)
    return settings


def check_types(kind: Any, values: Mapping[str, Any], file: Path) -> None:
    """Refuses values of other types than the constructor of one of our classes says.

    Raises:
        CorruptError: names the key and the value.
    """
    make = kind.__init__
    if not make.__module__.startswith("gensynth."):
        return  # what others say of their arguments is not meant so strictly
    hints = get_type_hints(make)
    for key in values.keys() & hints.keys():
        adapter: TypeAdapter[Any] = TypeAdapter(hints[key], config=STRICT)
        try:
            adapter.validate_python(values[key])
        except ValidationError as error:
            raise CorruptError(
                f"{file}: {key} cannot be {str(values[key])[:40]!r} ({error.errors()[0]['msg']})."
            ) from error


def load_parts(
    folder: Path, entries: Entries, variants: Mapping[str, str | None]
) -> dict[str, Any]:
    """The parts of a checked folder, in float32 and from safetensors only."""
    loaded: dict[str, Any] = {}
    for part, kind in entries.items():
        how: dict[str, Any] = {}
        if part in variants:
            how = {"use_safetensors": True, "torch_dtype": torch.float32}
            how |= {"low_cpu_mem_usage": False, "variant": variants[part]}
        loaded[part] = kind.from_pretrained(str(folder / part), **how)
    return loaded


def check_loaded(folder: Path, pipeline: Any) -> None:
    """Refuses weights that are not finite, and parts that cannot draw together.

    Raises:
        CorruptError, UsageError: with the part or setting.
    """
    for name, part in pipeline.components.items():
        if isinstance(part, ModelMixin):
            check_finite(part, str(folder / name))
    pipeline.check()


@contextmanager
def telling_damage(folder: Path) -> Iterator[None]:
    """Within the block, what goes wrong with a folder's files is said to be its damage.

    Raises:
        CorruptError: in place of a UsageError, and of whatever reading a damaged file raises.
    """
    try:
        yield
    except UsageError as error:  # parts that are not each other's
        raise CorruptError(f"{folder} cannot be loaded: {error}") from error
    except GensynthError:
        raise
    except ImportError as error:  # an option of a scheduler that needs another library
        raise InputError(f"{folder} cannot be loaded: {error}") from error
    except (*DAMAGED, SafetensorError) as error:
        if is_full(error):
            raise
        raise CorruptError(
            f"{folder} cannot be loaded: its files are damaged or do not belong together "
            f"({first_line(error)}). Fetch or export the model again."
        ) from error
