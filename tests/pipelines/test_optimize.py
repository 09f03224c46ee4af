import threading

import numpy as np
import pytest
import torch
from optimized import assert_same, count_products, drawn
from safetensors.torch import load_file

from gensynth import load
from gensynth.errors import UsageError
from gensynth.pipelines.acceleration.optimize import OptimizedModel, use_graphs
from gensynth.pipelines.acceleration.step_tables import Modulations
from gensynth.pipelines.model_call import guided_model
from gensynth.settings import Settings

HEUN = {"scheduler": "FlowODEScheduler", "scheduler_options": {"method": "heun"}}
DOPRI5 = {"scheduler": "FlowODEScheduler", "scheduler_options": {"method": "dopri5"}}
SDE = {"scheduler": "FlowSDEScheduler", "scheduler_options": {"method": "heun"}}
INTERVAL = {"guidance": 3.0, "guidance_interval": (0.2, 0.7), "steps": 6}


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("name", ["DiCo", "DiC", "DiT", "SiT", "MDTv2", "MaskGIT"])
def test_a_picture_is_the_same(pair, name, guidance):
    plain, optimized = pair(name)
    optimized.optimize(tables=True)
    products = count_products(optimized)
    assert_same(plain, optimized, guidance=guidance, steps=4)
    assert products == [len(Modulations(optimized.model).layers)]  # one for all steps


@pytest.mark.parametrize(
    ("prediction", "how"),
    [
        ("velocity", {"guidance": 3.0, "steps": 1}),
        ("velocity", INTERVAL),
        ("velocity", HEUN),
        ("velocity", HEUN | INTERVAL),
        ("velocity", SDE | INTERVAL),
        ("velocity", {"scheduler": "FlowMatchHeunDiscreteScheduler", "guidance": 2.0}),
        ("epsilon", {"guidance": 2.0}),
        ("epsilon", {"scheduler": "HeunDiscreteScheduler", "guidance": 2.0}),
        ("epsilon", {"scheduler": "DPMSolverMultistepScheduler", "steps": 5}),
        ("tokens", {"guidance": 2.0, "steps": 4}),
    ],
)
def test_a_picture_is_the_same_with_every_sampler(pair, prediction, how):
    plain, optimized = pair("MaskGIT" if prediction == "tokens" else "DiCo", prediction)
    optimized.optimize(tables=True)
    products = count_products(optimized)
    assert_same(plain, optimized, **how)
    assert products == [len(Modulations(optimized.model).layers)]


def test_a_sampler_that_chooses_its_times_has_no_table(pair):
    plain, optimized = pair()
    optimized.optimize(tables=True)
    products = count_products(optimized)
    assert_same(plain, optimized, **DOPRI5)
    assert products[0] > 5 * len(Modulations(optimized.model).layers)


@pytest.mark.parametrize("kind", ["velocity", "tokens"])
def test_a_guide_has_a_table_of_its_own(pair, make_pipeline, make_model, make_token_model, kind):
    plain, optimized = pair("MaskGIT" if kind == "tokens" else "DiCo")
    own = make_token_model(seed=1, hidden_size=8) if kind == "tokens" else make_model()
    guide = make_pipeline(kind, model=own)
    expected = drawn(plain, guide=guide, guidance=2.0)
    optimized.optimize(tables=True)
    guide.optimize(tables=True)
    products = count_products(guide)
    assert np.abs(drawn(optimized, guide=guide, guidance=2.0) - expected).max() <= 1
    assert products == [len(Modulations(guide.model).layers)]


def test_an_edit_is_the_same(pair):
    plain, optimized = pair("MaskGIT")
    optimized.optimize(tables=True)
    products = count_products(optimized)
    image = plain([1], [5])[0]
    edits = [
        np.asarray(pipeline.edit(image, 4, seeds=3, strength=0.7, guidance=2.0)[0], dtype=np.int16)
        for pipeline in (plain, optimized)
    ]
    assert np.abs(edits[0] - edits[1]).max() <= 1
    assert products == [len(Modulations(optimized.model).layers)]


def test_threads_do_not_mix_their_pictures(pair):
    plain, optimized = pair()
    optimized.optimize(tables=True)
    jobs = {(label, steps): None for label in (1, 7) for steps in (3, 5)}

    def draw(label: int, steps: int) -> None:
        jobs[label, steps] = drawn(optimized, [label], [label], steps=steps, guidance=2.0)

    threads = [threading.Thread(target=draw, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (label, steps), pictures in jobs.items():
        expected = drawn(plain, [label], [label], steps=steps, guidance=2.0)
        assert np.abs(pictures - expected).max() <= 1


def test_half_precision(pair):
    plain, optimized = (pipeline.to(torch.bfloat16) for pipeline in pair("DiT"))
    optimized.optimize(tables=True)
    one, other = drawn(plain, guidance=2.0), drawn(optimized, guidance=2.0)
    assert np.abs(one - other).mean() < 1


def test_what_it_says(pair):
    said = pair()[0].optimize()
    assert [sentence.partition(":")[0] for sentence in said] == [
        "channels-last",
        "not channels-last",
        "tables of modulations",
        "no CUDA graphs",
        "not compiled",
    ]
    assert "optimize(compile=True)" in said[-1]
    said = pair("DiT")[0].optimize(tables=False, graphs=False, compile=False)
    assert said[0] == "not channels-last: the model has no convolution over neighbours"
    assert [sentence.endswith("not wanted") for sentence in said[2:]] == [True, False, True]
    assert pair("MaskGIT")[0].optimize()[1] == "channels-last: the autoencoder's convolutions"


def test_again_changes_nothing(pair):
    pipeline = pair()[0]
    said = pipeline.optimize()
    first = pipeline.optimized
    assert pipeline.optimize() == said
    assert pipeline.optimized is first
    pipeline.optimize(tables=False)
    assert pipeline.optimized is not first and not pipeline.optimized.tables


def test_channels_last_is_what_it_says(pair):
    pipeline = pair("DiC")[0]
    pipeline.optimize()
    weight = pipeline.model.stem.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_graphs_need_a_gpu(pair):
    with pytest.raises(UsageError, match="on cpu, not on a CUDA GPU"):
        pair()[0].optimize(graphs=True)


def test_an_optimized_pipeline_is_saved_as_ever(pair, tmp_path):
    plain, optimized = pair()
    optimized.optimize(tables=True)
    expected = drawn(optimized)
    for pipeline, name in ((plain, "plain"), (optimized, "optimized")):
        pipeline.save_pretrained(tmp_path / name)
    one, other = (
        load_file(tmp_path / name / "model" / "diffusion_pytorch_model.safetensors")
        for name in ("plain", "optimized")
    )
    assert list(one) == list(other)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert np.abs(drawn(load(tmp_path / "optimized")) - expected).max() <= 1


def test_guided_model_of_a_plain_pipeline_needs_no_plan(tiny_pipeline):
    resolved = tiny_pipeline.resolve(Settings(guidance=2.0))
    told = {"class_labels": torch.tensor([3])}
    predict, conditions = guided_model(tiny_pipeline, resolved, told)
    assert conditions == told
    output = predict(torch.zeros(1, 4, 16, 16), torch.tensor([500.0]), conditions)
    assert output.shape == (1, 4, 16, 16)


def test_a_graph_is_not_replayed_in_the_place_of_hooks(pair, monkeypatch):
    model = pair()[0].model
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    optimized = OptimizedModel(model, tables=False, graphs=True)
    assert optimized.at([], {}, None).args == (None, True)
    assert use_graphs(model, None)[0]
    hook = model.levels[0][0].conv_out.register_forward_hook(lambda *_: None)
    assert optimized.at([], {}, None).args == (None, False)  # also of one put in later
    chosen, why = use_graphs(model, None)
    assert not chosen and "levels.0.0.conv_out has hooks" in why
    with pytest.raises(UsageError, match=r"levels\.0\.0\.conv_out has hooks"):
        use_graphs(model, True)
    hook.remove()
    assert use_graphs(model, True)[0]
