"""Tables of launches: whole, and replaced by what was tuned for this GPU and these versions."""

import json

import pytest
import torch

from gensynth.ops import OPERATORS, launches
from gensynth.ops.launches import Launch


@pytest.fixture
def a_gpu(monkeypatch, tmp_path):
    """As on a machine with a GPU of that name, whose launches lie in `tmp_path`."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Test 80GB")
    monkeypatch.setenv("GENSYNTH_CACHE", str(tmp_path))
    launches.load_tuned.cache_clear()
    yield
    launches.load_tuned.cache_clear()


@pytest.mark.parametrize("name", OPERATORS)
def test_specimens_use_every_launch(name):
    operator = OPERATORS[name]
    used = {key for specimen in operator.specimens() for key in specimen.keys}
    assert used == set(operator.launches())


@pytest.mark.parametrize("name", OPERATORS)
def test_candidates_have_the_same_constants(name):
    operator = OPERATORS[name]
    for key, launch in operator.launches().items():
        candidates = operator.candidates(key)
        assert len(candidates) > 1
        for candidate in candidates:
            assert set(candidate.blocks) == set(launch.blocks)


def test_tuned_launches_come_first(a_gpu, tmp_path):
    shipped = {"a": Launch({"BLOCK": 64}), "b": Launch({"BLOCK": 32})}
    tuned = Launch({"BLOCK": 128}, num_warps=8, num_stages=3)
    path = launches.save_tuned({"op": {"a": tuned}})
    assert path == tmp_path / "ops" / "nvidia-test-80gb.json"
    assert launches.find("op", shipped, "a") == tuned
    assert launches.find("op", shipped, "b") == shipped["b"]
    assert tuned.keywords() == {"BLOCK": 128, "num_warps": 8, "num_stages": 3}


def test_tuned_launches_of_other_versions_are_left_out_with_a_word(a_gpu, caplog):
    path = launches.save_tuned({"op": {"a": Launch()}})
    content = json.loads(path.read_text())
    content["versions"]["triton"] = "0"
    path.write_text(json.dumps(content))
    launches.load_tuned.cache_clear()
    assert launches.load_tuned() == {}
    assert "gensynth ops tune" in caplog.text


WHOLE = {"versions": {}, "launches": {"op": {"a": {"blocks": {"BLOCK": 64}}}}}


def changed(launch):
    return {**WHOLE, "launches": {"op": {"a": launch}}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe{}",
        b'{"versions": {',
        b"[" * 100_000,
        b"[]",
        b"null",
        {"launches": {}},
        {"versions": {}},
        {**WHOLE, "launches": ["op"]},
        {**WHOLE, "launches": {"op": 3}},
        changed({"blocks": 64}),
        changed({"blocks": {"BLOCK": "64"}}),
        changed({"blocks": {"BLOCK": 64}, "num_warps": 0}),
        changed({"blocks": {"BLOCK": 64}, "num_stages": 2.0}),
        changed({"stages": 2}),
    ],
    ids=lambda content: str(content)[:40],
)
def test_a_damaged_file_is_said_ignored_and_made_anew(a_gpu, caplog, monkeypatch, content):
    monkeypatch.setattr(launches, "versions", dict)
    path = launches.cache_file()
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    shipped = {"a": Launch({"BLOCK": 32})}
    for _ in range(2):
        assert launches.find("op", shipped, "a") == shipped["a"]
    (record,) = caplog.records  # said once
    assert record.getMessage().startswith(f"{path} cannot be read and is not used")
    assert "gensynth ops tune" in record.getMessage()
    launches.save_tuned({"op": {"a": Launch({"BLOCK": 128})}})
    assert launches.find("op", shipped, "a") == Launch({"BLOCK": 128})


def test_a_whole_file_is_used(a_gpu, caplog, monkeypatch):
    monkeypatch.setattr(launches, "versions", dict)
    path = launches.cache_file()
    path.parent.mkdir()
    path.write_text(json.dumps(WHOLE))
    assert launches.find("op", {}, "a") == Launch({"BLOCK": 64})
    assert not caplog.records


def test_trying():
    shipped = {"a": Launch({"BLOCK": 64})}
    other = Launch({"BLOCK": 16})
    with launches.trying("op", "a", other):
        assert launches.find("op", shipped, "a") == other
    assert launches.find("op", shipped, "a") == shipped["a"]


def test_a_sum_is_not_cut_by_a_launch():
    """What is added up in which order must not depend on the tuning of a machine."""
    for operator in OPERATORS.values():
        for launch in operator.launches().values():
            assert not {"SPLITS", "TOKENS_PER_SPLIT"} & set(launch.blocks)
