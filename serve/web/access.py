"""Who may call the server, and under which address its pages are seen: Host, Origin, proxies."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gensynth.errors import UsageError
from gensynth_serve.web.headers import refuse
from gensynth_serve.web.names import Names, Place, address_of, read_place

# What proxies say about a request. Believed from proxies only, and never passed on: Gradio would
# believe anybody.
SAID_BY_PROXIES = ("x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix")
NOT_PASSED_ON = {b"host", b"x-gradio-server", *(name.encode() for name in SAID_BY_PROXIES)}
_PATH = re.compile(r"(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)+")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Root:
    """Where the pages are seen from outside: below a path, and at a place if one was given."""

    path: str = ""
    place: Place | None = None


def read_root(text: str) -> Root:
    """What `--root-path` says: "/draw" or "https://pictures.example/draw".

    Raises:
        UsageError: it is neither.
    """
    origin, path = re.fullmatch(r"(https?://[^/]*)?(.*)", text, re.DOTALL).groups()
    path = path.rstrip("/")
    place = read_place(origin) if origin else None
    if (origin and place is None) or (path and not _PATH.fullmatch(path)):
        raise UsageError(
            f"--root-path {text[:100]!r} is neither a path such as /draw nor an address such as "
            "https://pictures.example/draw."
        )
    return Root(path, place)


class Proxies:
    """The proxies whose word about a request is believed: those on loopback, and named ones.

    Args:
        named: addresses or networks, such as "172.18.0.0/16".

    Raises:
        UsageError: one of them is not an address.
    """

    def __init__(self, named: Sequence[str] = ()):
        try:
            self.networks: list[Network] = [ipaddress.ip_network(name) for name in named]
        except ValueError as error:
            raise UsageError(f"--proxy takes an address or a network: {error}.") from error

    def trust(self, peer: str) -> bool:
        """Whether what this peer says is believed."""
        address = address_of(peer)
        if address is None:
            return False
        return address.is_loopback or any(address in network for network in self.networks)


class Access:
    """Refuses foreign names and foreign pages; tells the app the address that visitors see.

    A page of another origin may not call, whatever the server listens on: it would use the
    visitor's browser to reach a server that it cannot reach itself. Programs send no Origin.
    """

    def __init__(self, app: ASGIApp, names: Names, root: Root, proxies: Proxies):
        self.app, self.names, self.root, self.proxies = app, names, root, proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            refusal = self._enter(scope := dict(scope))
            if refusal is None:
                await self.app(scope, receive, send)
            else:
                await refuse(scope, receive, send, *refusal)

    def _enter(self, scope: Scope) -> tuple[int, str] | None:
        """Writes into the scope how the request is seen from outside; a refusal if there is one."""
        headers = Headers(scope=scope)
        trusted = self.proxies.trust((scope.get("client") or ("",))[0])
        said = {name: _first(headers, name) if trusted else "" for name in SAID_BY_PROXIES}
        host = headers.get("host", "")
        for name in filter(None, (host or "?", said["x-forwarded-host"])):
            place = read_place(name)
            if place is None or not self.names.answer_to(place):
                return 400, _unknown_name(name, place)
        here = read_place(host)
        assert here is not None
        seen = self.root.place or read_place(said["x-forwarded-host"]) or here
        refusal = self._foreign(headers, scope["method"], [here, seen])
        if refusal is not None:
            return 403, refusal
        prefix = said["x-forwarded-prefix"].rstrip("/") or self.root.path
        if prefix and not _PATH.fullmatch(prefix):
            return 400, "the proxy's X-Forwarded-Prefix is not a path such as /draw."
        _rewrite(scope, seen, prefix)
        proto = said["x-forwarded-proto"]
        known = seen.scheme or self.names.scheme_of(seen)
        scope["scheme"] = known or (proto if proto in ("http", "https") else scope["scheme"])
        return None

    def _foreign(self, headers: Headers, method: str, places: list[Place]) -> str | None:
        origin = headers.get("origin")
        if origin is not None:
            if self.names.may_call(origin, places):
                return None
            page = read_place(origin)
            advice = (
                f" If {page.host} is a proxy's name for it, start it with --public-host {page.host}"
                if page is not None and page.scheme
                else ""
            )
            return f"a page of {origin[:100]} may not call this server.{advice}"
        # Requests without an Origin are a program's, our page's, a link that was followed, or
        # something that a foreign page shows as its own.
        site = headers.get("sec-fetch-site", "none")
        followed = headers.get("sec-fetch-mode") == "navigate" and method in ("GET", "HEAD")
        if site in ("cross-site", "same-site") and not followed:
            return "a page of another site may not call this server."
        return None


def _rewrite(scope: Scope, seen: Place, prefix: str) -> None:
    kept = [(name, value) for name, value in scope["headers"] if name not in NOT_PASSED_ON]
    scope["headers"] = [(b"host", str(seen).encode()), *kept]
    if not prefix:
        return
    scope["root_path"] = prefix
    if not f"{scope['path']}/".startswith(f"{prefix}/"):  # the proxy took it off, as most do
        scope["path"] = prefix + scope["path"]
        scope["raw_path"] = prefix.encode() + scope.get("raw_path", b"")


def _first(headers: Headers, name: str) -> str:
    return headers.get(name, "").partition(",")[0].strip()


def _unknown_name(name: str, place: Place | None) -> str:
    if place is None:
        return f"{name[:100]!r} is not a host."
    return (
        f"this server does not answer to the name {place.host[:100]}. "
        f"Start it with --public-host {place.host[:100]}"
    )
