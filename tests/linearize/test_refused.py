"""What cannot be linearized is said in a sentence, and nothing is half done."""

import copy
import re

import pytest
import torch
from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0
from linear_models import CASES, bare, call, tiny
from refusals import refused

import gensynth
from gensynth.errors import UsageError


def test_a_method_that_does_not_fit_says_which_does():
    fits = r"it is for FLUX, Stable Diffusion 3, PixArt, DiT. For Stable Diffusion \(UNet\) there"
    refused(bare("sd"), UsageError, fits + " is linfusion", "clear", window=2)
    fits = r"FLUX \(FluxTransformer2DModel\): it is for Stable Diffusion \(UNet\), DiT"
    refused(bare("flux"), UsageError, fits)
    with pytest.raises(UsageError, match="no method fits a Linear; known are UNet2DConditionModel"):
        gensynth.linearize(torch.nn.Linear(2, 2))
    with pytest.raises(UsageError, match="a str is neither a model nor a pipeline"):
        gensynth.linearize("stable-diffusion")


def test_unknown_words():
    refused(bare("flux"), UsageError, "unknown method 'clera'; .* mean 'clear'", "clera")
    refused(bare("flux"), UsageError, "no option 'windw'; .* mean 'window'", "clear", windw=3)


@pytest.mark.parametrize(
    "options, match",
    [
        ({}, "say window=; the radius in tokens"),
        ({"window": 0}, "window must be a whole number from 1, got 0"),
        ({"window": 2, "down_factor": 1.5}, "down_factor must be a whole number"),
        ({"window": 2, "ntk_factor": float("nan")}, "ntk_factor must be a number above 0"),
        ({"window": 2, "proportional_attention": 1}, "must be True or False, got 1"),
    ],
)
def test_options_of_clear(options, match):
    refused(bare("flux"), UsageError, match, "clear", **options)


def test_options_that_a_family_has_not():
    pipe = bare("sd3")
    refused(pipe, UsageError, "ntk_factor is for .* FLUX", "clear", window=2, ntk_factor=2.0)
    refused(bare("sd"), UsageError, "projection_dim must be", "linfusion", projection_dim=0)


def test_linearized_already():
    pipe = bare("sd")
    gensynth.linearize(pipe)
    refused(pipe, UsageError, r"linearized already \(linfusion\); call gensynth.restore first")
    gensynth.restore(pipe)
    with pytest.raises(UsageError, match="not linearized, so there is nothing to restore"):
        gensynth.restore(pipe)
    gensynth.linearize(pipe)


@pytest.mark.parametrize("name", ["sd", "flux", "sd3", "pixart"])
def test_fused_projections(name):
    method, options = CASES[name]
    pipe = bare(name)
    pipe.fuse_qkv_projections()
    refused(pipe, UsageError, r"are fused; call unfuse_qkv_projections\(\)", method, **options)
    pipe.unfuse_qkv_projections()  # the advice
    gensynth.linearize(pipe, method, **options)
    pipe.fuse_qkv_projections()
    with pytest.raises(UsageError, match="are fused"):
        gensynth.restore(pipe)
    pipe.unfuse_qkv_projections()
    gensynth.restore(pipe)
    assert torch.equal(call(pipe), call(bare(name)))


def test_processors_that_do_more_than_attention():
    pipe = bare("sd")
    attention = pipe.mid_block.attentions[0].transformer_blocks[0].attn1
    plain = attention.processor
    attention.set_processor(PAGIdentitySelfAttnProcessor2_0())
    refused(pipe, UsageError, "PAGIdentitySelfAttnProcessor2_0, which does more than attention")
    attention.set_processor(plain)
    gensynth.linearize(pipe)
    attention.set_processor(PAGIdentitySelfAttnProcessor2_0())
    with pytest.raises(UsageError, match=r"gensynth\.restore the model"):
        call(pipe)
    gensynth.restore(pipe)


def test_offloading_of_single_layers():
    from accelerate import cpu_offload

    pipe = bare("sd")
    cpu_offload(pipe, torch.device("cpu"))
    refused(pipe, UsageError, "offloading of single layers")


def test_offloading_of_groups():
    pipe = bare("flux")
    pipe.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")
    match = "call this before enable_group_offload"
    refused(pipe, UsageError, match, "clear", window=2)


def test_a_factor_that_the_usual_size_does_not_fit():
    pipe = bare("flux")
    done = gensynth.linearize(pipe, "clear", window=2, down_factor=3)
    assert "at 66x66 tokens" in done.runs
    assert call(pipe, 12, 18).isfinite().all()


def test_saving_as_a_softmax_model(tmp_path):
    """Of the network and of the pipeline, which would have written half of itself."""
    pipe = tiny("pixart")
    before = set(vars(pipe))
    gensynth.linearize(pipe, "clear", window=2)
    for one in (pipe, pipe.transformer, copy.deepcopy(pipe)):
        with pytest.raises(UsageError, match=r"by gensynth.linearize.save\(pipe, folder\)"):
            one.save_pretrained(tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
    gensynth.linearize.save(pipe, tmp_path / "own")  # the advice, and the other
    gensynth.restore(pipe.transformer)
    pipe.save_pretrained(tmp_path / "softmax")
    gensynth.linearize(pipe, "clear", window=2)
    gensynth.restore(pipe)
    assert set(vars(pipe)) == before
    again = type(pipe).from_pretrained(tmp_path / "softmax")
    assert torch.equal(call(again.transformer), call(pipe.transformer))


def test_a_copy_of_a_model_does_not_copy_its_pipeline():
    pipe = tiny("flux")
    gensynth.linearize(pipe, "clear", window=2)
    words = pipe.text_encoder_2.shared.weight
    memo = {}
    copy.deepcopy(pipe.transformer, memo)
    assert id(words) not in memo and id(pipe) not in memo


def test_keywords_that_nothing_takes_are_named(caplog):
    """As diffusers does; its own, which only some attentions take, are no reason."""
    for name, keyword in (("sd", "cross_attention_kwargs"), ("flux", "joint_attention_kwargs")):
        method, options = CASES[name]
        model = bare(name)
        gensynth.linearize(model, method, **options)
        call(model, **{keyword: {"ip_adapter_masks": None}})
        assert not caplog.messages
        call(model, **{keyword: {"windw": 3}})
        assert any(re.search("no attention takes are left out: windw", m) for m in caplog.messages)
        caplog.clear()


def test_attentions_need_their_model():
    pipe = bare("pixart")
    gensynth.linearize(pipe, "clear", window=2)
    attention = pipe.transformer_blocks[0].attn1
    with pytest.raises(UsageError, match="call the model that was linearized"):
        attention(torch.zeros(1, 16, 32))
    with pytest.raises(UsageError, match="without attention_mask"):
        attention(torch.zeros(1, 16, 32), attention_mask=torch.zeros(1, 1, 16))
