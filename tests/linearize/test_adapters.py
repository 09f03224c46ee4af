"""LoRA and IP-Adapters on linearized pipelines, loaded before or after."""

import pytest
import torch
from adapters import PICTURE, load_ip_adapter, lora
from linear_models import CASES, draw, network, tiny

import gensynth


@pytest.mark.parametrize("name", ["sd", "sdxl", "flux", "sd3"])
def test_lora_before_and_after(name, saved):
    method = CASES[name][0]
    before, after, softmax = tiny(name), tiny(name), tiny(name)
    state = lora(softmax)
    for pipe in (softmax, before):
        pipe.load_lora_weights(dict(state), adapter_name="one")
    original = draw(softmax)
    gensynth.linearize(before, method, saved(name))
    gensynth.linearize(after, method, saved(name))
    plain = draw(after)
    after.load_lora_weights(dict(state), adapter_name="one")
    assert torch.equal(draw(before), draw(after))
    assert not torch.equal(draw(after), plain)
    after.set_adapters("one", 0.0)
    torch.testing.assert_close(draw(after), plain)
    after.set_adapters("one", 1.0)
    for pipe in (before, after):
        gensynth.restore(pipe)
        assert torch.equal(draw(pipe), original)
    after.unload_lora_weights()
    assert torch.equal(draw(after), draw(tiny(name)))


def test_weights_are_saved_without_the_adapter(saved, tmp_path):
    pipe, other = tiny("sd"), tiny("sd")
    gensynth.linearize(pipe, "linfusion", saved("sd"))
    expected = draw(pipe)
    pipe.load_lora_weights(lora(pipe))
    gensynth.linearize.save(pipe, tmp_path / "again")
    gensynth.linearize(other, "linfusion", tmp_path / "again")
    assert torch.equal(draw(other), expected)


def told(name, pipe):
    """The keywords of a call with the picture that an IP-Adapter is shown."""
    generator = torch.Generator().manual_seed(6)
    if name in ("sd", "sdxl"):
        embeds = torch.randn(2, 1, PICTURE, generator=generator)  # of nothing, then of the picture
        return {"ip_adapter_image_embeds": [embeds]}
    if name == "flux":
        picture = [torch.randn(1, 1, PICTURE, generator=generator)]
        nothing = [torch.zeros(1, 1, PICTURE)]
        return {"ip_adapter_image_embeds": picture, "negative_ip_adapter_image_embeds": nothing}
    return {"ip_adapter_image_embeds": torch.randn(2, 3, PICTURE, generator=generator)}


@pytest.mark.parametrize("name", ["sd", "sdxl", "flux", "sd3", "sd35"])
def test_ip_adapter_before_and_after(name):
    method, options = CASES[name]
    before, after = tiny(name), tiny(name)
    load_ip_adapter(before)
    softmax = draw(before, **told(name, before))
    gensynth.linearize(before, method, **options)
    gensynth.linearize(after, method, **options)
    load_ip_adapter(after)
    picture = draw(after, **told(name, after))
    assert torch.equal(draw(before, **told(name, before)), picture)
    after.set_ip_adapter_scale(0.0)
    assert not torch.equal(draw(after, **told(name, after)), picture)
    gensynth.restore(before)
    assert torch.equal(draw(before, **told(name, before)), softmax)


@pytest.mark.parametrize("name", ["flux", "sd3", "sd35"])
def test_ip_adapter_of_a_wide_window_is_that_of_full_attention(name):
    pipe = tiny(name)
    load_ip_adapter(pipe)
    expected = draw(pipe, **told(name, pipe))
    gensynth.linearize(pipe, "clear", window=9)
    torch.testing.assert_close(draw(pipe, **told(name, pipe)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["sd", "flux", "sd3"])
def test_ip_adapter_is_unloaded(name):
    method, options = CASES[name]
    pipe = tiny(name)
    gensynth.linearize(pipe, method, **options)
    expected = draw(pipe)
    load_ip_adapter(pipe)
    pipe.unload_ip_adapter()
    assert torch.equal(draw(pipe), expected)
    assert not any("IPAdapter" in type(p).__name__ for p in network(pipe).attn_processors.values())
