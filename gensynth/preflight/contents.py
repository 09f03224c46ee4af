"""JSON files of a model, as far as they can be read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gensynth.files import json_in


def content(file: Path) -> Mapping[str, Any]:
    """What a JSON file of a model says; nothing of one that is damaged, which loading will say."""
    found = json_in(file)
    return found if isinstance(found, dict) else {}
