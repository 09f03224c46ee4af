"""What `gensynth ema` makes of a run."""

import json

import pytest
import torch
from averaged import several
from safetensors.torch import load_file
from tiny import write_experiment

import gensynth
from gensynth.errors import CorruptError, InputError, RefusedError, UsageError
from gensynth.experiments.read import load_experiment
from gensynth.training.averages.export import export_decay, export_std, open_averages
from gensynth.training.averages.snapshots import list_snapshots
from gensynth.training.loop import train


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return several(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """60 steps with a snapshot at every second; std 0.08 is tracked as well."""
    changes = {"ema.stds": [0.05, 0.1, 0.08], "training.steps": 60, "training.log_every": 60}
    changes |= {"checkpoint.every": 30}
    return several(tmp_path_factory.mktemp("longer"), **changes)


def distance(one, other):
    a, b = (torch.cat([w[name].flatten() for name in sorted(other)]) for w in (one, other))
    return ((a - b).norm() / b.norm()).item()


def exported_weights(exported):
    return load_file(exported.folder / "model" / "diffusion_pytorch_model.safetensors")


def test_reconstruction_gives_the_tracked_average_back(longer, tmp_path):
    averages = open_averages(longer)
    tracked = load_file(longer / "averages" / "std-0.080.safetensors")
    same = export_std(averages, 0.08, None, tmp_path / "same")
    assert same.error < 1e-6 and distance(exported_weights(same), tracked) < 1e-6
    # From the two others alone, as if 0.08 had never been tracked.
    kept = [snapshot for snapshot in averages.snapshots if snapshot.std != 0.08]
    fewer = type(averages)(averages.run, averages.config, averages.home, averages.step, kept)
    made = export_std(fewer, 0.08, None, tmp_path / "made")
    neighbour = load_file(longer / "averages" / "std-0.100.safetensors")
    assert made.used == 60 and made.error < 0.01
    assert distance(exported_weights(made), tracked) < 0.05 * distance(neighbour, tracked)


def test_exported_average_is_a_model(longer, tmp_path):
    exported = export_std(open_averages(longer), 0.12, 40, tmp_path / "new" / "model")
    assert exported.step == 40
    assert len(gensynth.load(exported.folder)(labels=[3], seeds=[0])) == 1
    record = json.loads((exported.folder / "average.json").read_text())
    assert record["std"] == 0.12 and record["step"] == 40
    assert sum(record["coefficients"].values()) == pytest.approx(1)
    assert all(int(name[5:13]) <= 40 for name in record["coefficients"])


def test_export_of_decays(longer, tmp_path):
    averages = open_averages(longer)
    for decay, path in (
        (0.9, longer / "model" / "model" / "diffusion_pytorch_model.safetensors"),
        (0.5, longer / "averages" / "decay-0.5.safetensors"),
    ):
        exported = export_decay(averages, decay, None, None)
        assert exported.folder == longer / "ema" / f"step-00000060-decay-{decay}"
        assert distance(exported_weights(exported), load_file(path)) == 0
    older = export_decay(averages, 0.5, 30, None)
    saved = longer / "checkpoints" / "step-00000030" / "averages" / "decay-0.5.safetensors"
    assert distance(exported_weights(older), load_file(saved)) == 0


def test_unfinished_run_offers_its_newest_checkpoint(tmp_path):
    several(tmp_path, "training.steps=4")
    run = tmp_path / "run"
    for part in ("model", "averages"):
        (run / part).rename(tmp_path / part)
    exported = export_decay(open_averages(run), 0.5, None, None)
    assert exported.step == 4
    want = load_file(tmp_path / "averages" / "decay-0.5.safetensors")
    assert distance(exported_weights(exported), want) == 0


def test_wrong_requests(whole, longer, tmp_path):
    averages = open_averages(longer)
    for std in (0.3, 0.005, 0.0805, float("nan")):
        with pytest.raises(UsageError, match=r"multiple of 0.001 from 0.01 to 0.25"):
            export_std(averages, std, None, None)
    with pytest.raises(UsageError, match=r"Within 10% they give 0.0\d\d to 0.\d"):
        export_std(open_averages(whole), 0.01, None, None)
    with pytest.raises(InputError, match=r"no snapshot of step 41.*nearest is 4[02]"):
        export_std(averages, 0.08, 41, None)
    with pytest.raises(InputError, match=r"no average of decay 0.99. Decays there: 0.9, 0.5"):
        export_decay(averages, 0.99, None, None)
    with pytest.raises(InputError, match=r"no checkpoint of step 7. Steps there: 30, 60"):
        export_decay(averages, 0.5, 7, None)
    (tmp_path / "file").touch()
    with pytest.raises(RefusedError, match="choose another --out"):
        export_decay(averages, 0.5, None, tmp_path)
    with pytest.raises(InputError, match="not the output folder of a run"):
        open_averages(tmp_path)


def test_run_without_snapshots_says_what_keeps_them(tmp_path):
    run = train(load_experiment(write_experiment(tmp_path), ["training.steps=2"]))
    with pytest.raises(InputError, match=r"no snapshots. Runs with ema.stds"):
        export_std(open_averages(run), 0.08, None, None)


def test_damaged_snapshot_is_named(tmp_path):
    run = several(tmp_path)
    path = list_snapshots(run)[3].path
    content = bytearray(path.read_bytes())
    content[-5] ^= 1  # one bit of one weight
    path.write_bytes(content)
    with pytest.raises(CorruptError, match=f"{path.name} is damaged"):
        export_std(open_averages(run), 0.08, None, None)
    assert not (run / "ema").exists()
    path.write_bytes(content[:50])
    with pytest.raises(CorruptError, match=f"{path.name} is damaged"):
        export_std(open_averages(run), 0.08, None, None)
    path.unlink()
    assert export_std(open_averages(run), 0.08, None, None).used == 11


def test_command_reconstructs_and_says_how_to_sample(command, longer, tmp_path):
    done = command("ema", longer, "--std", "0.08", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "std 0.080 at step 60, from 90 snapshots"
    assert lines[-1] == f"sample: gensynth sample --model {tmp_path / 'out'}"
    assert (tmp_path / "out" / "model_index.json").is_file()


def test_command_lists_what_there_is(command, longer):
    done = command("ema", longer)
    assert done.returncode == 0
    assert done.stdout.splitlines()[:2] == [
        "--decay 0.9: step 60 (the one in model/)",
        "--decay 0.5: step 60",
    ]
    assert "from 90 snapshots, steps 2 to 60" in done.stdout


def test_command_refuses_both_options(command, longer):
    done = command("ema", longer, "--std", "0.08", "--decay", "0.9")
    assert done.returncode == 2 and "not both" in done.stderr
    assert command("ema", longer, "--step", "4").returncode == 2
