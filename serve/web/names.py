"""Which names a server answers to, and which web pages may call it."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from gensynth.errors import UsageError

ANY_ADDRESS = "*"  # of this machine: the server listens beyond loopback
DEFAULT_PORTS = {"http": 80, "https": 443}
_PLACE = re.compile(r"(?:(https?)://)?(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]{1,5}))?")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Place:
    """A host in lower case, without brackets or a final dot; what was not written is None."""

    host: str
    port: int | None = None
    scheme: str | None = None  # "http" or "https"

    def __str__(self) -> str:
        """As a Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


def read_place(text: str) -> Place | None:
    """What a Host header, an Origin header or a name on the command line says; None if nothing."""
    match = _PLACE.fullmatch(text.lower())
    if match is None:
        return None
    scheme, bracketed, plain, port = match.groups()
    if (bracketed and address_of(bracketed) is None) or int(port or 0) > 65_535:
        return None
    host = (bracketed or plain).rstrip(".")
    return Place(host, int(port) if port else None, scheme) if host else None


def address_of(host: str) -> Address | None:
    """The address that a host is, or None for a name. An IPv4 address stays one inside IPv6."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(host: str) -> bool:
    """Whether a host is this machine as seen by itself."""
    address = address_of(host)
    return host == "localhost" if address is None else address.is_loopback


class Names:
    """The names of a server.

    A name that is not among them may be one that a foreign web page made to point here (DNS
    rebinding), so it is refused. Loopback's are always answered. An address cannot be made to
    point elsewhere, so with `ANY_ADDRESS` all are answered, and the machine's own name.

    Args:
        names: public names, such as "pictures.example" or "https://pictures.example:8443".

    Raises:
        UsageError: one of them is not a name.
    """

    def __init__(self, names: Sequence[str] = ()):
        self.any_address = ANY_ADDRESS in names
        self.public = [_public(name) for name in names if name != ANY_ADDRESS]
        own = socket.gethostname().lower()
        self._own = {own, f"{own}.local"} if self.any_address else set()

    def answer_to(self, place: Place) -> bool:
        """Whether a request for this place is answered."""
        address = address_of(place.host)
        return (
            is_loopback(place.host)
            or any(public.host == place.host for public in self.public)
            or (self.any_address and address is not None)
            or place.host in self._own
        )

    def scheme_of(self, place: Place) -> str | None:
        """The scheme that was given with a public name."""
        return next((p.scheme for p in self.public if p.host == place.host and p.scheme), None)

    def may_call(self, origin: str, places: Sequence[Place]) -> bool:
        """Whether a web page of this origin may call: its own pages, seen at one of the places."""
        page = read_place(origin)
        if page is None or page.scheme is None:  # "null": a page of nobody in particular
            return False
        port = page.port or DEFAULT_PORTS[page.scheme]
        own = [place for place in places if place.host == page.host]
        if any((place.port or DEFAULT_PORTS[page.scheme]) == port for place in own):
            return True
        return any(
            public.host == page.host
            and public.port in (None, page.port)
            and public.scheme in (None, page.scheme)
            for public in self.public
        )


def _public(name: str) -> Place:
    place = read_place(f"[{name}]" if address_of(name) and ":" in name else name.rstrip("/"))
    if place is None:
        raise UsageError(
            f"--public-host {name!r} is not a name. Give one such as pictures.example or "
            "https://pictures.example; a path below it belongs to --root-path."
        )
    return place
