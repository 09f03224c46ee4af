"""Finished stages of pictures that are drawn in several, on disk until the picture is there."""

import contextlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gensynth.files import replace_file


class StageFolder:
    """Latents by seed and stage, in a folder that is there as long as it holds some.

    A stage is there wholly or not at all, also when the program was killed while it was written. A
    file that is damaged is drawn anew.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, seed: int, stage: int) -> Path:
        return self.folder / f"{seed}-{stage}.safetensors"

    def get(self, seed: int, stage: int) -> Tensor | None:
        """What was put for a picture, on the CPU; None if there is nothing whole."""
        try:
            return load(self.path(seed, stage).read_bytes())["latents"]
        except (FileNotFoundError, SafetensorError, KeyError):
            return None

    def put(self, seed: int, stage: int, latents: Tensor) -> None:
        self.folder.mkdir(exist_ok=True)
        replace_file(self.path(seed, stage), save({"latents": latents.cpu().contiguous()}))

    def drop(self, seed: int) -> None:
        """Forgets a picture, which is finished."""
        for name in (f"{seed}-*.safetensors", f".{seed}-*.tmp"):  # and what a kill has left
            for path in self.folder.glob(name):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # those of others are there
            self.folder.rmdir()
