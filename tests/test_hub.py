"""A hub that cannot be reached is told within seconds, in one line."""

import socket
import time

import pytest
from huggingface_hub import constants

from gensynth import hub
from gensynth.errors import InputError, OutputError
from gensynth.pipelines.finding import resolve


@pytest.fixture
def silent():
    """The address of a server that takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def refusing():
    """An address that nobody listens at."""
    with socket.socket() as once:
        once.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{once.getsockname()[1]}"


@pytest.fixture
def offline(monkeypatch, refusing, tmp_path):
    """No network, and nothing that was fetched earlier."""
    monkeypatch.setattr(constants, "ENDPOINT", refusing)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_server_without_answer_is_no_network(monkeypatch, silent):
    monkeypatch.setattr(hub, "PATIENCE", 0.3)
    began = time.monotonic()
    assert "there is no network" in hub.unreachable(silent)
    assert time.monotonic() - began < 5


def test_no_network_is_called_that(offline, capfd):
    began = time.monotonic()
    with pytest.raises(InputError, match=r"'foo/bar' here, and as a hub id .* there is no network"):
        resolve("foo/bar")
    assert time.monotonic() - began < 5
    assert capfd.readouterr() == ("", "")  # no line of the hub's own


def test_what_was_fetched_before_is_used_without_a_network(offline, tmp_path, capsys):
    snapshot = tmp_path / "hub" / "models--foo--bar" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}", encoding="utf-8")
    refs = tmp_path / "hub" / "models--foo--bar" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc", encoding="utf-8")
    hub.check_copy("foo/bar", "it", "Give a folder.")
    assert "the copy of foo/bar on this machine is used" in capsys.readouterr().err
    assert constants.HF_HUB_OFFLINE  # so that nothing asks again
    assert resolve("foo/bar") == snapshot


def test_without_a_copy_it_is_refused(offline):
    with pytest.raises(
        InputError, match=r"it cannot be fetched: there is no network .* Give a fol"
    ):
        hub.check_copy("foo/bar", "it", "Give a folder.")


def test_a_cache_that_cannot_be_written_is_not_called_a_missing_model(monkeypatch):
    monkeypatch.setattr(hub, "unreachable", lambda address: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(OutputError, match="cannot be written"), hub.asking("it", "Else."):
        raise PermissionError(13, "Permission denied", "/proc/nothing")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("owner/name", True), ("name", False), ("./name", False), ("/a/b", False), ("~/x", False)],
)
def test_what_looks_like_a_hub_id(text, is_one):
    assert hub.is_id(text) == is_one
