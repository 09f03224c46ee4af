"""Requests as browsers, programs and proxies send them, through the gate alone."""

import asyncio
import json

import httpx
import pytest

from gensynth_serve.web.access import Access, Proxies, read_root
from gensynth_serve.web.names import Names

NAMES = ["pictures.example"]


async def show(scope, receive, send):
    """Answers with what reached the app."""
    headers = [[name.decode(), value.decode()] for name, value in scope["headers"]]
    seen = {
        "at": f"{scope['scheme']}://{dict(headers)['host']}",
        "root": scope.get("root_path", ""),
        "path": scope["path"],
        "raw": scope["raw_path"].decode(),
        "headers": sorted(name for name, _ in headers),
    }
    start = {"type": "http.response.start", "status": 200, "headers": []}
    await send(start)
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


def ask(names=(), root="", proxies=(), peer="127.0.0.1", method="GET", path="/config", **headers):
    """The answer to a request with these headers, their names written with underscores."""
    app = Access(show, Names(names), read_root(root), Proxies(proxies))
    sent = {"host": "127.0.0.1:7860"} | {k.replace("_", "-"): v for k, v in headers.items()}

    async def send_it():
        transport = httpx.ASGITransport(app, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.request(method, path, headers=sent)

    return asyncio.run(send_it())


def test_a_program_is_let_in():
    seen = ask(method="POST").json()
    assert (seen["at"], seen["root"], seen["path"]) == ("http://127.0.0.1:7860", "", "/config")


@pytest.mark.parametrize("host", ["evil.example", "pictures.example", "", "a/b", "[::"])
def test_a_foreign_name_is_refused_with_a_remedy(host):
    answer = ask(host=host)
    assert answer.status_code == 400
    if host.endswith("example"):
        assert f"Start it with --public-host {host}" in answer.text
        assert ask(names=[host], host=host).status_code == 200  # the advice works


@pytest.mark.parametrize("names", [[], ["*"], NAMES])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:3000"])
def test_foreign_pages_may_not_call(names, method, origin):
    answer = ask(names, method=method, path="/gradio_api/call/generate", origin=origin)
    assert answer.status_code == 403
    assert answer.json()["detail"].startswith(f"A page of {origin} may not call this server.")


def test_the_advice_for_a_proxys_page_works():
    said = ask(method="POST", origin="https://pictures.example").text
    assert said.endswith("start it with --public-host pictures.example")
    assert ask(NAMES, method="POST", origin="https://pictures.example").status_code == 200


@pytest.mark.parametrize(
    ("site", "mode", "method", "status"),
    [
        ("same-origin", "cors", "GET", 200),
        ("none", "navigate", "GET", 200),
        ("cross-site", "navigate", "GET", 200),  # a link was followed
        ("cross-site", "navigate", "POST", 403),
        ("cross-site", "no-cors", "GET", 403),  # <img src=...>
        ("same-site", "no-cors", "GET", 403),  # another port of this machine
    ],
)
def test_what_foreign_pages_embed_is_refused(site, mode, method, status):
    answer = ask(method=method, sec_fetch_site=site, sec_fetch_mode=mode)
    assert answer.status_code == status


CADDY = {"host": "pictures.example", "x_forwarded_host": "pictures.example"}


def test_caddy_and_traefik():
    said = {**CADDY, "x_forwarded_proto": "https", "x_forwarded_prefix": "/draw"}
    seen = ask(NAMES, origin="https://pictures.example", **said).json()
    assert (seen["at"], seen["root"]) == ("https://pictures.example", "/draw")
    assert seen["path"] == seen["raw"] == "/draw/config"


def test_a_prefix_that_the_proxy_left_on_is_not_put_before_again():
    seen = ask(root="/draw", path="/draw/config").json()
    assert (seen["root"], seen["path"]) == ("/draw", "/draw/config")
    assert ask(root="/draw", path="/drawing").json()["path"] == "/draw/drawing"


def test_nginx_with_its_defaults_and_the_whole_address():
    seen = ask(root="https://pictures.example/draw", origin="https://pictures.example").json()
    assert (seen["at"], seen["root"]) == ("https://pictures.example", "/draw")


def test_a_scheme_given_with_the_name_does_for_a_proxy_that_says_none():
    seen = ask(["https://pictures.example"], host="pictures.example").json()
    assert seen["at"] == "https://pictures.example"


@pytest.mark.parametrize("peer", ["10.0.0.7", "testclient"])
def test_strangers_are_no_proxies(peer):
    said = {"x_forwarded_host": "pictures.example", "x_forwarded_proto": "https"}
    said |= {"x_forwarded_prefix": "/draw", "x_gradio_server": "http://evil.example"}
    seen = ask(NAMES, peer=peer, **said).json()
    assert (seen["at"], seen["root"]) == ("http://127.0.0.1:7860", "")
    assert not [name for name in seen["headers"] if name.startswith("x-")]
    if peer[0] == "1":
        named = ask(NAMES, proxies=["10.0.0.0/8"], peer=peer, **said).json()
        assert (named["at"], named["root"]) == ("https://pictures.example", "/draw")


def test_rebinding_is_not_helped_by_forged_headers():
    """A page that rebound its name is of one origin with this server, so it may set headers."""
    forged = {"x_forwarded_host": "127.0.0.1:7860", "origin": "http://evil.example"}
    assert ask(NAMES, host="evil.example", **forged).status_code == 400
    assert ask(NAMES, x_forwarded_host="evil.example").status_code == 400


@pytest.mark.parametrize("prefix", ["draw", "/../x", "/<script>", "//evil.example", "/a b"])
def test_odd_prefixes_are_refused(prefix):
    assert ask(x_forwarded_prefix=prefix).status_code == 400
