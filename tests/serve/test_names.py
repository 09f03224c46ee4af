"""Names of the server, and pages that may call it, as Host and Origin headers have them."""

import socket

import pytest

from gensynth.errors import UsageError
from gensynth_serve.web.access import Proxies, read_root
from gensynth_serve.web.names import Names, Place, read_place

LOCAL, ANY = Names(), Names(["*"])
PUBLIC = Names(["pictures.example", "https://secure.example", "http://other.example:8080"])


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:7860", Place("127.0.0.1", 7860)),
        ("LOCALHOST", Place("localhost")),
        ("localhost.:80", Place("localhost", 80)),
        ("[::1]:7860", Place("::1", 7860)),
        ("https://Pictures.Example:8443", Place("pictures.example", 8443, "https")),
        ("xn--bcher-kva.example", Place("xn--bcher-kva.example")),
    ],
)
def test_places_are_read(text, place):
    assert read_place(text) == place


@pytest.mark.parametrize(
    "text",
    ["", ".", "null", "a b", "a/b", "user@host", "a:b", "a:99999", "[::g]", "::1", "ftp://a", "a:"],
)
def test_what_is_no_place_is_none_or_has_no_scheme(text):
    place = read_place(text)
    assert place is None or place.scheme is None


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.2:7860", "127.255.0.1", "[::1]:1", "localhost", "LocalHost:80"]
)
def test_loopback_is_always_answered(host):
    assert all(names.answer_to(read_place(host)) for names in (LOCAL, ANY, PUBLIC))


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "2130706433", "0x7f.1"],
)
def test_names_that_may_point_anywhere_are_not(host):
    assert not any(names.answer_to(read_place(host)) for names in (LOCAL, ANY, PUBLIC))


@pytest.mark.parametrize("host", ["192.168.1.5:7860", "[fe80::1]:7860", "0.0.0.0"])
def test_other_addresses_are_answered_when_it_listens_there(host):
    assert ANY.answer_to(read_place(host)) and not LOCAL.answer_to(read_place(host))


def test_its_own_name_is_answered_when_it_listens_beyond_loopback():
    own = Place(socket.gethostname().lower())
    assert ANY.answer_to(own)
    assert own.host == "localhost" or not LOCAL.answer_to(own)


def test_public_names_are_answered_with_any_port():
    for host in ("pictures.example", "PICTURES.EXAMPLE:7860", "secure.example", "other.example"):
        assert PUBLIC.answer_to(read_place(host))
    assert not PUBLIC.answer_to(read_place("www.pictures.example"))


@pytest.mark.parametrize(
    ("origin", "host", "may"),
    [
        ("http://127.0.0.1:7860", "127.0.0.1:7860", True),
        ("http://localhost:7860", "LOCALHOST:7860", True),
        ("http://[::1]:7860", "[::1]:7860", True),
        ("http://192.168.1.5", "192.168.1.5", True),
        ("https://127.0.0.1", "127.0.0.1:443", True),
        ("https://pictures.example", "127.0.0.1:7860", True),  # nginx passes its own Host
        ("http://pictures.example:8000", "127.0.0.1:7860", True),
        ("https://secure.example", "127.0.0.1:7860", True),
        ("http://secure.example", "127.0.0.1:7860", False),  # https was said
        ("http://other.example:8080", "127.0.0.1:7860", True),
        ("http://other.example", "127.0.0.1:7860", False),  # another port was said
        ("http://localhost:3000", "localhost:7860", False),  # another program of this machine
        ("http://localhost:7860", "127.0.0.1:7860", False),
        ("https://localhost", "localhost", True),
        ("http://evil.example", "127.0.0.1:7860", False),
        ("http://pictures.example.evil.example", "pictures.example", False),
        ("null", "127.0.0.1:7860", False),
        ("file://", "127.0.0.1:7860", False),
        ("", "127.0.0.1:7860", False),
    ],
)
def test_only_its_own_pages_may_call(origin, host, may):
    assert PUBLIC.may_call(origin, [read_place(host)]) == may


@pytest.mark.parametrize("name", ["https://pictures.example/draw", "a b", "*.example", ""])
def test_public_hosts_are_names(name):
    with pytest.raises(
        UsageError, match=r"--public-host .* a path below it belongs to --root-path"
    ):
        Names([name])


def test_roots():
    assert (read_root("").path, read_root("/").path, read_root("/draw/").path) == ("", "", "/draw")
    root = read_root("https://pictures.example:8443/a/b")
    assert (root.path, root.place) == ("/a/b", Place("pictures.example", 8443, "https"))


@pytest.mark.parametrize(
    "text", ["draw", "/../x", "/a/..", "//x", "/a b", "/a\n", "ftp://x", "https://a b"]
)
def test_roots_that_are_none(text):
    with pytest.raises(UsageError, match="--root-path"):
        read_root(text)


def test_proxies():
    proxies = Proxies(["172.18.0.0/16", "2001:db8::1"])
    for peer in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "172.18.3.4", "2001:db8::1"):
        assert proxies.trust(peer)
    for peer in ("172.19.0.1", "10.0.0.1", "2001:db8::2", "", "testclient"):
        assert not proxies.trust(peer)
    with pytest.raises(UsageError, match="--proxy takes an address or a network"):
        Proxies(["proxy.example"])
