"""Pretrained models with attention that is linear in the tokens: `gensynth.linearize(pipe, ...)`.

The package is called itself, since it has the name of what it does.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from gensynth.linearize.contract import Linearized
from gensynth.linearize.saving import save
from gensynth.linearize.swap import linearize, restore

__all__ = ["Linearized", "linearize", "restore", "save"]


class _Called(ModuleType):
    def __call__(
        self,
        pipe_or_model: Any,
        method: str = "linfusion",
        weights: str | Path | None = None,
        **options: Any,
    ) -> Linearized:
        """See `gensynth.linearize.linearize`."""
        return linearize(pipe_or_model, method, weights, **options)


sys.modules[__name__].__class__ = _Called
