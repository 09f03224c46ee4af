"""Files and overrides that are refused, and the words in which they are."""

import time

import pytest

from configs import MINIMAL, refusal
from gensynth.errors import InputError, UsageError
from gensynth.experiments.read import load_experiment


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        # unknown key, at each level, with its nearest and all known ones
        ("sede=1", ["'sede'", "Did you mean 'seed'", "optimizer"]),
        ("data.sise=1", ["'data.sise'", "Did you mean 'data.size'", "flip"]),
        ("optimizer.lrr=1", ["'optimizer.lrr'", "Did you mean 'optimizer.lr'"]),
        ("training.step=1", ["'training.step'", "Did you mean 'training.steps'"]),
        ("ema.deccay=1", ["'ema.deccay'", "Did you mean 'ema.decay'"]),
        ("checkpoint.evry=1", ["'checkpoint.evry'", "Did you mean 'checkpoint.every'"]),
        ("sampling.guidence=1", ["'sampling.guidence'", "Did you mean 'sampling.guidance'"]),
        ("autoencoder.ptch=1", ["'autoencoder.ptch'", "Did you mean 'autoencoder.patch'"]),
        ("objective.tme=1", ["'objective.tme'", "Did you mean 'objective.time'", "label_dropout"]),
        ("model.hiden_size=8", ["'model.hiden_size'", "Did you mean 'model.hidden_size'", "depth"]),
        # values that are not among the allowed ones
        ("data.source=imagefolders", ["'data.source'", "imagefolder", "hub"]),
        ("data.channels=2", ["'data.channels'", "1 or 3", "got 2"]),
        ("data.fit=stretch", ["'data.fit'", "'crop' or 'pad'", "stretch"]),
        ("optimizer.schedule=step", ["'optimizer.schedule'", "cosine", "linear"]),
        ("training.mixed_precision=fp8", ["'training.mixed_precision'", "bf16"]),
        ("objective.name=flows", ["objective.name", "flow, ddpm, masked, reconstruction"]),
        ("objective={}", ["objective.name", "flow, ddpm, masked, reconstruction"]),
        ("model.name=DiCo-nanno", ["DiCo-nanno", "Did you mean 'DiCo-nano'", "DiCo-XL"]),
        # wrong types
        ("seed=true", ["'seed'", "True"]),
        ("seed=1.5", ["'seed'", "1.5"]),
        ("seed='1'", ["'seed'", "'1'"]),
        ("training.steps=true", ["'training.steps'", "True"]),
        ("training.steps=ten", ["'training.steps'", "'ten'"]),
        ("optimizer.lr=high", ["'optimizer.lr'", "'high'"]),
        ("optimizer.lr='1e-4'", ["'optimizer.lr'", "'1e-4'"]),
        ("data.channels=true", ["'data.channels'", "True"]),
        ("autoencoder.patch=true", ["'autoencoder.patch'", "True"]),
        ("data.flip=1", ["'data.flip'", "got 1"]),
        ("data.classes=Bag", ["'data.classes'", "'Bag'"]),
        ("data=5", ["'data'", "5"]),
        ("model=DiCo-nano", ["'model'", "DiCo-nano"]),
        ("output=", ["'output'", "None"]),
        # out of range
        ("seed=-1", ["'seed'", "-1"]),
        ("seed=18446744073709551616", ["'seed'"]),
        ("optimizer.lr=0", ["'optimizer.lr'", "greater than 0"]),
        ("optimizer.lr=.nan", ["'optimizer.lr'"]),
        ("optimizer.lr=.inf", ["'optimizer.lr'"]),
        ("optimizer.betas=[0.9]", ["'optimizer.betas'"]),
        ("optimizer.betas=[0.9, 1.5]", ["'optimizer.betas.1'", "1.5"]),
        ("objective.label_dropout=2", ["'objective.label_dropout'", "2"]),
        ("checkpoint.keep=1", ["'checkpoint.keep'", "1"]),
        ("sampling.guidance=-0.5", ["'sampling.guidance'", "-0.5"]),
        ("ema.decay=1", ["'ema.decay'", "1"]),
        # combinations
        ("data.path=x", ["'data'", "fashion_mnist"]),
        ("data.source=hub", ["'data'", "hub needs a path"]),
        ("data.size=30", ["data.size 30", "divisible by 4"]),
        ("data.size=33", ["data.size"]),
        (
            "training.gradient_accumulation=3",
            ["training.batch_size 256", "gradient_accumulation 3"],
        ),
        ("model.learn_sigma=true", ["model.learn_sigma", "false", "flow"]),
        ("model.null_label=false", ["null_label"]),
        ("model.in_channels=7", ["in_channels"]),
        ("model.depth=[1, 1]", ["depth"]),
        ("model.hidden_size=big", ["hidden_size"]),
        ("model.hidden_size=7", ["hidden_size"]),
        ("sampling.scheduler=DDPMScheduler", ["DDPMScheduler", "FlowMatchEulerDiscreteScheduler"]),
        # malformed overrides
        ("seed", ["'seed'", "key=value"]),
        ("=1", ["'=1'", "key=value"]),
        ("seed=[1", ["seed=[1", "YAML"]),
    ],
)
def test_refusals_name_the_key_and_what_is_allowed(write, override, expected):
    message = refusal(write(MINIMAL), override)
    for words in expected:
        assert words in message


def test_refusals_name_the_file(write):
    path = write({**MINIMAL, "sede": 1})
    assert str(path) in refusal(path)


def test_every_problem_is_named_at_once(write):
    message = refusal(write({**MINIMAL, "sede": 1, "data": {"sise": 2}}))
    assert "'sede'" in message
    assert "'data.sise'" in message


@pytest.mark.parametrize("key", ["output", "model", "objective"])
def test_a_missing_section_is_named(write, key):
    assert f"'{key}'" in refusal(write({k: v for k, v in MINIMAL.items() if k != key}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 1\nseed: 2\n", ["line ", "'seed' is given twice"]),
        ("data: {size: 32, size: 64}\n", ["'size' is given twice"]),
        ("a: &x [1]\nb: *x\n", ["line 2", "aliases"]),
        ("seed: [1\n", ["line"]),
        ("a: b: c\n", ["line 1"]),
        ("\tseed: 1\n", ["line 1"]),
        ("seed: !!python/object/apply:os.getpid []\n", ["line 1"]),
        ("seed: !!python/name:os.system\n", ["line 1"]),
        ("- a\n- b\n", ["sections"]),
        ("just text", ["sections"]),
        ("seed: \0\n", []),
        ("", ["'output' is missing"]),
        ("1: 2\n", ["1"]),
        ("[" * 5000, []),
    ],
)
def test_yaml_that_is_refused(write, text, expected):
    path = write(text)
    message = refusal(path)
    assert str(path) in message
    for words in expected:
        assert words in message


def test_an_alias_bomb_is_refused_before_it_grows(write):
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 30)]
    start = time.process_time()
    assert "aliases" in refusal(write("\n".join(["l0: &l0 [x]", *levels])))
    assert time.process_time() - start < 5  # growing it would take 9^29 nodes


def test_python_tags_run_nothing(write, tmp_path):
    touched = tmp_path / "touched"
    refusal(
        write(
            "seed: !!python/object/apply:pathlib.Path.touch "
            f"[!!python/object/apply:pathlib.Path ['{touched}']]\n"
        )
    )
    assert not touched.exists()


def test_a_missing_file_names_its_neighbours(write, tmp_path):
    write(MINIMAL)
    with pytest.raises(InputError, match=r"experiment\.yaml"):
        load_experiment(tmp_path / "experimnt.yaml")
    with pytest.raises(InputError, match="no configuration file"):
        load_experiment(tmp_path / "nowhere" / "x.yaml")
    with pytest.raises(InputError, match="no configuration file"):
        load_experiment(tmp_path)


def test_a_file_that_is_not_utf8_is_refused_in_words(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("output: caf\xe9\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"latin\.yaml"):
        load_experiment(path)
