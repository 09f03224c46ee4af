"""Any height and width, one after another, and those that do not fit."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from linear_models import CASES, bare, call, draw, network, tiny

import gensynth
from gensynth.errors import UsageError
from gensynth.linearize import grids
from gensynth.linearize.families import family_of
from gensynth.models.layers.grid import Grid

LOCAL = [name for name, (method, _) in CASES.items() if method == "clear"]
SIZES = [(64, 96), (96, 64), (32, 64), (64, 96)]  # the first two have the same number of tokens
NAMES = ["sd", "flux", "pixart"]
DRAWN_ALONE = """
import json, sys
import diffusers, gensynth, torch
folder, height, width = sys.argv[1], *map(int, sys.argv[2:4])
sys.path[:0] = json.loads(sys.argv[4])
from linear_models import CASES, draw
for name in json.loads(sys.argv[5]):
    pipe = diffusers.DiffusionPipeline.from_pretrained(f"{folder}/{name}")
    gensynth.linearize(pipe, CASES[name][0], **CASES[name][1])
    torch.save(draw(pipe, height, width), f"{folder}/{name}-{height}.pt")
"""


@pytest.mark.parametrize("name", CASES)
def test_alternated_sizes_are_those_of_fresh_pipelines(name):
    method, options = CASES[name]
    alone = []
    for height, width in SIZES:
        pipe = tiny(name)
        gensynth.linearize(pipe, method, **options)
        alone.append(draw(pipe, height, width))
    pipe = tiny(name)
    gensynth.linearize(pipe, method, **options)
    for (height, width), expected in zip(SIZES, alone, strict=True):
        assert torch.equal(draw(pipe, height, width), expected), (height, width)


@pytest.mark.long
def test_alternated_sizes_are_those_of_two_processes(tmp_path):
    pipes = {name: tiny(name) for name in NAMES}
    for name, pipe in pipes.items():
        pipe.save_pretrained(tmp_path / name)
        gensynth.linearize(pipe, CASES[name][0], **CASES[name][1])
    paths = json.dumps([str(Path(__file__).parent), str(Path(__file__).parents[1] / "common")])
    sizes = [(64, 96), (96, 64)]
    for size in sizes:
        words = [str(tmp_path), *map(str, size), paths, json.dumps(NAMES)]
        subprocess.run([sys.executable, "-c", DRAWN_ALONE, *words], check=True)
    for name, pipe in pipes.items():
        for height, width in [*sizes, sizes[0]]:
            alone = torch.load(tmp_path / f"{name}-{height}.pt", weights_only=True)
            assert torch.equal(draw(pipe, height, width), alone), (name, height)


@pytest.mark.parametrize("name", LOCAL)
def test_a_window_as_wide_as_the_grid_is_full_attention(name):
    pipe = tiny(name)
    expected = draw(pipe, 64, 96)
    # 4 x 6 tokens: corners are sqrt(9 + 25) = 5.83 apart
    gensynth.linearize(pipe, "clear", window=5)
    assert (draw(pipe, 64, 96) - expected).abs().max() > 1e-3
    gensynth.restore(pipe)
    gensynth.linearize(pipe, "clear", window=6)
    torch.testing.assert_close(draw(pipe, 64, 96), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", LOCAL)
def test_a_size_that_the_factor_does_not_divide_is_refused_with_the_nearest(name):
    pipe = tiny(name)
    gensynth.linearize(pipe, "clear", window=2, down_factor=4)
    with pytest.raises(UsageError, match="multiples of 64 pixels; the nearest are 64 high") as told:
        draw(pipe, 64, 96)
    assert str(told.value).endswith("64 or 128 wide.")
    draw(pipe, 64, 128)  # the advice


def test_tokens_of_a_model_without_a_pipeline():
    pipe = tiny("sd3")
    gensynth.linearize(network(pipe), "clear", window=2, down_factor=4)
    with pytest.raises(UsageError, match=r"4x6 tokens .* are 4 high and 4 or 8 wide"):
        draw(pipe, 64, 96)


@pytest.mark.parametrize("name", LOCAL)
def test_keywords_for_attentions_that_are_given_by_their_place(name):
    """They keep what they hold, and get the grid."""
    method, options = CASES[name]
    plain, model = bare(name), bare(name)
    for one in (plain, model):
        gensynth.linearize(one, method, **options)
    expected = call(plain)
    signature = inspect.signature(type(model).forward)
    told = family_of(model).told
    places = list(signature.parameters)[1:]  # without self
    given = {}

    def keep(module, args, keywords):
        given.update(signature.bind(module, *args, **keywords).arguments)

    plain.register_forward_pre_hook(keep, prepend=True, with_kwargs=True)
    call(plain, **{told: {"ip_adapter_masks": None}})
    del given["self"]
    place = places.index(told)
    defaults = [signature.parameters[one].default for one in places[: place + 1]]
    args = [given.get(one, other) for one, other in zip(places, defaults, strict=False)]
    kwargs = {one: value for one, value in given.items() if one not in places[: place + 1]}
    with torch.no_grad():
        assert torch.equal(model(*args, **kwargs).sample, expected)
    assert args[place] == {"ip_adapter_masks": None}  # the caller's own is not written to


def test_latents_that_the_patches_do_not_fill():
    model = network(tiny("pixart"))
    with pytest.raises(UsageError, match="the nearest are 8 high and 8 or 10 wide"):
        grids.of_latents(model, {"hidden_states": torch.zeros(1, 4, 8, 9)})


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("height, width", [(3, 5), (1, 4), (4, 1), (300, 2), (2, 600)])
def test_positions_tell_the_grid_also_when_they_are_rounded(height, width, kind):
    rows, columns = torch.arange(height), torch.arange(width)
    ids = torch.zeros(height, width, 3)
    ids[..., 1], ids[..., 2] = rows[:, None], columns
    assert grids.of_positions(ids.view(-1, 3).to(kind)) == Grid(height, width)


def test_positions_of_two_pictures_are_refused():
    ids = torch.zeros(2, 2, 3, 3)
    ids[..., 1], ids[..., 2] = torch.arange(2)[:, None], torch.arange(3)
    ids[1, ..., 0] = 1  # as FLUX Kontext marks the picture that it changes
    with pytest.raises(UsageError, match="several pictures"):
        grids.of_positions(ids.view(-1, 3))


def test_positions_that_were_written_to_are_read_again():
    found = grids.Positions()
    ids = torch.zeros(6, 3)
    ids[:, 1], ids[:, 2] = torch.arange(6) // 3, torch.arange(6) % 3
    assert found(None, {"img_ids": ids}) == Grid(2, 3)
    ids[:, 1], ids[:, 2] = torch.arange(6) // 2, torch.arange(6) % 2
    assert found(None, {"img_ids": ids}) == Grid(3, 2)


def test_blocks_computed_again_for_a_gradient_know_their_own_size():
    """Two sizes before one backward pass, with gradient checkpointing and without."""
    model = network(tiny("pixart"))
    gensynth.linearize(model, "clear", window=1)
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(1, 3, model.config.caption_channels, generator=generator)
    samples = [torch.randn(1, 4, *size, generator=generator) for size in ((8, 4), (4, 8))]
    gradients = []
    for checkpointed in (False, True):
        model.train()
        if checkpointed:
            model.enable_gradient_checkpointing()
        model.zero_grad()
        told = {"encoder_hidden_states": words, "timestep": torch.tensor([3])}
        sum(model(sample, **told).sample.square().sum() for sample in samples).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain)
