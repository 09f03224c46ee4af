"""Reads the reference tensors of the official implementations, where they are at hand."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

FOLDER = Path(__file__).parents[3] / "shared" / "reference"


class Reference(NamedTuple):
    state: dict[str, Tensor]
    input: dict[str, Tensor]
    output: dict[str, Tensor]
    config: dict
    atol: float
    rtol: float
    dead_parameters: list[str]

    def check(self, name: str, actual: Tensor) -> None:
        """Asserts that `actual` is the stored output within the stored tolerance."""
        expected = self.output[name]
        torch.testing.assert_close(
            actual.to(expected.dtype), expected, atol=self.atol, rtol=self.rtol
        )


def reference_path(name: str) -> Path:
    """The file of that name; the test is skipped where the reference folder is absent."""
    if not FOLDER.is_dir():
        pytest.skip(f"no reference tensors: {FOLDER.parent.name}/{FOLDER.name} is not there")
    return FOLDER / name


def load_reference(name: str) -> Reference:
    with safe_open(reference_path(name), "pt") as file:
        meta, keys = file.metadata(), list(file.keys())
        parts = {
            part: {
                key.removeprefix(f"{part}."): file.get_tensor(key)
                for key in keys
                if key.startswith(f"{part}.")
            }
            for part in ("state", "input", "output")
        }
    return Reference(
        **parts,
        config=json.loads(meta["config"]),
        atol=float(meta["atol"]),
        rtol=float(meta["rtol"]),
        dead_parameters=json.loads(meta.get("dead_parameters", "[]")),
    )
