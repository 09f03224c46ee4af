"""Several averages at once and their snapshots, in a model and through a run."""

import resource

import pytest
import torch
from averaged import SEVERAL, killed_before_step_8_is_saved, several
from diffusers.training_utils import EMAModel
from launching import command, launch, training
from safetensors.torch import load_file
from tiny import losses, weights, write_experiment
from torch import nn

from gensynth.config import EMA
from gensynth.errors import InputError, OutputError, UsageError
from gensynth.experiments.read import load_experiment
from gensynth.training.averages.ema import WeightAverage, decay_beta
from gensynth.training.averages.export import export_decay, open_averages
from gensynth.training.averages.snapshots import list_snapshots, read_snapshot, write_snapshot
from gensynth.training.loop import train


def everything(run):
    """The bytes of all averages, snapshots and weights at the end of a run."""
    files = [*(run / "averages").iterdir(), *(run / "snapshots").iterdir()]
    return {file.name: file.read_bytes() for file in files}, weights(run)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return several(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("warmup", [False, True])
def test_decay_is_that_of_diffusers(warmup):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 5))
    ours = WeightAverage(model, EMA(decay=0.95, warmup=warmup))
    theirs = EMAModel(model.parameters(), decay=0.95, min_decay=0.0 if warmup else 0.95)
    for number in range(1, 301):
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight))
        ours.update()
        theirs.step(model.parameters())
        assert decay_beta(0.95, warmup, number) == theirs.cur_decay_value
        # The same numbers but for rounding: diffusers subtracts a difference, we interpolate.
        for mine, other in zip(ours.averages[0].tensors, theirs.shadow_params, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-5)


def test_the_first_update_takes_the_first_weights_and_not_their_start():
    """DiT's and SiT's `update_ema` copies the random start and then keeps `decay` of it."""
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(8.0)  # the random start
    ours = WeightAverage(model, EMA(decay=0.75))
    published = 8.0
    seen = []
    for weight in (4.0, 2.0, 1.0):
        with torch.no_grad():
            model.weight.fill_(weight)
        ours.update()
        published = 0.75 * published + 0.25 * weight
        seen.append((ours.averages[0].tensors[0].item(), published))
    assert seen == [(4.0, 7.0), (3.5, 5.75), (2.875, 4.5625)]
    # What remains is the share of the start in the published one: decay ** updates.
    difference = seen[-1][1] - seen[-1][0]
    assert difference == 0.75**3 * (8.0 - 4.0)


def test_averages_do_not_touch_each_other_or_the_model():
    model = nn.Linear(3, 2)
    config = EMA(decay=[0.9, 0.5], stds=[0.05])
    together = WeightAverage(model, config)
    alone = [
        WeightAverage(model, EMA(decay=0.9)),
        WeightAverage(model, EMA(decay=0.5)),
        WeightAverage(model, EMA(decay=None, stds=[0.05])),
    ]
    for value in (1.0, -2.0, 5.0):
        nn.init.constant_(model.weight, value)
        for average in (together, *alone):
            average.update()
    assert [average.name for average in together.averages] == [
        "decay-0.9",
        "decay-0.5",
        "std-0.050",
    ]
    for mine, other in zip(together.averages, alone, strict=True):
        assert all(map(torch.equal, mine.tensors, other.averages[0].tensors))
    assert model.weight.eq(5).all()


def test_applied_exchanges_storage_and_brings_it_back():
    model = nn.Linear(3, 2)
    average = WeightAverage(model, EMA(decay=0.5))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = model.weight.data_ptr()
    average.update()
    nn.init.constant_(model.weight, 7.0)
    kept = average.averages[0].tensors[0].clone()
    with average.applied():
        assert torch.equal(model.weight, kept)
    assert model.weight.data_ptr() == before and model.weight.eq(7).all()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert model.weight.eq(6).all() and torch.equal(average.averages[0].tensors[0], kept)


def test_spoilt_average_is_noticed():
    model = nn.Linear(1, 1)
    average = WeightAverage(model, EMA(decay=[0.9, 0.5]))
    assert average.finite()
    average.averages[1].tensors[0].fill_(float("inf"))
    assert not average.finite()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("ema.decay=[]", "'ema.decay'"),
        ("ema.decay=[0.9,0.9]", "different"),
        ("ema.decay=[0.9,1]", r"\[0, 1\)"),
        ("ema.decay=true", "'ema.decay'"),
        ("ema.decay=null", "ema.decay or ema.stds"),
        ("ema.stds=[0.3]", "'ema.stds.0'.*0.25"),
        ("ema.stds=[0.05,0.05]", "different multiples of 0.001"),
        ("ema.stds=[0.0505]", "different multiples of 0.001"),
        ("ema.stds=[]", "'ema.stds'"),
        ("ema.snapshot_every=5", "ema.stds"),
    ],
)
def test_settings_that_cannot_work(override, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        load_experiment(write_experiment(tmp_path), [override])


def test_settings_survive_yaml(tmp_path):
    experiment = load_experiment(write_experiment(tmp_path, **SEVERAL))
    (tmp_path / "again.yaml").write_text(experiment.to_yaml())
    assert load_experiment(tmp_path / "again.yaml") == experiment
    assert experiment.ema.decays == [0.9, 0.5]


def test_a_run_keeps_every_average(whole):
    assert sorted(path.name for path in (whole / "averages").iterdir()) == [
        "decay-0.5.safetensors",
        "std-0.050.safetensors",
        "std-0.100.safetensors",
    ]
    taken = list_snapshots(whole)
    assert [(snapshot.step, snapshot.std) for snapshot in taken] == [
        (step, std) for step in range(2, 13, 2) for std in (0.05, 0.1)
    ]
    assert taken[0].path.name == "step-00000002-std-0.050.safetensors"
    assert len(list((whole / "checkpoints").iterdir())) == 2


def test_more_averages_change_nothing_else(whole, tmp_path):
    plain = train(load_experiment(write_experiment(tmp_path)))
    assert losses(plain) == losses(whole) and weights(plain) == weights(whole)
    assert not (plain / "averages").exists() and not (plain / "snapshots").exists()


def test_without_averages_the_model_is_the_weights(tmp_path):
    run = train(load_experiment(write_experiment(tmp_path), ["ema=null", "training.steps=3"]))
    model = load_file(run / "model" / "model" / "diffusion_pytorch_model.safetensors")
    raw = load_file(run / "checkpoints" / "step-00000003" / "state" / "model.safetensors")
    assert all(torch.equal(model[name], raw[name]) for name in raw)
    with pytest.raises(InputError, match="Decays there: none"):
        export_decay(open_averages(run), 0.9, None, None)


def test_first_std_is_the_models_without_a_decay(whole, tmp_path):
    run = several(tmp_path, **{"ema.decay": None})
    assert [path.name for path in (run / "averages").iterdir()] == ["std-0.100.safetensors"]
    model = load_file(run / "model" / "model" / "diffusion_pytorch_model.safetensors")
    tracked = load_file(whole / "averages" / "std-0.050.safetensors")
    assert all(torch.equal(model[name], tracked[name]) for name in tracked)


def test_snapshots_come_with_checkpoints_by_default(tmp_path):
    run = several(tmp_path, "training.steps=10", **{"ema.snapshot_every": None})
    assert [snapshot.step for snapshot in list_snapshots(run)][::2] == [4, 8, 10]


def test_resumed_averages_are_bit_equal(whole, tmp_path):
    several(tmp_path, "training.steps=6")
    # Left by a session that went on to step 9 and was killed before its checkpoint.
    stale = list_snapshots(tmp_path / "run")[0]
    for name in ("std-0.050", "std-0.100"):
        write_snapshot(tmp_path / "run", 9, name, read_snapshot(stale), 9)
    (tmp_path / "run" / "snapshots" / ".step-00000009-std-0.100.safetensors.tmp").touch()
    run = several(tmp_path)
    assert everything(run) == everything(whole)


def test_killed_run_ends_as_if_it_had_not_been(whole, tmp_path):
    config = write_experiment(tmp_path, **SEVERAL)
    assert launch(killed_before_step_8_is_saved, str(config)).returncode == -9
    # The snapshot of step 8 is there, its checkpoint is not.
    assert list_snapshots(tmp_path / "run")[-1].step == 8
    assert everything(train(load_experiment(config))) == everything(whole)


def test_two_processes_continue_what_one_began(whole, tmp_path):
    several(tmp_path, "training.steps=6")
    done = launch(command, *training(tmp_path / "experiment.yaml"), processes=2)
    assert done.returncode == 0, done.stderr
    together, alone = everything(tmp_path / "run")[0], everything(whole)[0]
    assert together.keys() == alone.keys()
    first = {name for name in alone if name.startswith(("step-00000002", "step-00000006"))}
    assert all(together[name] == alone[name] for name in first)
    for name in ("decay-0.5", "std-0.050"):
        one, two = (
            load_file(r / "averages" / f"{name}.safetensors") for r in (whole, tmp_path / "run")
        )
        for key in one:  # gradients of two processes add up in another order
            torch.testing.assert_close(two[key], one[key], rtol=1e-4, atol=1e-5)


def test_full_disk_leaves_no_part_of_a_snapshot(tmp_path):
    tensors = {"weight": torch.zeros(1000)}
    write_snapshot(tmp_path, 1, "std-0.050", tensors, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # bytes; more fail like a full disk
    try:
        with pytest.raises(OutputError, match="cannot write the snapshot"):
            write_snapshot(tmp_path, 2, "std-0.050", tensors, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == [
        "step-00000001-std-0.050.safetensors"
    ]
