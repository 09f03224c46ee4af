"""The benchmark of linear attention: its turns, its arithmetic, and what it says."""

import json

import pytest
import torch

from gensynth.cli import main as command
from gensynth_benchmarks import linear_stacks, linearize
from gensynth_benchmarks.ledger import Ledger
from gensynth_benchmarks.linear_stacks import FLUX_ATTENTION, FLUX_BLOCKS, STACKS
from gensynth_benchmarks.measuring import exponent

ABOUT = {"device": "abacus", "kernels": "k", "date": "today", "commit": "c"}
PAIR = "full and linear"


def row(stack, side, linear, full=None, **more):
    own = {"stack": stack, "side": side, "tokens": side**2 + STACKS[stack].text[0], "rounds": 3}
    own |= {"linear_seconds": linear, "linear_gib": 1.0, "methods": "linear"}
    if full is not None:
        own |= {"full_seconds": full, "full_gib": 2.0, "methods": PAIR}
    return own | more


@pytest.mark.parametrize("name", STACKS)
@torch.inference_mode()
def test_both_methods_take_the_same_tokens(name, monkeypatch):
    """And with a window that sees everything CLEAR is full attention, of the same weights."""
    monkeypatch.setattr(linear_stacks, "WINDOW", 100)
    full, linear = (STACKS[name].make(6, linear, True)() for linear in (False, True))
    assert full.shape == linear.shape and full.isfinite().all() and linear.isfinite().all()
    assert full.std() > 0
    assert torch.allclose(full, linear, atol=1e-5) == (STACKS[name].method == "clear")


def test_the_published_shapes():
    """Parameters of FLUX.1-dev and of SDXL's UNet, as their model cards count them."""
    import diffusers

    for kind, config, billions in (
        (diffusers.FluxTransformer2DModel, linear_stacks.FLUX, 11.90),
        (diffusers.UNet2DConditionModel, linear_stacks.SDXL, 2.57),
    ):
        model = linear_stacks.create(kind, config)
        assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, abs=0.01)


def test_weights_are_random_and_norms_near_one():
    layers = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.LayerNorm(64)).to("meta")
    linear_stacks.fill(layers, "cpu")
    assert layers[0].weight.std().item() == pytest.approx(0.02, rel=0.1) and layers[0].bias.all()
    assert layers[1].weight.mean().item() == pytest.approx(1, abs=0.02)


def test_they_take_turns(monkeypatch):
    order = []

    def work(name, spent):
        return lambda: (order.append(name), (spent, len(order)))[1]

    found = linearize.alternate({"full": work("full", 1.0), "linear": work("linear", 0.5)}, 2.0)
    assert order == ["full", "linear"] * 4
    assert found == {"full": ([1.0] * 3, 7), "linear": ([0.5] * 3, 8)}
    order.clear()
    slow = linearize.alternate({"full": work("full", 500.0), "linear": work("linear", 1.0)}, 2.0)
    assert order == ["full", "linear"] and slow["full"] == ([500.0], 1)


def test_what_would_take_too_long_is_left_out_and_measured_later(tmp_path, monkeypatch):
    seconds = {"full": 0.001, "linear": 0.001}

    def measure(name, side, methods, *unused):
        of_side = {m: seconds[m] * (side**4 if m == "full" else side**2) for m in methods}
        return {f"{method}_seconds": value for method, value in of_side.items()}

    monkeypatch.setattr(linearize, "measure", measure)
    monkeypatch.setattr(linearize, "STACKS", {FLUX_BLOCKS: STACKS[FLUX_BLOCKS]})
    monkeypatch.setattr(linearize, "SIDES", (2, 4, 8, 16))
    ledger = Ledger(tmp_path, "linearize", ABOUT, minutes=5 / 60)
    linearize.measure_all(ledger, 1.0)
    # 8x8 would be 2 * (16 * 0.256 + 4 * 0.016) s, more than there is; 16x16 is not known at all
    assert [(r["side"], r["methods"]) for r in ledger.rows] == [
        (2, PAIR),
        (4, PAIR),
        (8, "linear"),
        (16, "linear"),
    ]
    assert ledger.left == [f"{FLUX_BLOCKS}, {side}, {side**2 + 512}, {PAIR}" for side in (8, 16)]
    more = Ledger(tmp_path, "linearize", ABOUT, minutes=60)
    linearize.measure_all(more, 1.0)
    assert [r["side"] for r in more.rows if r["methods"] == PAIR] == [2, 4, 8, 16]
    assert not more.left and len(more.rows) == 6
    assert linearize.gain(linearize.measured(more.rows, FLUX_BLOCKS)[16]) == pytest.approx(16**2)


def test_full_attention_that_does_not_fit_leaves_the_linear_row(tmp_path, monkeypatch):
    def measure(name, side, methods, *unused):
        if "full" in methods:
            raise RuntimeError("out of memory")
        return {"linear_seconds": 1.0}

    monkeypatch.setattr(linearize, "measure", measure)
    monkeypatch.setattr(linearize, "STACKS", {FLUX_BLOCKS: STACKS[FLUX_BLOCKS]})
    monkeypatch.setattr(linearize, "SIDES", (2,))
    ledger = Ledger(tmp_path, "linearize", ABOUT, minutes=1)
    linearize.measure_all(ledger, 1.0)
    cells = linearize.size_cells(ledger.rows, FLUX_BLOCKS)
    assert cells == [
        [FLUX_BLOCKS, "clear", "2x2 + 512", "RuntimeError: out of memory", "1.000"] + [""] * 4
    ]


def test_exponent():
    assert exponent([1, 4, 16], [3, 12, 48]) == pytest.approx(1)
    assert exponent([10, 20], [1, 4]) == pytest.approx(2)


def test_tables_and_verdicts():
    rows = [
        row(FLUX_ATTENTION, 32, 0.5, 0.4),
        row(FLUX_ATTENTION, 64, 1.5, 1.8),
        row(FLUX_ATTENTION, 128, 5.0, 24.0),
        row(FLUX_ATTENTION, 256, 20.0),
        row(FLUX_BLOCKS, 128, 70.0, 96.0),
    ]
    said = linearize.verdicts(rows)
    assert said[0] == (
        f"{FLUX_ATTENTION}, clear over full attention at 128x128 tokens: 4.80, target 5.00, MISSED"
    )
    assert said[1].endswith("the least from 64x64 on: 1.20, target 1.00, met")
    assert said[2] == f"{FLUX_ATTENTION}, exponent of clear: 0.98, target at most 1.15, met"
    assert said[3].endswith("not measured; target 5.00")
    assert said[-2].endswith("not measured at all sizes; target at most 1.15")
    assert said[-1].endswith(
        "50% of the time at 128x128 tokens: at most 2.0 times as fast without it"
    )
    sizes, growth = linearize.tables(rows)
    assert sizes.rows[3][2:6] == ["256x256 + 512", "not measured", "20.000", ""]
    # not by the row that was not measured
    assert growth.rows[0][1:3] == ["full", "1,536 to 16,896"]
    assert growth.rows[1][1:] == ["clear", "1,536 to 66,048", "0.98"]
    slower = [*rows[:3], row(FLUX_ATTENTION, 256, 50.0)]
    assert "1.20, target at most 1.15, MISSED" in linearize.verdicts(slower)[2]
    assert not linearize.most_of_blocks(rows[:4])


def test_the_command(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(linearize, "main", lambda *arguments: given.append(arguments))
    with pytest.raises(SystemExit) as ended:
        command(["bench", "linearize", "--out", str(tmp_path), "--minutes", "3"])
    assert not ended.value.code and given == [(tmp_path, 10.0, 3.0)]


@pytest.mark.slow
def test_all_of_it_in_miniature(tmp_path, capsys, monkeypatch):
    """Each method in a process of its own, and nothing twice."""
    monkeypatch.setattr(linearize, "TINY_SIDES", (4,))
    rows = linearize.main(tmp_path, 0.0, 5.0, tiny=True)
    assert [r["stack"] for r in rows] == list(STACKS)
    assert all(r["rounds"] == 3 and r["full_gib"] > 0.1 < r["linear_gib"] for r in rows)
    assert "not measured, run" not in capsys.readouterr().out
    assert (tmp_path / "linearize.md").read_text().startswith("cpu-")
    monkeypatch.setattr(linearize, "measure", lambda *_: pytest.fail("measured again"))
    assert linearize.main(tmp_path, 0.0, 5.0, tiny=True) == rows
    assert json.loads((tmp_path / "linearize.json").read_text())["miniature"]
