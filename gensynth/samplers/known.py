"""Names of schedulers and of their options, before any is imported. See `registry`."""

import ast
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from gensynth import outline
from gensynth.errors import UsageError, did_you_mean

REGISTRY = "gensynth.samplers.registry"


def check_scheduler(
    name: str | None, prediction: str, options: Mapping[str, Any] | None, path: str = "linear"
) -> None:
    """Refuses the name of a scheduler that is none, or that does not fit a model.

    `create_scheduler` has the last word, on the values of options above all.

    Raises:
        UsageError: it does not fit; the message lists those that do.
    """
    if name is None or REGISTRY in sys.modules:  # then `create_scheduler` is as quick
        return
    table = outline.keys(REGISTRY, "SAMPLERS")
    fitting = [one for one, entry in table.items() if _fits(entry, prediction, path)]
    if name not in fitting:
        raise does_not_fit(name, prediction, path, fitting)


def does_not_fit(name: str, prediction: str, path: str, fitting: Iterable[str]) -> UsageError:
    """What to say of a scheduler that a model cannot be drawn with."""
    on_path = "" if path == "linear" else f" on the {path} path"
    return UsageError(
        f"scheduler {name!r} does not fit a model that predicts {prediction}{on_path}."
        f"{did_you_mean(name, fitting)} Fitting: {', '.join(fitting)}."
    )


def _fits(entry: ast.expr, prediction: str, path: str) -> bool:
    """Whether an `Entry(...)` of the registry is of schedulers for such a model."""
    if not isinstance(entry, ast.Call):
        return True  # the registry will tell
    if path != "linear" and not any(given.arg == "any_path" for given in entry.keywords):
        return False
    fits = entry.args[0]
    if not isinstance(fits, ast.Dict):  # the flow's predictions, by a name of their own
        return prediction not in ("epsilon", "tokens")
    return prediction in [ast.literal_eval(key) for key in fits.keys if key is not None]
