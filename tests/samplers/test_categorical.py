"""Drawing by inverting the distribution function, against its definition."""

import pytest
import torch

from gensynth.samplers.categorical import draw_tokens, invert


@pytest.mark.parametrize("scale", [0, 1, 1e3], ids=["ties", "usual", "zeros"])
def test_the_first_index_whose_share_of_the_sum_exceeds_the_number(scale):
    generator = torch.Generator().manual_seed(0)
    weights = torch.softmax(scale * torch.randn(2, 50, 37, generator=generator), dim=-1)
    uniform = torch.rand(2, 50, generator=generator)
    uniform[:, :3] = torch.tensor([0.0, 0.5, 1 - 2**-24])
    shares = weights.double().cumsum(-1) / weights.double().sum(-1, keepdim=True)
    expected = (shares <= uniform[..., None]).sum(-1)
    assert torch.equal(invert(weights, uniform), expected)
    assert (weights.gather(-1, expected[..., None]) > 0).all()


def test_scratch_memory_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    logits, uniform = (
        torch.randn(2, 9, 8, generator=generator),
        torch.rand(2, 9, generator=generator),
    )
    single = torch.full((2, 9, 7), torch.nan)
    scratch = single, single.double()
    for top_k in (None, 3):
        fresh = draw_tokens(logits, uniform, 1.0, top_k)
        reused = draw_tokens(logits, uniform, 1.0, top_k, scratch=scratch)
        assert all(torch.equal(*pair) for pair in zip(fresh, reused, strict=True))
