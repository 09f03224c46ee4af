"""Hooks and casting act on every layer: none has its weights taken past its `forward`."""

import pytest
import torch
from small_models import TEXT_VARIANTS, TOKEN_VARIANTS, VARIANTS, layers, output, small
from torch import nn

from gensynth.ops.plain import is_plain

EVERY = [*VARIANTS, *TOKEN_VARIANTS, *TEXT_VARIANTS]


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


@pytest.mark.parametrize("variant", ["DiCo", "MaskGIT", "DiC-text"])
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
