"""Runs that train adapters, or a part of a model."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
import torch
from launching import command, launch, training
from peft import PeftModel
from safetensors.torch import load_file
from tiny import losses, write_experiment

import gensynth
from gensynth.errors import InputError, UsageError
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train

LORA = "lora={rank: 2, dropout: 0.1}"
MODEL = "model/model/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run of four steps to begin from."""
    config = write_experiment(tmp_path_factory.mktemp("first"))
    return train(load_experiment(config, ["training.steps=4"]))


def experiment(folder, first, *overrides):
    return load_experiment(write_experiment(folder), [f"init_from={first}", *overrides])


def folder_of(run):
    """The bytes of what a run of adapters leaves."""
    newest = sorted((run / "checkpoints").glob("step-????????"))[-1]
    files = [run / MODEL, run / "adapter/adapter_model.safetensors"]
    files.append(newest / "state/trained.safetensors")
    return [file.read_bytes() for file in files]


@pytest.fixture(scope="module")
def adapted(first, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted")
    return train(experiment(folder, first, LORA, "training.steps=6"))


def drawn(pipe):
    return pipe.draw([3, 8], [0, 1])


def test_only_the_adapter_is_trained_and_stored(first, adapted):
    tensors = load_file(adapted / "adapter/adapter_model.safetensors")
    assert all(".lora_" in name for name in tensors)
    assert any(tensor.abs().max() > 0 for name, tensor in tensors.items() if "lora_B" in name)
    config = json.loads((adapted / "adapter/adapter_config.json").read_text())
    assert (config["r"], config["peft_type"]) == (2, "LORA")
    newest = sorted((adapted / "checkpoints").glob("step-*"))[-1]
    small = sum(file.stat().st_size for file in (newest / "state").glob("*.safetensors"))
    assert small < (first / MODEL).stat().st_size
    merged, base = load_file(adapted / MODEL), load_file(first / MODEL)
    assert merged.keys() == base.keys()
    assert not torch.equal(merged["stem.weight"], base["stem.weight"])
    name = "levels.0.0.depthwise.weight"  # in groups
    assert torch.equal(merged[name], base[name])
    name = "class_embedders.0.weight"
    assert torch.equal(merged[name], base[name])


def test_the_run_its_adapter_and_peft_draw_alike(first, adapted):
    """`model/` is merged; the adapter acts in the layers; peft puts it on by itself."""
    merged = gensynth.load(adapted, device="cpu")
    loaded = gensynth.load(first, device="cpu", lora=adapted)
    plain = gensynth.load(first, device="cpu")
    sample, time = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0)), 300.0
    labels = torch.tensor([1, 10])
    outputs = [pipe.model(sample, time, labels) for pipe in (plain, merged, loaded)]
    assert (outputs[0] - outputs[1]).abs().max() > 1e-5
    torch.testing.assert_close(outputs[1], outputs[2], atol=1e-5, rtol=1e-4)
    by_peft = PeftModel.from_pretrained(plain.model, str(adapted / "adapter"))
    torch.testing.assert_close(by_peft(sample, time, labels), outputs[2], atol=1e-6, rtol=1e-5)


def test_a_run_that_was_stopped_becomes_the_run_in_peace(first, adapted, tmp_path):
    train(experiment(tmp_path, first, LORA, "training.steps=4"))
    run = train(experiment(tmp_path, first, LORA, "training.steps=6"))
    assert folder_of(run) == folder_of(adapted)
    assert losses(run) == losses(adapted)


def test_two_processes_learn_the_same(first, adapted, tmp_path):
    config = write_experiment(tmp_path)
    given = [f"init_from={first}", "lora={rank: 2}", "training.steps=3"]
    one = train(load_experiment(config, [*given, f"output={tmp_path / 'one'}"]))
    done = launch(command, *training(config, *given, f"output={tmp_path / 'two'}"), processes=2)
    assert done.returncode == 0, done.stderr
    for step, loss in losses(one).items():
        assert losses(tmp_path / "two")[step] == pytest.approx(loss, rel=1e-4)
    ours, theirs = (load_file(run / MODEL) for run in (one, tmp_path / "two"))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in ours)


def test_other_classes_are_stored_with_the_adapter(first, tmp_path):
    given = ["data.classes=[Hat,Bag,Coat,d,e,f,g,h,i,j,k,l]", "training.steps=2", LORA]
    own = experiment(tmp_path, first, *given, "optimizer.lr=0.1")
    table = pq.read_table(tmp_path / "images.parquet").replace_schema_metadata(None)
    pq.write_table(table, tmp_path / "images.parquet")  # without the names of Fashion-MNIST
    run = train(own)
    pipe = gensynth.load(first, device="cpu", lora=run / "adapter")
    assert pipe.classes[:3] == ["Hat", "Bag", "Coat"] and len(pipe.classes) == 12
    merged = gensynth.load(run, device="cpu")
    assert merged.classes == pipe.classes
    name = "class_embedders.0.weight"
    assert torch.equal(pipe.model.state_dict()[name], merged.model.state_dict()[name])
    pictures = zip(drawn(pipe), drawn(merged), strict=True)
    assert all(abs(a.getpixel((9, 9)) - b.getpixel((9, 9))) <= 1 for a, b in pictures)


def test_weights_that_are_to_be_trained_whole(first, tmp_path):
    whole = "lora={rank: 1, targets: ['levels.1-3.*.mlp_in'], whole: ['class_embedders.0']}"
    run = train(experiment(tmp_path, first, whole, "training.steps=2"))
    names = load_file(run / "adapter/adapter_model.safetensors").keys()
    assert sum(name.endswith("class_embedders.0.weight") for name in names) == 1
    assert {n.split(".")[3] for n in names if "lora_A" in n} == {"1", "2", "3"}


def test_the_base_may_not_change_under_an_adapter(first, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(first / "model", base)
    train(experiment(tmp_path / "run", base, LORA, "training.steps=2"))
    other = train(load_experiment(write_experiment(tmp_path / "o"), ["training.steps=1", "seed=3"]))
    shutil.rmtree(base)
    shutil.copytree(other / "model", base)
    with pytest.raises(InputError, match="has other weights than when this run began"):
        train(experiment(tmp_path / "run", base, LORA, "training.steps=4"))
    with pytest.raises(InputError, match=r"is of another model: the weights of .* are others"):
        gensynth.load(base, lora=tmp_path / "run/run")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["lora={rank: 2}", "init_from=null"], "set init_from to one"),
        (["lora={rank: 0}"], r"'lora.rank'"),
        (["lora={rnk: 2}"], r"unknown key 'lora.rnk'. Did you mean 'lora.rank'"),
        (["lora={targets: ['*.depthwise']}"], r"lora.targets: nothing in this model"),
        (["lora={rank: 2}", "training.freeze=[stem]"], "leave training.freeze out"),
        (["lora={rank: 2}", "ema.decay=[0.9,0.99]"], "one rate"),
        (["training.freeze=[stm]"], "Did you mean 'stem'"),
        (["training.freeze=['*']"], "leaves nothing to train"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_loads(tmp_path, given, message):
    with pytest.raises(UsageError, match=message):
        load_experiment(write_experiment(tmp_path), ["init_from=dico-nano-fashion", *given])


def test_adapters_of_a_model_that_means_something_else_are_refused(first, tmp_path):
    with pytest.raises(UsageError, match=r"time_scale is 1\.0 there and 1000\.0 here"):
        train(experiment(tmp_path, first, LORA, "objective.time_scale=1000.0"))


def test_frozen_parts_stay_and_the_rest_resumes_to_the_bit(tmp_path, capsys):
    frozen = ["training.freeze=['levels.0-2', '*.mlp_*']", "ema.decay=[0.9,0.5]"]

    def run(name, *steps):
        config = write_experiment(tmp_path / name)
        for count in steps:
            folder = train(load_experiment(config, [*frozen, f"training.steps={count}"]))
        return folder

    peace, stopped = run("peace", 6), run("stopped", 4, 6)
    assert (peace / MODEL).read_bytes() == (stopped / MODEL).read_bytes()
    assert losses(peace) == losses(stopped)
    assert "frozen (levels.0-2, *.mlp_*): " in capsys.readouterr().err
    early, late = (load_file(run(str(n), n) / MODEL) for n in (2, 9))
    changed = {name for name in late if not torch.equal(early[name], late[name])}
    assert not any(
        n.startswith(("levels.0", "levels.1", "levels.2")) or ".mlp_" in n for n in changed
    )
    assert {"final_layer.conv.weight", "levels.4.0.conv_in.weight"} <= changed
    newest = sorted((peace / "checkpoints").glob("step-*"))[-1]
    state = torch.load(newest / "state/optimizer.bin", weights_only=True)["state"]
    assert len(state) < len(late)
    done = launch(command, *training(write_experiment(tmp_path / "2"), *frozen), processes=2)
    assert done.returncode == 0, done.stderr
