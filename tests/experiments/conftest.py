import sys
from pathlib import Path

import pytest
import yaml

# The tests here share files; importlib mode does not put their folder on the path.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def write(tmp_path):
    def write(tree_or_text) -> Path:
        text = tree_or_text if isinstance(tree_or_text, str) else yaml.safe_dump(tree_or_text)
        path = tmp_path / "experiment.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
