"""What a module's source says of its tables and classes, without importing it.

Importing a model, a scheduler or a feature space imports torch, which takes seconds. A wrong name
is refused before that, from here; what is imported later has the last word, and
`tests/test_outline.py` compares the two.
"""

import ast
import functools
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@functools.cache
def _tree(module: str) -> ast.Module:
    top, *below = module.split(".")
    spec = find_spec(top)  # of the top alone: that of a part would import what is above it
    assert spec is not None and spec.submodule_search_locations, module
    place = Path(next(iter(spec.submodule_search_locations)), *below)
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _assigned(body: list[ast.stmt], name: str) -> ast.expr | None:
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return getattr(node, "value", None)
    return None


def literal(module: str, name: str) -> Any:
    """The value of a constant of a module, written without names or calls."""
    value = _assigned(_tree(module).body, name)
    assert value is not None, f"{module}.{name}"
    return ast.literal_eval(value)


def keys(module: str, name: str) -> dict[str, ast.expr]:
    """The keys of a table of a module, with what stands behind them as source."""
    table = _assigned(_tree(module).body, name)
    assert isinstance(table, ast.Dict), f"{module}.{name}"
    return {
        ast.literal_eval(key): value
        for key, value in zip(table.keys, table.values, strict=True)
        if key is not None
    }


def call(module: str, name: str) -> dict[str, ast.expr]:
    """The keywords of the call that makes a constant of a module, as source."""
    value = _assigned(_tree(module).body, name)
    assert isinstance(value, ast.Call), f"{module}.{name}"
    return {given.arg: given.value for given in value.keywords if given.arg is not None}


def keys_of(table: ast.expr) -> list[Any]:
    """The keys of a table that is given as source."""
    assert isinstance(table, ast.Dict)
    return [ast.literal_eval(key) for key in table.keys if key is not None]


def _class(module: str, name: str) -> ast.ClassDef:
    found = [n for n in _tree(module).body if isinstance(n, ast.ClassDef) and n.name == name]
    assert found, f"{module}.{name}"
    return found[0]


def constructor(module: str, name: str) -> list[str]:
    """The keywords that the constructor of a class takes."""
    for node in _class(module, name).body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            given = node.args
            return [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)][1:]
    return []


def attribute(module: str, name: str, wanted: str, default: Any) -> Any:
    """A constant that the body of a class sets."""
    value = _assigned(_class(module, name).body, wanted)
    return default if value is None else ast.literal_eval(value)
