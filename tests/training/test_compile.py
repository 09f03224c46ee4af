"""Compiled blocks train to the same weights, under the same names."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny import losses, write_experiment, write_tokenizer

from gensynth import load
from gensynth.config import Experiment
from gensynth.errors import UsageError
from gensynth.experiments.apply import compile_blocks
from gensynth.experiments.build import build_condition, build_model
from gensynth.experiments.read import load_experiment
from gensynth.models import create_model, example_inputs, example_text
from gensynth.objectives.hidden_states import hidden_states
from gensynth.training.loop import train

BLOCK = "levels.0.0"
SETTINGS = [
    "training.steps=4",
    "checkpoint.every=2",
    "training.gradient_checkpointing=true",
    f"regularizers=[{{name: dispersive, block: {BLOCK}, group_size: 2}}]",
]


def run(folder: Path, *overrides: str) -> Path:
    return train(load_experiment(write_experiment(folder), [*SETTINGS, *overrides]))


def names(folder: Path) -> list[str]:
    with safe_open(folder / "model/model/diffusion_pytorch_model.safetensors", "pt") as file:
        return sorted(file.keys())


@pytest.mark.slow
def test_compiled_training(tmp_path):
    """Same losses with a regularizer and checkpointing; the model loads, and a run resumes."""
    plain, compiled = run(tmp_path / "plain"), run(tmp_path / "fast", "training.compile=true")
    ours = list(losses(compiled).values())
    assert ours == pytest.approx(list(losses(plain).values()), rel=1e-4)
    assert names(compiled) == names(plain)
    pictures = [load(folder, "cpu")([3], [0], steps=2)[0] for folder in (plain, compiled)]
    apart = [torch.tensor(list(picture.tobytes()), dtype=torch.float) for picture in pictures]
    assert (apart[0] - apart[1]).abs().mean() < 1
    longer = run(tmp_path / "fast", "training.compile=true", "training.steps=5")
    assert list(losses(longer))[-1] == 5


@pytest.fixture
def traced(monkeypatch):
    """The compiler left out, tracing and all else as it is; and what it was asked for."""
    asked: list[dict] = []
    real = torch.compile

    def traces(function, **keywords):
        asked.append(keywords)
        return real(function, backend="eager", **keywords)

    monkeypatch.setattr(torch, "compile", traces)
    torch._dynamo.reset()
    return asked


def test_hooks_see_every_call(traced):
    """A hook set after the first call sees the output of its own call."""
    model = create_model("DiCo-nano", hidden_size=8, depth=[1, 1, 1, 1, 1], num_classes=2)
    names = list(model.state_dict())
    compile_blocks(model, [BLOCK])
    assert list(model.state_dict()) == names
    sample, *others = example_inputs(model, 8, 8)
    model(sample, *others)
    seen = []
    for value in (1.0, 2.0):
        with hidden_states(model, [BLOCK]) as states:
            model(torch.full_like(sample, value), *others)
        seen.append(states[BLOCK])
    assert not torch.equal(*seen)
    assert traced == [{"dynamic": False}] * 5


@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("DiCo-nano", {"depth": [0, 1, 1, 1, 0]}),
        ("DiC-nano", {"depth": [0, 1, 1, 1, 0]}),
        ("DiT-nano/2", {"depth": 1, "num_heads": 2, "input_size": 8}),
        ("MaskGIT-nano", {"depth": 1, "num_heads": 2, "input_size": 8, "codebook_size": 9}),
    ],
)
def test_compiled_blocks_see_the_words(traced, name, keywords):
    text = {"width": 6, "pooled_width": 5, "length": 4, "cross": True, "encoder": None}
    model = create_model(name, hidden_size=8, text=text, **keywords)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    given, told = example_inputs(model, 8, 8), example_text(model)
    texts = [{**told, "encoder_hidden_states": torch.full((1, 4, 6), x)} for x in (1.0, 2.0)]
    with torch.no_grad():
        expected = [model(*given, **one) for one in texts]
        compile_blocks(model)
        for one, output in zip(texts, expected, strict=True):
            torch.testing.assert_close(model(*given, **one), output)
    assert traced and not torch.allclose(*expected)


def test_masked_passes_may_change_in_length(traced):
    keywords = {"hidden_size": 16, "depth": 4, "decode_layer": 2, "num_heads": 2, "input_size": 8}
    compile_blocks(create_model("MDTv2-nano/2", **keywords, num_classes=2))
    assert traced and all(keywords["dynamic"] is None for keywords in traced)


def test_default_compiles_nothing(tmp_path, traced):
    experiment = load_experiment(write_experiment(tmp_path))
    assert not Experiment.model_validate(experiment.model_dump()).training.compile
    run(tmp_path / "plain", "training.steps=2", "regularizers=[]")
    assert traced == []


def test_inside_of_a_block(tmp_path):
    experiment = load_experiment(write_experiment(tmp_path), ["training.compile=true"])
    model = build_model(experiment, build_condition(experiment, [*"0123456789"]))
    with pytest.raises(UsageError, match=r"inside of the compiled levels\.0\.0"):
        compile_blocks(model, [f"{BLOCK}.conv_in"])


def test_nothing_to_compile(tmp_path):
    path = write_tokenizer(tmp_path)
    with pytest.raises(UsageError, match="no repeated blocks"):
        train(load_experiment(path, ["training.compile=true"]))
