"""Compiled blocks and CUDA graphs."""

import pytest
import torch
from optimized import assert_same, drawn
from torch._dynamo.testing import CompileCounterWithBackend

from gensynth.pipelines.model_call import asked


@pytest.mark.parametrize("name", ["DiCo", "DiT", "MaskGIT"])
def test_compiled_blocks_draw_the_same(pair, name):
    plain, optimized = pair(name)
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    said = optimized.optimize(compile={"backend": counter, "fullgraph": True}, tables=True)
    assert said[-1].startswith("compiled: each ")
    for again in (True, None, False):  # not a second time
        assert optimized.optimize(compile=again, tables=True)[-1] == said[-1]
    for guidance in (1.0, 3.0):  # two batch sizes
        assert_same(plain, optimized, guidance=guidance)
    torch._dynamo.reset()
    # Once for each batch size and width at most, however many blocks and steps there are.
    assert 1 <= counter.frame_count <= 2 * (3 if name == "DiCo" else 1)


@pytest.mark.slow
def test_blocks_compiled_by_inductor_draw_the_same(pair):
    plain, optimized = pair("DiC")
    torch._dynamo.reset()
    optimized.optimize(compile=True, tables=True)
    assert_same(plain, optimized, guidance=2.0)
    torch._dynamo.reset()


@pytest.mark.gpu
@pytest.mark.parametrize("tables", [True, False])
@pytest.mark.parametrize("name", ["DiCo", "DiC", "DiT", "MDTv2", "MaskGIT"])
def test_cuda_graphs_draw_the_same(pair, name, tables):
    plain, optimized = (pipeline.to("cuda") for pipeline in pair(name))
    optimized.optimize(compile=False, tables=tables)
    for guidance in (1.0, 3.0, 1.0):
        assert_same(plain, optimized, guidance=guidance)
    graphed = optimized.optimized.recordings[("class_labels",), tables]
    assert len(graphed.recordings) == 2  # with and without the null label


@pytest.mark.gpu
@torch.inference_mode()
def test_a_replayed_graph_is_the_call_itself(pair):
    pipeline = pair()[0].to("cuda")
    pipeline.optimize(compile=False, tables=False)
    ask = pipeline.optimized.at([], {}, None)
    generator = torch.Generator().manual_seed(0)
    earlier = []
    for time in (10.0, 500.0):
        sample = torch.randn(2, 4, 16, 16, generator=generator).cuda()
        inputs = sample, torch.full((2,), time), {"class_labels": torch.tensor([3, 10])}
        earlier.append((ask(*inputs), asked(pipeline.model, *inputs)))
    for replayed, expected in earlier:  # a replay does not write over what an earlier one gave
        assert torch.equal(replayed, expected)


@pytest.mark.gpu
def test_graphs_follow_weights_that_moved(pair):
    plain, optimized = (pipeline.to("cuda") for pipeline in pair())
    optimized.optimize(compile=False)
    drawn(optimized)
    optimized.to("cpu").to("cuda")
    with torch.no_grad():
        for pipeline in (plain, optimized):
            pipeline.model.final_layer.conv.bias.add_(0.5)
    assert_same(plain, optimized)
