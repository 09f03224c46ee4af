"""Packages whose files are imported when they are first asked for."""

import importlib
import pkgutil
import sys
from collections.abc import Callable
from types import ModuleType

from gensynth.errors import did_you_mean


def submodules(package: str) -> tuple[Callable[[str], ModuleType], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package that has nothing but its files to offer.

    So `import gensynth; gensynth.data.sources` works without importing every file of the package.
    """

    def names() -> list[str]:
        return sorted(found.name for found in pkgutil.iter_modules(sys.modules[package].__path__))

    def find(name: str) -> ModuleType:
        if name not in names():
            # Python itself asks for names such as __path__, where a guess would only confuse.
            hint = "" if name.startswith("_") else did_you_mean(name, names())
            raise AttributeError(f"module {package!r} has no attribute {name!r}.{hint}")
        # sets the attribute too, so that the next access does not come here
        return importlib.import_module(f"{package}.{name}")

    return find, names
