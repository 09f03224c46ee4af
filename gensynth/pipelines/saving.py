"""How every pipeline is written to a folder that `gensynth.load` reads."""

import json
from pathlib import Path
from typing import Any

from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from gensynth.conditions import Condition


class SavedPipeline(DiffusionPipeline):
    """A pipeline in safetensors, with configs that name no path, and with its condition.

    Attributes:
        name: what it was loaded as.
    """

    condition: Condition
    name: str = ""

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Writes the folder that `gensynth.load` reads: safetensors, configs and the condition."""
        super().save_pretrained(save_directory, safe_serialization=True, **kwargs)
        for config in [
            *Path(save_directory).glob("*/config.json"),
            Path(save_directory) / self.config_name,
        ]:
            content = json.loads(config.read_text(encoding="utf-8"))
            content.pop("_name_or_path", None)  # a path on the author's machine
            config.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        self.condition.save(Path(save_directory))
