"""Softmax attention in 16 bits on a CPU: computed in float32 where it is trained."""

import pytest
import torch
import torch.nn.functional as F

from gensynth.ops.attention import attention

BFLOAT16 = torch.bfloat16


def inputs(dtype=torch.float32):
    draw = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, 3, length, 8, generator=draw).to(dtype).requires_grad_()
        for length in (5, 7, 7)
    ]


MASK = torch.arange(7)[None, None, None] < torch.tensor([4, 7])[:, None, None, None]
BIAS = torch.linspace(-1, 1, 35).view(1, 1, 5, 7)


@pytest.mark.parametrize("mask", [None, MASK, BIAS], ids=["none", "mask", "bias"])
def test_float32_is_torchs_to_the_bit(mask):
    q, k, v = inputs()
    assert torch.equal(attention(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, mask))


@pytest.mark.parametrize("mask", [None, MASK, BIAS.to(BFLOAT16)], ids=["none", "mask", "bias"])
@pytest.mark.parametrize("autocast", [False, True])
def test_training_in_bfloat16_rounds_only_what_goes_in_and_out(mask, autocast):
    given = inputs(torch.float32 if autocast else BFLOAT16)
    with torch.autocast("cpu", BFLOAT16, enabled=autocast):
        output = attention(*given, mask)
    assert output.dtype == BFLOAT16
    exact = [x.detach().float().requires_grad_() for x in given]
    wanted = F.scaled_dot_product_attention(*exact, as_float(mask))
    assert torch.equal(output, wanted.to(BFLOAT16))
    output.float().sum().backward()
    wanted.sum().backward()
    for ours, theirs in zip(given, exact, strict=True):
        assert torch.equal(ours.grad, theirs.grad.to(ours.grad.dtype))


def as_float(mask):
    return mask.float() if mask is not None and mask.is_floating_point() else mask


def test_drawing_in_bfloat16_is_torchs_to_the_bit():
    q, k, v = inputs(BFLOAT16)
    with torch.no_grad():
        assert torch.equal(attention(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_dropout_leaves_out_weights():
    q, k, _ = inputs()
    kept = attention(q, k, torch.ones(2, 3, 7, 8), dropout=0.5)
    assert kept.unique().numel() > 1  # without it all are one
