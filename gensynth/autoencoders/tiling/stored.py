"""Latents that stay in a file while they are decoded."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from gensynth.errors import CorruptError, first_line


class StoredLatents:
    """A tensor of a safetensors file, read in windows: latents [B, C, h, w] or tokens [B, h, w].

    Args:
        name: of the tensor in the file.

    Raises:
        CorruptError: the file is missing, damaged, or has no such tensor.
    """

    def __init__(self, path: Path, name: str = "latents"):
        try:
            with safe_open(path, "pt") as file:
                self._slice = file.get_slice(name)
                self.shape: tuple[int, ...] = tuple(self._slice.get_shape())
        except (OSError, SafetensorError) as error:
            raise CorruptError(
                f"the latents {name!r} cannot be read from {path}: {first_line(error)}. Delete the "
                "file and draw the picture again."
            ) from error

    def __getitem__(self, key: tuple[slice, ...]) -> Tensor:
        window: Tensor = self._slice[key]
        return window
