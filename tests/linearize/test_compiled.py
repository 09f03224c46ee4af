"""Compiled and optimized models: what is refused, what works, and what comes after linearizing."""

import pytest
import torch
from linear_models import CASES, bare, call, tiny
from refusals import refused
from safetensors.torch import load_file

import gensynth
from gensynth.errors import UsageError
from gensynth.models.dit import DiT
from gensynth.pipelines.acceleration.cuda_graphs import Graphed, Recording


def same_files(one, other):
    for file in one.glob("*.safetensors"):
        again = load_file(other / file.name)
        for key, tensor in load_file(file).items():
            assert torch.equal(again[key], tensor)


def test_a_compiled_network(saved, tmp_path):
    """The wrapper of torch.compile; weights can be saved from it."""
    pipe = tiny("sd")
    before, whole = call(pipe.unet), pipe.unet
    pipe.unet = torch.compile(whole, backend="eager")
    with pytest.raises(UsageError, match=r"linearize the one that was compiled \(model\._orig_mo"):
        gensynth.linearize(pipe)
    gensynth.linearize(pipe.unet._orig_mod, weights=saved("sd"))  # the advice
    with pytest.raises(UsageError, match="linearize the one"):
        gensynth.linearize(pipe)
    with pytest.raises(UsageError, match=r"restore the one that was compiled \(model\._orig_mod\)"):
        gensynth.restore(pipe)
    gensynth.linearize.save(pipe, tmp_path / "student")
    same_files(saved("sd"), tmp_path / "student")
    gensynth.restore(pipe.unet._orig_mod)
    assert torch.equal(call(whole), before)


def test_compiled_in_place(saved, tmp_path):
    model = bare("sd")
    model.mid_block.compile(backend="eager")
    match = "in place .* load it anew, linearize it, then compile"
    refused(model, UsageError, match)
    model = bare("sd")  # the advice
    gensynth.linearize(model, weights=saved("sd"))
    model.compile_repeated_blocks(backend="eager")
    with pytest.raises(UsageError, match=r"in place .* load it anew, as it was before linearize"):
        gensynth.restore(model)
    gensynth.linearize.save(model, tmp_path / "student")
    same_files(saved("sd"), tmp_path / "student")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd", "flux"])
def test_blocks_compiled_afterwards(name):
    """Each kind of block in one graph, for sizes one after another."""
    method, options = CASES[name]
    model = bare(name)
    gensynth.linearize(model, method, **options)
    sizes = [(8, 8), (8, 16), (8, 8)]
    expected = [call(model, *size) for size in sizes]
    model.compile_repeated_blocks(backend="eager", fullgraph=True)
    for size, one in zip(sizes, expected, strict=True):
        torch.testing.assert_close(call(model, *size), one)


@pytest.mark.long
@pytest.mark.parametrize("name", ["sd", "flux"])
def test_compiled_afterwards(name):
    method, options = CASES[name]
    model = bare(name)
    gensynth.linearize(model, method, **options)
    sizes = [(8, 8), (8, 16), (16, 8)]
    expected = [call(model, *size) for size in sizes]
    compiled = torch.compile(model, backend="eager")
    for size, one in zip(sizes, expected, strict=True):
        torch.testing.assert_close(call(compiled, *size), one)


def drawn(pipe):
    pictures = pipe(labels=[3, 4], seeds=[0, 1], steps=2)
    return torch.stack([torch.tensor(list(one.getdata())) for one in pictures])


def small():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DiT(
            input_size=16, hidden_size=16, depth=2, num_heads=2, num_classes=10, learn_sigma=False
        )
        for parameter in model.parameters():
            parameter.data.add_(torch.randn(parameter.shape) * 0.2)
    return model.eval()


def test_an_optimized_pipeline(make_pipeline):
    """What optimize() keeps is looked at in each walk, so that there is nothing to refuse."""
    plain, pipe = make_pipeline(model=small()), make_pipeline(model=small())
    softmax = drawn(plain)
    gensynth.linearize(plain, "clear", window=1)
    linear = drawn(plain)
    pipe.optimize()
    assert (drawn(pipe) - softmax).abs().max() <= 1  # of 255
    gensynth.linearize(pipe, "clear", window=1)
    assert (drawn(pipe) - linear).abs().max() <= 1 < (linear - softmax).abs().max()
    gensynth.restore(pipe)
    assert (drawn(pipe) - softmax).abs().max() <= 1


def test_graphs_of_another_attention_are_not_replayed():
    """Though all weights are in the same places of memory."""
    model = small()
    graphed = Graphed(lambda: torch.zeros(1), model)

    def kept(change):
        graphed.check_weights()
        graphed.recordings[()] = Recording(None, (), None)
        change()
        graphed.check_weights()
        return bool(graphed.recordings)

    assert kept(lambda: None)
    assert not kept(lambda: gensynth.linearize(model, "clear", window=1))
    assert not kept(lambda: (gensynth.restore(model), gensynth.linearize(model, "clear", window=2)))
    assert not kept(lambda: gensynth.restore(model))
