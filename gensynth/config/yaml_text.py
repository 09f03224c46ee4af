"""YAML without its traps."""

import re
from typing import Any

import yaml

from gensynth.errors import UsageError


class _Loader(yaml.SafeLoader):
    """YAML without its traps; duplicate keys and aliases are errors."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key.value!r} is given twice", problem_mark=key.start_mark
                )
        return super().construct_mapping(node, deep)


class Dumper(yaml.SafeDumper):
    """Quotes the text that `_Loader` would take for a number."""


# Instead of YAML 1.1's rules, by which `no` is false, `012` is ten and `1e-4` is text.
_PLAIN = {
    "bool": (re.compile(r"^(true|false|True|False)$"), list("tfTF")),
    "int": (re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789")),
    "float": (
        re.compile(r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|nan)$"),
        list("-+.0123456789"),
    ),
}
_Loader.yaml_implicit_resolvers = {
    first: [entry for entry in entries if entry[0].rpartition(":")[2] not in _PLAIN]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, (_pattern, _first) in _PLAIN.items():
    for _kind in (_Loader, Dumper):
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, _first)


def parse_yaml(text: str, origin: str) -> Any:
    """The value of a YAML text; `origin` names it in errors.

    Raises:
        UsageError: not YAML, a duplicate key or an alias.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise UsageError(f"{origin}{where}: not valid YAML: {problem}.") from error
    except RecursionError as error:
        raise UsageError(f"{origin}: nested too deeply.") from error
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        # A tag or a form of YAML whose value is none: 2001-99-99, !!bool 7, 5,000 digits.
        raise UsageError(f"{origin}: a value cannot be read: {error}.") from error
