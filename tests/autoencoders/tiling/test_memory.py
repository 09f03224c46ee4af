"""Memory of a tiled decode that is written to a file, in processes of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_codecs import latents_for, made, tiny
from torch.utils._python_dispatch import TorchDispatchMode

from gensynth.autoencoders.tiling import Tiles, decode_bands

ROOT = Path(__file__).parents[3]


class Largest(TorchDispatchMode):
    """Notes the largest tensor that an operator gives, in numbers."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result._is_view() is False:
            self.numbers = max(self.numbers, result.numel())
        return result


@pytest.mark.parametrize("size", [(6, 6), (18, 6), (18, 15)])
def test_no_tensor_grows_with_the_picture(size):
    codec = made(tiny)
    latents = latents_for(codec, *size)
    with Largest() as largest:
        for _ in decode_bands(codec, latents, Tiles(3, 0)):
            pass
    # 64 channels of a tile's pixels: 3 latent rows, and what surrounds them is cut off
    assert largest.numbers == 64 * (3 * 8) ** 2


def measured(size: int, folder: Path) -> dict[str, float]:
    """What `tools/decode_peak.py` says of the shipped codec; the first band of tiles is decoded."""
    program = [sys.executable, "tools/decode_peak.py", "--size", str(size), "--bands", "1"]
    out = folder / f"{size}.tif"
    done = subprocess.run(
        [*program, "--out", out, "--pyramid"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert out.is_file()
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_the_peak_of_the_shipped_codec_is_flat(tmp_path):
    small, large = (measured(size, tmp_path) for size in (1024, 2048))
    assert large["above_the_model_gib"] < 2
    assert large["peak_gib"] < 1.1 * small["peak_gib"]
