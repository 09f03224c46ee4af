"""The benchmark of large pictures: its models, its arithmetic, and what it keeps."""

import pytest
import torch

from gensynth.cli import main as command
from gensynth_benchmarks import highres
from gensynth_benchmarks.highres import MODELS, STEP
from gensynth_benchmarks.machine import fresh_peak_gib, peak_gib


def test_the_models_have_about_as_many_parameters():
    counts = []
    for name in MODELS:
        with torch.device("meta"):
            counts.append(sum(p.numel() for p in highres.create(name).parameters()))
    assert max(counts) < 1.05 * min(counts)


def test_a_step_takes_the_memory_of_its_tensors():
    """More with the picture, and not that of what was made before."""
    torch.zeros(2**27)  # 512 MiB, gone before the row
    small, large = (
        highres.apart(highres.step, "DiT-S/2, softmax", pixels, 0.0, True) for pixels in (64, 1024)
    )
    assert small["gib"] < 0.1 and small["gib"] < large["gib"]
    assert small["calls"] == highres.FEWEST and small["seconds"] > 0


def test_a_peak_can_be_forgotten():
    now = fresh_peak_gib()
    torch.ones(2**26)  # 256 MiB
    assert peak_gib("cpu") - now == pytest.approx(0.25, abs=0.02)
    assert fresh_peak_gib() == pytest.approx(now, abs=0.02)


def test_a_long_call_is_made_once(monkeypatch):
    calls = []
    monkeypatch.setattr(highres, "LONG", 0.0)
    assert len(highres.durations(lambda: calls.append(1), 5.0)) == len(calls) == 1


def row(model, pixels, seconds):
    about = {"what": STEP, "gib": pixels / 1000, "parameters": 2_500_000}
    return about | {"model": model, "pixels": pixels, "seconds": seconds}


def test_tables():
    softmax, linear = "DiT-S/2, softmax", "DiT-S/2, linear"
    rows = [
        *(row(softmax, pixels, pixels**4 / 1e9) for pixels in (256, 512, 1024)),
        *(row(linear, pixels, pixels**2 / 1e4) for pixels in (256, 512)),
        {"what": STEP, "model": linear, "pixels": 1024, "failed": "out of memory"},
    ]
    times, memory, crossings, decoded = highres.tables(rows)
    assert not decoded.rows
    assert times.columns[2:] == ["256 px", "512 px", "1024 px", "exponent"]
    cells = {line[0]: line[1:] for line in times.rows}
    assert cells[softmax] == ["2.5 M", "4.295", "68.719", "1,099.512", "2.00"]
    assert cells[linear] == ["2.5 M", "6.554", "26.214", "out of memory", "1.00"]
    assert cells["DiCo-S"] == ["", "", "", "", ""]
    assert {line[0]: line[-1] for line in memory.rows}[softmax] == "0.50"
    # equal where pixels^2 = 1e5
    assert crossings.rows == [[linear, softmax, "316"]]


def test_peaks_of_decoding():
    def row(pixels, peak):
        about = {"what": highres.DECODING, "model": "taef2", "pixels": pixels, "tile": 512}
        return about | {"seconds": 2.0, "gib": 0.5, "process_gib": peak}

    rows = [row(1024, 0.90), row(2048, 0.98)]
    assert highres.tables(rows)[-1].rows[0] == ["1024", "512", "2.0", "0.50", "0.90"]
    assert "lie 9% apart, target at most 10%, met" in highres.verdicts(rows)[0]
    assert highres.verdicts([*rows, row(4096, 1.1)])[0].endswith("MISSED")
    assert "not measured" in highres.verdicts(rows[:1])[0]
    assert highres.decoding(64)["gib"] >= 0


def test_random_latents_are_the_same_in_every_window():
    latents = highres.RandomLatents(3, 8, 10)
    every = slice(None)
    whole = latents[every, every, slice(0, 8), slice(0, 10)]
    assert whole.shape == (1, 3, 8, 10) and whole.std() > 0.8
    window = latents[every, every, slice(2, 5), slice(1, 4)]
    assert torch.equal(window, whole[:, :, 2:5, 1:4])


def test_the_command(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(highres, "main", lambda *arguments: given.append(arguments))
    with pytest.raises(SystemExit) as ended:
        command(["bench", "highres", "--out", str(tmp_path), "--minutes", "3"])
    assert not ended.value.code and given == [(tmp_path, 10.0, 3.0)]


@pytest.mark.slow
def test_all_of_it_in_miniature(tmp_path, monkeypatch):
    monkeypatch.setattr(highres, "TINY_PIXELS", (64,))
    rows = highres.main(tmp_path, 0.0, 5.0, tiny=True)
    assert [r["model"] for r in rows if r["what"] == STEP] == list(MODELS)
    assert all("failed" not in r for r in rows)
    assert (tmp_path / "highres.md").read_text().startswith("cpu-")
    monkeypatch.setattr(highres, "apart", lambda *_: pytest.fail("measured again"))
    assert highres.main(tmp_path, 0.0, 5.0, tiny=True) == rows
