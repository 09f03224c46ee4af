"""Every family draws what diffusers draws, a picture a seed, whatever else is in the batch."""

import numpy as np
import pytest
import tiny_pipelines
import torch

from gensynth.errors import DivergedError, UsageError
from gensynth.pipelines.pretrained.families import FAMILIES
from gensynth.pipelines.pretrained.pipeline import PretrainedPipeline

KINDS = ["sd", "sdxl", "sd3", "sd3-without-t5", "flux", "flux-schnell"]
KINDS += ["pixart-alpha", "pixart-sigma", "sana"]
PROMPTS = ["a red apple", "two birds fly over a white mountain", "the blue house", "a red apple"]
SEEDS = [3, 2**40, 5, 6]
HOW = {"steps": 3, "size": 64}
every = pytest.mark.parametrize("kind", KINDS)


def numbers(images):
    return np.stack([np.asarray(image).astype(int) for image in images])


def negative_of(kind):
    return {} if kind.startswith("flux") else {"negative": "small cat"}


def of_diffusers(inner, kind, prompt, seed):
    """The picture that the pipeline draws when it is called as its documentation says."""
    call = {"num_inference_steps": 3, "height": 64, "width": 64, "guidance_scale": 4.0}
    if kind == "flux-schnell":
        del call["guidance_scale"]
        call["max_sequence_length"] = 256  # as its card says
    if kind.startswith(("pixart", "sana")):
        call |= {"use_resolution_binning": False, "clean_caption": False}
    negative = {f"{name}_prompt": text for name, text in negative_of(kind).items()}
    generator = torch.Generator().manual_seed(seed)
    return inner(prompt, **negative, **call, generator=[generator]).images


def test_every_family_is_here(made):
    assert {type(made(kind)).__name__ for kind in KINDS} == set(FAMILIES)


@every
def test_pictures_are_those_of_diffusers(kind, made, drawing):
    guidance = {} if kind == "flux-schnell" else {"guidance": 4.0}
    own = drawing(kind)(PROMPTS[1], [SEEDS[1]], **HOW, **guidance, **negative_of(kind))
    assert np.array_equal(
        numbers(own), numbers(of_diffusers(made(kind), kind, *PROMPTS[1:2], SEEDS[1]))
    )


@every
def test_a_picture_does_not_depend_on_its_batch(kind, drawing):
    pipe, how = drawing(kind), HOW | negative_of(kind)
    four = numbers(pipe(PROMPTS, SEEDS, **how))
    alone = numbers([pipe(*pair, **how)[0] for pair in zip(PROMPTS, SEEDS, strict=True)])
    assert four.shape == (4, 64, 64, 3)
    assert np.abs(four - alone).max() <= 1  # rounding: how torch adds depends on the batch
    assert np.abs(four[0] - four[3]).mean() > 10  # another seed
    other = numbers(pipe("a small cat in the grass", SEEDS[:1], **how))
    assert np.abs(four[0] - other[0]).max() > 1  # another prompt


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("flux")])
def test_negative_prompts_and_guidance_count(kind, drawing):
    pipe = drawing(kind)
    drawn = [
        numbers(pipe("a red apple", [1], **HOW, **told))
        for told in ({}, {"negative": "the sea at night"}, {"guidance": 1}, {"guidance": 15})
    ]
    for first in range(4):
        for second in range(first):
            assert np.abs(drawn[first] - drawn[second]).max() > 1


def test_the_guidance_of_flux_is_told_to_its_network(drawing):
    drawn = [numbers(drawing("flux")("a cat", [1], guidance=scale, **HOW)) for scale in (0, 1, 9)]
    assert np.abs(drawn[0] - drawn[1]).max() > 0 and np.abs(drawn[1] - drawn[2]).max() > 0


@pytest.mark.parametrize("kind", ["sd", "flux", "pixart-alpha", "sana"])
def test_sides_may_differ(kind, drawing):
    [image] = drawing(kind)("a red apple", [1], steps=2, size=(32, 64))
    assert image.size == (64, 32)


@every
def test_steps_are_told_with_previews(kind, drawing):
    told = []

    def on_step(progress):
        told.append((progress.step, progress.steps, progress.preview()))

    pictures = numbers(drawing(kind)(PROMPTS[:2], SEEDS[:2], on_step=on_step, **HOW))
    calls = 4 if kind == "sd" else 3  # PNDM's asks once more
    assert [step[:2] for step in told] == [(number, calls) for number in range(1, calls + 1)]
    previews = [step[2] for step in told]
    assert all(p.dtype == torch.uint8 and p.shape == (2, 3, 64, 64) for p in previews)
    away = [np.abs(p.permute(0, 2, 3, 1).numpy() - pictures).mean() for p in previews]
    assert away[-1] < 1 and away[-1] <= away[0] < 20  # of noise it would be 36


class Enough(BaseException):
    pass


@pytest.mark.parametrize("kind", ["sd", "pixart-alpha"])
def test_a_walk_can_be_ended(kind, drawing, made):
    steps, own = [], made(kind).scheduler
    before = numbers(drawing(kind)("a red apple", [1], **HOW))

    def on_step(progress):
        steps.append(progress.step)
        if progress.step == 2:
            raise Enough

    with pytest.raises(Enough):
        drawing(kind)("a red apple", [1], on_step=on_step, scheduler="DDIMScheduler", **HOW)
    assert steps == [1, 2] and made(kind).scheduler is own
    assert np.array_equal(numbers(drawing(kind)("a red apple", [1], **HOW)), before)


def test_the_global_generator_is_left_alone(drawing):
    before = torch.random.get_rng_state()
    pipe = drawing("sd")
    ancestral = {"scheduler": "EulerAncestralDiscreteScheduler", **HOW}
    first = numbers(pipe("a red apple", [1], **ancestral))
    assert torch.equal(torch.random.get_rng_state(), before)
    two = numbers(pipe(["the sea", "a red apple"], [7, 1], **ancestral))
    assert np.abs(two[1] - first[0]).max() <= 1


def test_numbers_that_are_not_finite_are_no_picture():
    inner = tiny_pipelines.tiny_sd()
    with torch.no_grad():
        inner.unet.conv_out.bias.fill_(torch.inf)
    with pytest.raises(DivergedError, match=r"3 steps of PNDMSch.* in torch\.float32; take anothe"):
        PretrainedPipeline(inner)("a red apple", [1], **HOW)
    inner.to(torch.bfloat16)
    with pytest.raises(DivergedError, match=r"in torch\.bfloat16; load it with dtype=float32"):
        PretrainedPipeline(inner)("a red apple", [1], **HOW)


def test_pairs_have_to_match(drawing):
    with pytest.raises(UsageError, match="2 prompts and 1 seeds"):
        drawing("sd")(["a", "b"], [1])
    with pytest.raises(UsageError, match="whole number from 0"):
        drawing("sd")(["a"], [-1])
