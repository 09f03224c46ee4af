"""Circular local attention is the published function: Huage001/CLEAR."""

import math

import pytest
import torch
from reference import load_reference

from gensynth.ops import choice, local_attention


@pytest.fixture(params=["reference", pytest.param("triton", marks=pytest.mark.slow)])
def path(request):
    """Both ways of the operator, the kernel in Triton's interpreter."""
    if request.param == "triton" and not choice.HAS_TRITON:
        pytest.skip("Triton is not installed")
    with choice.use(request.param):
        yield


@pytest.mark.usefixtures("path")
def test_attention():
    """Every case, with the down-sampled keys and the proportional scale where it has them."""
    reference = load_reference("clear/attention.safetensors")
    for index, case in enumerate(reference.config["cases"]):
        number = case["inputs"][1:]
        q, k, v = (reference.input[f"{letter}{number}"] for letter in "qkv")
        weight = reference.input.get(f"spatial_weight{number}")
        output = local_attention(
            q,
            k,
            v,
            height=case["height"],
            width=case["width"],
            window=case["window_size"],
            text_length=case["text_length"],
            down_factor=case["down_factor"],
            pool_weight=None if weight is None else weight.squeeze(),
            scale=case["scale"],
        )
        reference.check(f"out{index}", output)


def attended(height, width, text_length, window_size, down_factor=1, attention=local_attention):
    """The mask [queries, keys] that an attention follows, read off its output.

    With equal scores every query takes the mean of the values it sees, and values that are unit
    vectors tell which these were. Pooled keys get values of their own: what the mean takes from a
    whole square in equal parts.
    """
    tokens = text_length + height * width
    zeros = torch.zeros(1, 1, tokens, tokens)
    output = attention(
        zeros,
        zeros,
        torch.eye(tokens)[None, None],
        height=height,
        width=width,
        window=window_size,
        text_length=text_length,
        down_factor=down_factor,
    )[0, 0]
    if down_factor == 1:
        return output > 0
    cells = (height // down_factor) * (width // down_factor)
    places = torch.arange(height * width).view(
        height // down_factor, down_factor, width // down_factor, down_factor
    )
    squares = places.permute(0, 2, 1, 3).flatten(2).flatten(0, 1) + text_length
    mask = torch.zeros(tokens, tokens + cells, dtype=torch.bool)
    for query, row in enumerate(output):
        # A weight that a whole square shares is 1 / (seen * side^2): from its pooled key.
        sees_pooled = (row[squares] > 1e-7).all()
        seen = 1 / row[row > 0].max()
        if not sees_pooled or query < text_length:
            mask[query, :tokens] = row > 0
            continue
        seen = (1 + down_factor**-2) / row.max()  # the query itself: alone and in its square
        mask[query, :tokens] = row > 0.5 / seen
        mask[query, tokens:] = (row[squares] * seen * down_factor**2 > 0.5).all(dim=1)
    return mask


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", ["local", "down"])
def test_masks(kind):
    reference = load_reference("clear/masks.safetensors")
    for index, case in enumerate(reference.config[kind]):
        assert torch.equal(attended(**case), reference.output[f"{kind}{index}"]), case


def test_proportional_scale_is_the_callers():
    """CLEAR's proportional attention is a scale: sqrt(log_4608(keys) / D)."""
    reference = load_reference("clear/attention.safetensors")
    case = reference.config["cases"][1]
    assert case["scale"] == pytest.approx(math.sqrt(math.log(case["key_tokens"], 4608) / 8))


@pytest.mark.parametrize("height, width, window", [(5, 7, 2), (9, 4, 5), (1, 1, 3), (13, 17, 4)])
def test_gradients_are_those_of_the_dense_definition(height, width, window):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(2, 3, height * width, 8, generator=generator).requires_grad_() for _ in "qkv"
    )
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).float().view(-1, 2)
    near = torch.cdist(places, places).square().round() < window**2
    dense = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=near)
    output = local_attention(q, k, v, height=height, width=width, window=window)
    torch.testing.assert_close(output, dense, atol=1e-5, rtol=1e-5)
    weight = torch.randn(output.shape, generator=generator)
    expected = torch.autograd.grad((dense * weight).sum(), (q, k, v))
    actual = torch.autograd.grad((output * weight).sum(), (q, k, v))
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_pieces_do_not_change_the_result(monkeypatch):
    from gensynth.ops.local_attention import reference as definition

    q = torch.randn(1, 2, 24 * 20, 8, generator=torch.Generator().manual_seed(0))
    whole = local_attention(q, q, q, height=24, width=20, window=4)
    monkeypatch.setattr(definition, "WORKING_BYTES", 1)
    torch.testing.assert_close(local_attention(q, q, q, height=24, width=20, window=4), whole)
