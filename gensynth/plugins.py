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
        else:
            _import_module(name)


def _import_module(name: str) -> None:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # of the package above it, or a name that can be none
        found = None
    if found is None:
        raise InputError(f"{VARIABLE} names {name!r}, and there is no such module.")
    importlib.import_module(name)


def _import_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{VARIABLE} names {path}, and there is no such file.")
    path = path.resolve()
    there = sys.modules.get(path.stem)
    if there is not None and there.__spec__ is not None and there.__spec__.origin == str(path):
        return
    if there is not None or importlib.util.find_spec(path.stem) is not None:
        # Folders record the module of a class, so the file's own name has to be its module's.
        raise InputError(f"{VARIABLE} names {path}, and {path.stem} is taken; rename the file.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # classes of it are found by their module's name
    whole = False
    try:
        spec.loader.exec_module(module)
        whole = True
    finally:
        if not whole:
            del sys.modules[path.stem]
