"""The folder of an adapter: peft's two files, and which model it was trained on.

`adapter_config.json` and `adapter_model.safetensors` are what peft itself reads. `base.json` names
the base and holds the configuration of the adapted model; what the condition has to say, such as
the names of classes, lies beside it. Nothing heavy is imported to look at a folder.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gensynth.errors import CorruptError, InputError, RefusedError, UsageError
from gensynth.files import json_in

CONFIG, WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "base.json"
FOLDER = "adapter"  # in a run and in its checkpoints
PREFIX = "base_model.model."  # peft's, before the name of every tensor
LARGEST_SCALE = 100.0


@dataclass(frozen=True)
class Wanted:
    """An adapter that is to be used, and how much it counts.

    Attributes:
        folder: of its files, or of the run that trained it.
    """

    folder: Path
    scale: float = 1.0

    @classmethod
    def read(cls, text: str) -> "Wanted":
        """What FOLDER or FOLDER:SCALE means.

        Raises:
            UsageError: the scale is none.
        """
        folder, colon, scale = text.rpartition(":")
        if not colon or Path(text).is_dir():
            return cls(Path(text))
        try:
            return cls(Path(folder), checked_scale(float(scale)))
        except ValueError as error:
            raise UsageError(
                f"--lora {text}: the scale {scale!r} is no number; write FOLDER or FOLDER:0.8."
            ) from error


def checked_scale(scale: float) -> float:
    """
    Raises:
        UsageError: not a number, or too large to be meant.
    """
    if not -LARGEST_SCALE <= scale <= LARGEST_SCALE:  # also refuses NaN
        raise UsageError(f"the scale of an adapter is a number such as 0.8, got {scale}.")
    return scale


@dataclass(frozen=True)
class Adapter:
    """An adapter in a folder.

    Attributes:
        config: of peft.
        base: what `base.json` says: the `name` and `mark` of the base, the `model` that it was
            trained as with its configuration, the `size` of its pictures and the `condition_kind`.
            Empty for an adapter that was not trained by gensynth.
    """

    folder: Path
    config: Mapping[str, Any]
    base: Mapping[str, Any]

    @property
    def base_name(self) -> str:
        return str(self.base.get("name") or self.config.get("base_model_name_or_path") or "")


def find_adapter(where: str | Path) -> Adapter:
    """The adapter in a folder, or the one that a run has trained.

    Raises:
        InputError: there is none.
        RefusedError: it is a pickle.
        CorruptError: its files are damaged.
    """
    path = Path(where)
    newest = sorted(path.glob(f"checkpoints/step-????????/{FOLDER}"), reverse=True)
    places = [path, path / FOLDER, *newest]
    folder = next((place for place in places if (place / CONFIG).is_file()), None)
    if folder is None:
        about = "is no folder" if not path.is_dir() else f"has no {CONFIG}"
        raise InputError(
            f"there is no adapter at {path}: it {about}. Give the folder of an adapter, or the run "
            "that trained it with a lora: section."
        )
    if not (folder / WEIGHTS).is_file():
        if (folder / "adapter_model.bin").is_file():
            raise RefusedError(
                f"{folder} holds a pickle, adapter_model.bin, which can run code when loaded. Save "
                "the adapter with safetensors."
            )
        raise CorruptError(f"{folder}: {WEIGHTS} is missing.")
    config = _settings(folder / CONFIG)
    base = _settings(folder / BASE) if (folder / BASE).exists() else {}
    if base and not (isinstance(base.get("model"), dict) and isinstance(base.get("mark"), str)):
        raise CorruptError(f"{folder / BASE} does not say what the adapter was trained on.")
    if config.get("peft_type") != "LORA":
        kind = str(config.get("peft_type"))[:40]
        raise InputError(f"{folder} is an adapter of kind {kind}; gensynth takes those of LORA.")
    return Adapter(folder, config, base)


def _settings(file: Path) -> Mapping[str, Any]:
    found = json_in(file)
    if not isinstance(found, dict):
        raise CorruptError(f"{file} holds no settings.")
    return found


def write_base(folder: Path, base: Mapping[str, Any]) -> None:
    (folder / BASE).write_text(json.dumps(base, indent=1, ensure_ascii=False) + "\n", "utf-8")


def check_base(adapter: Adapter, model: str, class_name: Any) -> None:
    """Refuses an adapter of another kind of model, by its JSON files alone.

    Args:
        model: as it was asked for.
        class_name: of its network.

    Raises:
        InputError: it was trained on another class.
    """
    trained = adapter.base.get("model", {}).get("_class_name")
    if trained is not None and trained != class_name:
        raise another_base(adapter, model, f"a {trained}, and {model} is a {class_name}")


def another_base(adapter: Adapter, model: str, what: str) -> InputError:
    """What to raise for an adapter that was trained on another model than `model`."""
    name = adapter.base_name
    instead = f"Give its own base, {name}, or another adapter" if name else "Give another"
    return InputError(f"the adapter {adapter.folder} is of another model: {what}. {instead}.")
