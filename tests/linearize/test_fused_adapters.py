"""Adapters that have become a part of weights: neither lost with these nor saved in them."""

import pytest
import torch
from adapters import lora
from linear_models import CASES, draw, network, tiny
from safetensors.torch import load_file

import gensynth
from gensynth.errors import UsageError
from gensynth.lora.apply import Adapters
from gensynth.lora.layers import put_on
from gensynth.models.dit import DiT


def test_fused_before(saved):
    pipe = tiny("flux")
    pipe.load_lora_weights(lora(pipe))
    expected = draw(pipe)
    pipe.fuse_lora()
    with pytest.raises(UsageError, match=r"fused into .*; call unfuse_lora\(\) of the pipeline"):
        gensynth.linearize(pipe, "clear", saved("flux"))
    pipe.unfuse_lora()  # the advice
    gensynth.linearize(pipe, "clear", saved("flux"))
    gensynth.restore(pipe)
    torch.testing.assert_close(draw(pipe), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["sd", "flux"])
def test_fused_after_weights_were_given(name, saved, tmp_path):
    pipe, plain = tiny(name), tiny(name)
    state = lora(pipe)
    plain.load_lora_weights(dict(state))
    original = draw(plain)
    done = gensynth.linearize(pipe, CASES[name][0], saved(name))
    pipe.load_lora_weights(dict(state))
    acting = draw(pipe)
    pipe.fuse_lora()
    fused = draw(pipe)
    torch.testing.assert_close(fused, acting, atol=1e-4, rtol=1e-4)
    with pytest.raises(UsageError, match=r"and would be lost .*; call unfuse_lora\(\)"):
        gensynth.restore(pipe)
    with pytest.raises(UsageError, match=r"and would be saved as a part .*; call unfuse_lora\(\)"):
        gensynth.linearize.save(pipe, tmp_path / "student")
    assert not (tmp_path / "student").exists()
    assert torch.equal(draw(pipe), fused)
    pipe.unfuse_lora()  # the advice
    gensynth.linearize.save(pipe, tmp_path / "student")
    for file in saved(name).glob("*.safetensors"):
        again = load_file(tmp_path / "student" / file.name)
        for key, tensor in load_file(file).items():
            torch.testing.assert_close(again[key], tensor, atol=1e-5, rtol=1e-5)
    gensynth.restore(pipe)
    # to the bit what was replaced; the other layers have had the adapter put in and taken out
    own, before = network(pipe).state_dict(), network(plain).state_dict()
    replaced = [f"{one.name}.to_q.base_layer.weight" for one in done.replaced]
    assert all(torch.equal(own[weight], before[weight]) for weight in replaced)
    torch.testing.assert_close(draw(pipe), original, atol=1e-4, rtol=1e-4)
    pipe.fuse_lora()
    torch.testing.assert_close(draw(pipe), original, atol=1e-4, rtol=1e-4)


def test_fused_after_no_weights_were_given():
    """The weights are those of the model with the adapter in them, and stay."""
    pipe = tiny("sd")
    pipe.load_lora_weights(lora(pipe))
    expected = draw(pipe)
    gensynth.linearize(pipe)
    pipe.fuse_lora()
    gensynth.restore(pipe)
    torch.testing.assert_close(draw(pipe), expected, atol=1e-4, rtol=1e-4)


def test_of_our_own_pipelines(make_pipeline, tmp_path):
    from peft import LoraConfig

    with torch.random.fork_rng(devices=[]):
        model = DiT(input_size=16, hidden_size=16, depth=1, num_heads=2, num_classes=10)
    pipe = make_pipeline(model=model.eval())
    gensynth.linearize(pipe)
    gensynth.linearize.save(pipe, tmp_path / "begun")
    gensynth.restore(pipe)
    gensynth.linearize(pipe, weights=tmp_path / "begun")
    with torch.random.fork_rng(devices=[]):
        put_on(pipe.model, LoraConfig(r=2, target_modules=r".*\.qkv", init_lora_weights=False))
    pipe.lora = Adapters(pipe.model)
    pipe.lora.merge()
    advice = r"qkv, and would be .*; call lora.unmerge\(\) of the pipeline first"
    with pytest.raises(UsageError, match=advice):
        gensynth.restore(pipe)
    with pytest.raises(UsageError, match=advice):
        gensynth.linearize.save(pipe, tmp_path / "again")
    pipe.lora.unmerge()
    gensynth.linearize.save(pipe, tmp_path / "again")
    gensynth.restore(pipe)
