"""How every pipeline is written to a folder that `gensynth.load` reads."""

import json
from pathlib import Path
from typing import Any

from diffusers.pipelines.pipeline_utils import DiffusionPipeline

LABELS_FILE = "labels.json"


class SavedPipeline(DiffusionPipeline):
    """A pipeline in safetensors, with configs that name no path and its class names."""

    classes: list[str]

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Writes the folder that `gensynth.load` reads: safetensors, configs and class names."""
        super().save_pretrained(save_directory, safe_serialization=True, **kwargs)
        for config in [
            *Path(save_directory).glob("*/config.json"),
            Path(save_directory) / self.config_name,
        ]:
            content = json.loads(config.read_text(encoding="utf-8"))
            content.pop("_name_or_path", None)  # where it was loaded from is nobody's business
            config.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        names = json.dumps(self.classes, ensure_ascii=False, indent=1)
        (Path(save_directory) / LABELS_FILE).write_text(names + "\n", encoding="utf-8")
