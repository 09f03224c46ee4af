"""Adapters, hooks and casting act on every layer: none has its weights taken past its `forward`."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from small_models import TOKEN_VARIANTS, VARIANTS, inputs_of, small
from torch import nn

from gensynth.models.layers.plain import is_plain

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
BACKBONES = ["DiC", "DiCo", "DiT", "MDTv2", "MaskGIT"]
EVERY = [*VARIANTS, *TOKEN_VARIANTS]


def layers(model: nn.Module) -> dict[str, nn.Module]:
    return {name: layer for name, layer in model.named_modules() if type(layer) in LAYERS}


def output(model: nn.Module, variant: str) -> torch.Tensor:
    with torch.no_grad():
        return model(*inputs_of(variant))


@pytest.mark.parametrize("variant", EVERY)
def test_every_layer_is_called_once_where_it_has_a_hook(variant):
    model = small(variant)
    expected, calls = output(model, variant), []
    for name, layer in layers(model).items():
        layer.register_forward_hook(lambda *_, name=name: calls.append(name))
    torch.testing.assert_close(output(model, variant), expected)
    missing = set(layers(model)) - set(calls)
    assert all(name.startswith("side.") for name in missing)  # MDT's, in masked passes alone
    assert len(calls) == len(set(calls))


@pytest.mark.parametrize("variant", ["DiCo", "MaskGIT"])
@pytest.mark.parametrize("hook", ["register_forward_pre_hook", "register_forward_hook"])
def test_what_a_hook_changes_has_an_effect(variant, hook):
    for name in layers(small(variant)):
        if name.startswith("levels.") and not name.startswith("levels.1."):
            continue  # one block for all
        model = small(variant)
        before = output(model, variant)
        if hook == "register_forward_hook":
            model.get_submodule(name).register_forward_hook(lambda *args: args[-1] * 1.5)
        elif isinstance(model.get_submodule(name), nn.Embedding):
            continue  # what it is given are whole numbers
        else:
            change = lambda layer, args: (args[0] * 1.5,)  # noqa: E731
            model.get_submodule(name).register_forward_pre_hook(change)
        assert not torch.allclose(output(model, variant), before), name


def lora(model: nn.Module) -> LoraConfig:
    """On every layer that peft knows an adapter for."""
    names = [name for name in layers(model) if getattr(model.get_submodule(name), "groups", 1) == 1]
    return LoraConfig(r=2, lora_alpha=6, target_modules=names, init_lora_weights=False)


@pytest.mark.parametrize("variant", BACKBONES)
def test_an_adapter_acts_as_its_weights_do_when_they_are_merged(variant):
    torch.manual_seed(0)
    model = small(variant)
    before = output(model, variant)
    adapted = get_peft_model(model, lora(model))
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
    config = LoraConfig(r=8, lora_alpha=8, target_modules=[name], init_lora_weights=False)
    inject_adapter_in_model(config, model)
    after = output(model, "DiCo")
    assert (after - before).abs().max() > 1e-3
    # By hand: W + B A, of every block.
    for path, layer in start.named_modules():
        if path.endswith(f".{name}"):
            adapter = model.get_submodule(path)
            layer.weight.data += adapter.get_delta_weight("default").data
    torch.testing.assert_close(output(start, "DiCo"), after, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", ["DiCo", "MaskGIT"])
def test_an_adapter_learns(variant):
    model = small(variant)
    inject_adapter_in_model(lora(model), model)
    model(*inputs_of(variant)).square().sum().backward()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("variant", EVERY)
@pytest.mark.parametrize("storage", [torch.float8_e4m3fn, torch.bfloat16])
def test_layerwise_casting_computes_with_the_weights_as_they_are_stored(variant, storage):
    model, rounded = small(variant), small(variant)
    model.enable_layerwise_casting(storage_dtype=storage, compute_dtype=torch.float32)
    stored = {n: p for n, p in model.named_parameters() if p.dtype == storage}
    assert len(stored) > len(list(model.parameters())) / 3
    for name, parameter in rounded.named_parameters():
        if name in stored:
            parameter.data = parameter.data.to(storage).float()
    result = output(model, variant)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, output(rounded, variant), atol=1e-6, rtol=1e-6)
    assert all(parameter.dtype == storage for parameter in stored.values())  # also afterwards


def test_a_layer_with_its_own_forward_hooks_or_parametrization_is_not_plain():
    conv = nn.Conv2d(2, 2, 1)
    assert is_plain(conv, nn.Conv2d) and not is_plain(conv, nn.Linear)
    hook = conv.register_forward_hook(lambda *_: None)
    assert not is_plain(conv, nn.Conv2d)
    hook.remove()
    assert is_plain(conv, nn.Conv2d)
    hook = conv.register_full_backward_hook(lambda *_: None)
    assert not is_plain(conv, nn.Conv2d)
    hook.remove()
    hook = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert not is_plain(conv, nn.Conv2d)
    hook.remove()
    torch.nn.utils.parametrizations.spectral_norm(conv)
    assert not is_plain(conv, nn.Conv2d)
    conv = nn.Conv2d(2, 2, 1)
    conv.forward = lambda sample: sample  # as diffusers' and accelerate's hooks do it
    assert not is_plain(conv, nn.Conv2d)
