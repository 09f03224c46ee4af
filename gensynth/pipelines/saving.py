"""How every pipeline is written to a folder that `gensynth.load` reads, and read from one."""

import json
from pathlib import Path
from typing import Any, Self

from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from huggingface_hub import snapshot_download

from gensynth.conditions import Condition
from gensynth.errors import RefusedError
from gensynth.lora.apply import Adapters
from gensynth.lora.layers import plain_copy
from gensynth.pipelines.parts import (
    check_loaded,
    check_parts,
    checked_entries,
    checked_settings,
    read_index,
    telling_damage,
)
from gensynth.stored import set_aside

# Of a hub repository: neither pickles nor Python files, nothing that could run.
FETCHED = ("*.json", "*.safetensors", "*.md")
# Keywords of `from_pretrained` that say where and how a hub repository is fetched.
HUB = ("cache_dir", "force_download", "local_files_only", "revision", "token")


class SavedPipeline(DiffusionPipeline):
    """A pipeline in safetensors, with configs that name no path, and with its condition.

    Attributes:
        name: what it was loaded as.
        lora: the adapters that it was loaded with.
    """

    condition: Condition
    name: str = ""
    lora: Adapters | None = None
    model: Any

    def check(self) -> None:
        """Raises UsageError if its parts cannot work together."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """A saved folder or hub id with its classes, as diffusers loads one; see `gensynth.load`.

        Args:
            kwargs: diffusers' keywords, such as `torch_dtype`, `variant`, or a part by its name.

        Raises:
            GensynthError: as `gensynth.load`.
        """
        if kwargs.pop("use_safetensors", None) is False:
            raise RefusedError("use_safetensors=False would read pickles, which can run code.")
        fetch = {key: kwargs.pop(key) for key in HUB if key in kwargs}
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            folder = Path(snapshot_download(str(folder), allow_patterns=list(FETCHED), **fetch))
        index = read_index(folder)
        entries = checked_entries(folder, index)
        checked_settings(folder, index, cls)
        own = {part: kind for part, kind in entries.items() if part not in kwargs}
        variants = check_parts(folder, own, kwargs.pop("variant", None))
        # diffusers takes one variant for all parts, and the weights without one where it is not.
        variant = next(filter(None, variants.values()), None)
        with telling_damage(folder):
            pipeline: Self = super().from_pretrained(
                str(folder), variant=variant, use_safetensors=True, **kwargs
            )
            pipeline.condition = pipeline.condition.load(folder)
            check_loaded(folder, pipeline)
        pipeline.name = str(pretrained_model_name_or_path)
        return pipeline

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Writes the folder that `gensynth.load` reads: safetensors, configs and the condition.

        Weights of an earlier save there are replaced, those of another `variant` stay. Adapters are
        written merged.
        """
        if self.lora is not None:
            adapted, self.model = self.model, plain_copy(self.model)
            try:
                self._write(save_directory, **kwargs)
            finally:
                self.model = adapted
        else:
            self._write(save_directory, **kwargs)

    def _write(self, save_directory: str | Path, **kwargs: Any) -> None:
        folder = Path(save_directory)
        weighty = [name for name, part in self.components.items() if isinstance(part, ModelMixin)]
        before = [folder / name for name in weighty if (folder / name).is_dir()]
        # diffusers would leave the index of an earlier save in shards, or that save's only file.
        with set_aside(before, kwargs.get("variant")):
            super().save_pretrained(save_directory, safe_serialization=True, **kwargs)
        for config in [*folder.glob("*/config.json"), folder / self.config_name]:
            content = json.loads(config.read_text(encoding="utf-8"))
            content.pop("_name_or_path", None)  # a path on the author's machine
            config.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        self.condition.save(folder)
