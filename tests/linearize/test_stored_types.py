"""Models whose weights are stored in other types than they compute in."""

import pytest
import torch
import torch.nn.functional as F
from linear_models import CASES, bare, call
from refusals import refused
from torch import nn

import gensynth
from gensynth.errors import UsageError

SMALL = torch.float8_e4m3fn
both = pytest.mark.parametrize("name", ["sd", "flux"])
ADDED = ("to_q_", "to_k_", "spatial_weight")


class Quantized(nn.Linear):
    """As bitsandbytes' layers: whole numbers that are scaled when it is called."""

    def __init__(self, layer):
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.scale = layer.weight.abs().max().item() / 127
        numbers = (layer.weight / self.scale).round().to(torch.int8)
        self.weight, self.bias = nn.Parameter(numbers, requires_grad=False), layer.bias

    def forward(self, tokens):
        return F.linear(tokens, self.weight.to(tokens.dtype) * self.scale, self.bias)


def quantized(name, dtype=torch.float32):
    """A network with such layers in all of its attentions."""
    model = bare(name).to(dtype)
    for module in list(model.modules()):
        for path, layer in list(module.named_children()):
            if path in ("to_q", "to_k", "to_v") and isinstance(layer, nn.Linear):
                setattr(module, path, Quantized(layer))
    return model


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_new_parts_of_a_quantized_model_compute_as_it_does(name, dtype):
    method, options = CASES[name]
    model = quantized(name, dtype)
    before = call(model)
    gensynth.linearize(model, method, **options)
    types = {p.dtype for n, p in model.named_parameters() if any(new in n for new in ADDED)}
    assert types == {dtype}
    output = call(model)
    assert output.dtype == dtype and output.isfinite().all() and not torch.equal(output, before)
    gensynth.restore(model)
    assert torch.equal(call(model), before)


def test_weights_and_quantized_layers(saved, tmp_path):
    """Neither put into them, nor taken out of them."""
    model = quantized("sd")
    match = r"attn1\.to_q is quantized .*; linearize before that"
    refused(model, UsageError, match, "linfusion", saved("sd"))
    gensynth.linearize(model)
    with pytest.raises(UsageError, match=r"attn1\.to_q is quantized .*; save before that"):
        gensynth.linearize.save(model, tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_a_model_of_small_numbers_alone():
    model = bare("flux").to(SMALL)
    match = "of types for storage only; load it in one that computes"
    refused(model, UsageError, match, "clear", window=2)


def rounded(model, like):
    """A network with the weights rounded that are stored small in the other."""
    for name, module in like.named_modules():
        if "_diffusers_hook" in vars(module):
            for parameter in model.get_submodule(name).parameters():
                parameter.data = parameter.data.to(SMALL).float()
    return model


@both
def test_layerwise_casting(name, tmp_path):
    method, options = CASES[name]
    model, twin = bare(name), bare(name)
    model.enable_layerwise_casting(SMALL, torch.float32)
    match = r"enable_layerwise_casting\), .* load it anew, linearize it, then enable that"
    refused(model, UsageError, match, method, **options)
    model, plain = bare(name), bare(name)  # the advice
    for one in (model, twin):
        gensynth.linearize(one, method, **options)
    model.enable_layerwise_casting(SMALL, torch.float32)
    assert torch.equal(call(model), call(rounded(twin, model)))
    with pytest.raises(UsageError, match="save before that"):
        gensynth.linearize.save(model, tmp_path / "student")
    gensynth.restore(model)
    assert torch.equal(call(model), call(rounded(plain, model)))
