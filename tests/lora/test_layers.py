"""Adapters on the layers of every backbone."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from small_models import output, small

from gensynth.lora.layers import adaptable, adapter_state, meaning, merged_state, plain_copy, put_on
from gensynth.lora.mark import mark_of

BACKBONES = ["DiC", "DiCo", "DiT", "MDTv2", "MaskGIT"]


def adapted(variant, layers=None):
    model = small(variant)
    wanted = meaning(adaptable(model) if layers is None else layers(model))
    put_on(model, LoraConfig(r=2, lora_alpha=4, target_modules=wanted, init_lora_weights=False))
    return model


@pytest.mark.parametrize("variant", BACKBONES)
def test_an_adapter_acts_and_its_merged_copy_does_the_same(variant):
    torch.manual_seed(0)
    before, model = output(small(variant), variant), adapted(variant)
    after = output(model, variant)
    assert (after - before).abs().mean() > 0.01 * before.abs().mean()
    plain = plain_copy(model)
    assert plain.state_dict().keys() == small(variant).state_dict().keys()
    torch.testing.assert_close(output(plain, variant), after, atol=1e-4, rtol=1e-3)
    assert torch.equal(output(model, variant), after)  # the model itself was left as it is


@pytest.mark.parametrize("variant", BACKBONES)
def test_every_layer_that_is_trained_has_an_adapter_that_acts(variant):
    """One at a time: none is passed by, as an operator might that takes weights by themselves."""
    torch.manual_seed(1)
    before = output(small(variant), variant)
    silent = []
    for layer in adaptable(small(variant)):
        model = adapted(variant, lambda _, layer=layer: [layer])
        if torch.equal(output(model, variant), before):
            silent.append(layer)
    assert silent == []


def test_the_merged_weights_are_those_that_peft_merges():
    torch.manual_seed(2)
    model = small("DiCo")
    wanted = meaning(adaptable(model))
    config = LoraConfig(r=2, lora_alpha=4, target_modules=wanted, init_lora_weights=False)
    theirs = get_peft_model(model, config)  # the same layers in the same model
    ours = {name: tensor.clone() for name, tensor in merged_state(model).items()}
    merged = theirs.merge_and_unload().state_dict()
    assert merged.keys() == ours.keys()
    assert all(torch.equal(merged[name], ours[name]) for name in ours)


def test_layers_in_groups_and_layers_that_nothing_trains_are_left_out():
    names = adaptable(small("DiCo"))
    assert "levels.0.0.conv_out" in names and not any("depthwise" in name for name in names)
    assert not any(name.startswith("side") for name in adaptable(small("MDTv2")))


def test_targets_mean_layers_and_not_their_namesakes():
    """peft takes names as endings: `mlp_in` would be all of them."""
    model = small("DiT")
    put_on(model, LoraConfig(r=1, target_modules=meaning(["final_layer.modulation"])))
    assert {name.rsplit(".lora", 1)[0] for name in adapter_state(model)} == {
        "final_layer.modulation"
    }
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert len(trained) == 2


def test_a_mark_is_that_of_every_precision_and_of_no_other_model():
    model = small("DiT")
    mark = mark_of(model)
    assert mark == mark_of(copy.deepcopy(model).half()) == mark_of(copy.deepcopy(model).bfloat16())
    model.final_layer.proj.bias.data[3] *= -1
    assert mark_of(model) != mark
