"""Translating parameter names by a table of prefixes and a table of parts."""

from collections.abc import Mapping


class Names:
    """One family's names: official <-> ours.

    Args:
        prefixes: start of an official name -> start of ours. The first match wins.
        parts: parts of the rest, replaced in this order; each part only once in a name.
    """

    def __init__(self, prefixes: Mapping[str, str], parts: Mapping[str, str]):
        self.prefixes, self.parts = prefixes, parts

    def ours(self, name: str) -> str:
        """Our name of an official parameter; an unknown name comes back unchanged."""
        return _translate(name, self.prefixes, self.parts)

    def official(self, name: str) -> str:
        """The official name of one of our parameters; an unknown name comes back unchanged."""
        return _translate(
            name,
            {ours: official for official, ours in self.prefixes.items()},
            {ours: official for official, ours in self.parts.items()},
        )


def _translate(name: str, prefixes: Mapping[str, str], parts: Mapping[str, str]) -> str:
    for prefix, other in prefixes.items():
        if name.startswith(prefix):
            rest = name[len(prefix) :]
            for part, other_part in parts.items():
                if part in rest:
                    rest = rest.replace(part, other_part, 1)
                    break
            return other + rest
    return name
