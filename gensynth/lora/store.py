"""An adapter with what was trained beside it, written to a folder and read from one."""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gensynth.conditions import Condition
from gensynth.errors import CorruptError, first_line
from gensynth.lora.folder import PREFIX, WEIGHTS, Adapter, write_base
from gensynth.lora.layers import NAME, adapter_state


def write_adapter(
    folder: Path, model: Any, whole: Iterable[str], base: Mapping[str, Any], condition: Condition
) -> None:
    """Writes the adapter of a model, as peft does, and the tensors called `whole` beside it.

    Args:
        base: for `base.json`; `model` is added.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state: dict[str, Tensor] = model.state_dict()
    tensors = {**adapter_state(model), **{name: state[name] for name in whole}}
    stored = {PREFIX + n: t.detach().cpu().contiguous() for n, t in tensors.items()}
    config = copy.deepcopy(model.peft_config[NAME])
    config.inference_mode, config.base_model_name_or_path = True, base["name"]
    config.save_pretrained(str(folder))
    save_file(stored, folder / WEIGHTS, {"format": "pt"})
    own = {key: value for key, value in model.config.items() if not key.startswith("_")}
    write_base(folder, {**base, "model": {"_class_name": type(model).__name__, **own}})
    condition.save(folder)


def read_tensors(adapter: Adapter) -> dict[str, Tensor]:
    """All tensors of an adapter, in float32, by the names that they have in the model.

    Raises:
        CorruptError: the file is damaged, or a tensor is not of finite numbers.
    """
    file = adapter.folder / WEIGHTS
    try:
        stored = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CorruptError(f"{file} is damaged: {first_line(error)[:200]}.") from error
    tensors = {name.removeprefix(PREFIX): tensor.float() for name, tensor in stored.items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CorruptError(
                f"{file}: {name} is not of finite numbers. Take an earlier checkpoint's adapter."
            )
    return tensors
