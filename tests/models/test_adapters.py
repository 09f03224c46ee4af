"""Adapters act on every layer as their weights do when they are merged."""

import copy

import pytest
import torch
from small_models import TEXT_VARIANTS, inputs_of, layers, output, small, text_of
from torch import nn

from gensynth.autoencoders.quantizer import Quantizer

peft = pytest.importorskip("peft")
BACKBONES = ["DiC", "DiCo", "DiT", "MDTv2", "MaskGIT"]


def lora(model: nn.Module) -> peft.LoraConfig:
    """On every layer that peft knows an adapter for."""
    names = [name for name in layers(model) if getattr(model.get_submodule(name), "groups", 1) == 1]
    return peft.LoraConfig(r=2, lora_alpha=6, target_modules=names, init_lora_weights=False)


@pytest.mark.parametrize("variant", [*BACKBONES, *TEXT_VARIANTS])
def test_an_adapter_acts_as_its_weights_do_when_they_are_merged(variant):
    torch.manual_seed(0)
    model = small(variant)
    before = output(model, variant)
    adapted = peft.get_peft_model(model, lora(model))
    after = output(adapted, variant)
    assert (after - before).abs().mean() > 0.01 * before.abs().mean()
    with adapted.disable_adapter():
        assert torch.equal(output(adapted, variant), before)
    merged = output(adapted.merge_and_unload(), variant)
    torch.testing.assert_close(after, merged, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["conv_out", "mlp_out"])
def test_the_layers_that_dico_fuses_can_have_adapters(name):
    torch.manual_seed(1)
    model = small("DiCo")
    before, start = output(model, "DiCo"), copy.deepcopy(model)
    config = peft.LoraConfig(r=8, lora_alpha=8, target_modules=[name], init_lora_weights=False)
    peft.inject_adapter_in_model(config, model)
    after = output(model, "DiCo")
    assert (after - before).abs().max() > 1e-3
    # By hand: W + B A, of every block.
    for path, layer in start.named_modules():
        if path.endswith(f".{name}"):
            adapter = model.get_submodule(path)
            layer.weight.data += adapter.get_delta_weight("default").data
    torch.testing.assert_close(output(start, "DiCo"), after, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", ["DiCo", "MaskGIT", *TEXT_VARIANTS])
def test_an_adapter_learns(variant):
    model = small(variant)
    peft.inject_adapter_in_model(lora(model), model)
    model(*inputs_of(variant), **text_of(variant)).square().sum().backward()
    for name, parameter in model.named_parameters():
        if "lora_" in name and not name.startswith("side."):  # MDT's, in masked passes alone
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_an_adapter_on_a_codebook_is_part_of_its_codes():
    quantizer = Quantizer(16, 4)
    before = quantizer.codes()
    config = peft.LoraConfig(r=2, target_modules=["embedding"], init_lora_weights=False)
    peft.inject_adapter_in_model(config, quantizer)
    after = quantizer.codes()
    assert (after - before).abs().max() > 1e-3
    adapter = quantizer.embedding
    adapter.merge()
    torch.testing.assert_close(quantizer.codes(), after)
