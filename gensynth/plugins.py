"""Models, conditions, mixers, samplers and settings that do not come with the package.

A file or module that is named in `GENSYNTH_PLUGINS` is imported before a command runs, in every
process that it starts; it puts what it has into the tables (`MODELS`, `CONDITIONS`, `MIXERS`,
`SAMPLERS`, `FURTHER`, ...). In Python, importing it does the same.
"""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

from gensynth.errors import InputError

VARIABLE = "GENSYNTH_PLUGINS"


def load_plugins() -> None:
    """Imports what `GENSYNTH_PLUGINS` names: modules, or files ending in .py, with commas between.

    Raises:
        InputError: there is no such file or module.
    """
    for name in filter(None, (part.strip() for part in os.environ.get(VARIABLE, "").split(","))):
        if name.endswith(".py"):
            _import_file(Path(name))
        elif importlib.util.find_spec(name) is None:  # apart from imports that fail inside of it
            raise InputError(f"{VARIABLE} names {name!r}, and there is no such module.")
        else:
            importlib.import_module(name)


def _import_file(path: Path) -> None:
    if path.stem in sys.modules:  # once, however often it is named
        return
    if not path.is_file():
        raise InputError(f"{VARIABLE} names {path}, and there is no such file.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # classes of it are found by their module's name
    spec.loader.exec_module(module)
