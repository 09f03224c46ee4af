"""A hub that cannot be reached is told within seconds, in one line."""

import socket
import time

import datasets
import httpx
import pytest
from huggingface_hub import constants, errors

from gensynth.errors import InputError, OutputError
from gensynth.experiments.names import check_encoder, check_places
from gensynth.experiments.read import read_experiment
from gensynth.pipelines.finding import resolve
from gensynth.preflight.measuring import check_images
from gensynth.system import hub


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


WITHOUT_NETWORK = {
    "data": (
        ["data.source=hub", "data.path=Foo/BarSet"],
        "the dataset Foo/BarSet of the hub cannot be fetched: there is no network",
        "give the folder or its Parquet files",
    ),
    "repa": (
        ["regularizers=[{name: repa, block: levels.1.0, encoder: dinov2, path: foo/dino}]"],
        "there is no encoder at foo/dino, and as a hub id it cannot be fetched: there is no netw",
        "or its encoder to lite0",
    ),
}


@pytest.mark.parametrize("what", WITHOUT_NETWORK)
def test_what_an_experiment_reads_from_the_hub_is_asked_for_first(offline, capfd, what):
    changes, said, instead = WITHOUT_NETWORK[what]
    experiment = read_experiment("fashion_mnist/dico_nano", changes)
    began = time.monotonic()
    with pytest.raises(InputError) as refused:
        check_places(experiment)
    assert said in str(refused.value) and instead in str(refused.value)
    assert time.monotonic() - began < 5 and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("where", ["hub:Foo/BarSet", "hub:Foo/BarSet:test", "hub:foo"])
def test_images_of_the_hub_are_asked_for_first(offline, where):
    name = where.split(":")[1]
    with pytest.raises(InputError, match=f"the dataset {name} of the hub cannot be fetched"):
        check_images(where)


def test_an_encoder_that_is_no_id_is_refused_without_the_hub(offline):
    with pytest.raises(InputError, match=r"no encoder at ./dino\. Set its path"):
        check_encoder("./dino")


@pytest.mark.parametrize("name", ["Foo/BarSet", "foo/HTMLPage2x", "mnist", "a/fashion_mnist-v2"])
def test_a_dataset_that_was_fetched_before_is_used(offline, monkeypatch, tmp_path, capsys, name):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    *owner, last = name.split("/")
    table = "___".join([*owner, datasets.naming.camelcase_to_snakecase(last)])
    (tmp_path / table / "default" / "0.0.0" / "abc").mkdir(parents=True)
    hub.check_data(name)
    assert f"the copy of {name} on this machine is used" in capsys.readouterr().err
    assert constants.HF_HUB_OFFLINE and datasets.config.HF_HUB_OFFLINE  # nothing asks again


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


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("GatedRepoError", r"it cannot be fetched: its authors give it to those who ask\. Accept"),
        ("RepositoryNotFoundError", r"has none of that name, or shows it only to some; .* Else\."),
    ],
)
def test_what_only_some_may_fetch(monkeypatch, kind, words):
    monkeypatch.setattr(hub, "_problem", lambda: None)
    answer = httpx.Response(401, request=httpx.Request("GET", "http://127.0.0.1"))
    error = getattr(errors, kind)("401 Client Error. (Request ID: 1)", response=answer)
    with pytest.raises(InputError, match=words) as told, hub.asking("it", "Else."):
        raise error
    assert "401" not in str(told.value) and "hf auth login" in str(told.value)
