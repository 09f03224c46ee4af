from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def lay_out(tmp_path, numbered) -> Callable[..., Path]:
    """A folder with these pictures; that with number n in the list has the grey level n."""

    def write(*names: str, under: str = "set") -> Path:
        for number, name in enumerate(names):
            file = tmp_path / under / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(numbered(number))
        return tmp_path / under

    return write
