"""Pictures redrawn in part: what is kept, what the model sees, and what is refused."""

import io
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from pictures import array, box, noise
from PIL import Image

from gensynth.data.images import decode
from gensynth.errors import UsageError
from gensynth.pipelines.editing.canvas import ANCHORS, make_canvas
from gensynth.pipelines.editing.edit import (
    Edit,
    make_plan,
    masked_tokens,
    most_different,
    states,
    structures,
)
from gensynth.samplers.masking import decided_counts, halton_order
from gensynth.samplers.token_decoders import ConfidenceDecoder
from gensynth.settings import Settings

CODES = 16
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"]


@pytest.fixture(scope="module")
def make(make_pipeline) -> Callable:
    return partial(make_pipeline, "tokens", steps=4, fit="pad")


@pytest.fixture(scope="module")
def grey(make):
    return make()


@pytest.fixture(scope="module")
def colour(make, make_tokenizer):
    return make(autoencoder=make_tokenizer(channels=3))


def seen(pipeline, **arguments) -> list[tuple[torch.Tensor, list[int]]]:
    """Tokens and labels of every model call of an edit."""
    calls = []
    hook = pipeline.model.register_forward_pre_hook(
        lambda module, inputs, told: calls.append(
            (inputs[0].clone(), told["class_labels"].tolist())
        ),
        with_kwargs=True,
    )
    try:
        pipeline.edit(**arguments)
    finally:
        hook.remove()
    return calls


@torch.inference_mode()
def last(pipeline, plan, seeds) -> torch.Tensor:
    """The tokens after the last step."""
    return list(states(pipeline, plan, seeds))[-1].sample


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_outside_the_mask_are_the_images_in_every_mode(grey, colour, mode, channels):
    image, mask = noise(28, 28, mode), box((28, 28), 5, 9, 20, 22)
    stream = io.BytesIO()
    image.save(stream, "TIFF" if mode == "CMYK" else "PNG")
    in_grey = channels == 1 and mode in ("1", "L", "LA", "I;16")
    expected = decode(stream.getvalue(), 1 if in_grey else 3)
    (result,) = {1: grey, 3: colour}[channels].edit(image, mask=mask)
    assert (result.mode, result.size) == (expected.mode, image.size)
    kept = np.asarray(mask) == 0
    assert np.array_equal(np.asarray(result)[kept], np.asarray(expected)[kept])
    changed = (array(result) != array(expected))[~kept]
    assert changed.mean() > 0.8
    if channels == 1 and not in_grey:  # a grey model's drawing in a coloured picture
        inside = np.asarray(result)[14:17, 10:15]
        assert (inside == inside[..., :1]).all()


@pytest.mark.parametrize(
    "size", [(28, 28), (37, 23), (300, 200), (16, 16), (9, 13), (32, 31), (64, 5), (33, 33)]
)
def test_pixels_outside_the_mask_are_the_images_at_every_size(colour, size):
    width, height = size
    image = noise(*size, "RGB")
    rng = np.random.default_rng(1)
    redrawn = rng.random((height, width)) < 0.3
    result = colour.edit(image, mask=Image.fromarray(redrawn), label=2, edge=0)[0]
    assert result.size == size
    assert np.array_equal(array(result)[~redrawn], array(image)[~redrawn])
    assert (array(result) != array(image))[redrawn].mean() > 0.8


@pytest.mark.parametrize(
    ("size", "side"), [((28, 28), 1), ((32, 32), 1), ((320, 320), 10), ((400, 100), 6)]
)
def test_the_edge_is_a_quarter_of_a_token_unless_given(grey, size, side):
    image, mask = noise(*size), box(size, 3, 3, 20, 20)
    assert make_plan(grey, Edit(image, mask=mask)).edge == side
    assert make_plan(grey, Edit(image, mask=mask, edge=0)).edge == 0


@pytest.mark.parametrize("scheduler", ["HaltonDecoder", "ConfidenceDecoder"])
def test_a_result_depends_on_its_own_seed_only(grey, scheduler):
    image, mask = noise(28, 28), box((28, 28), 4, 4, 24, 24)
    given = {"label": 3, "mask": mask, "guidance": 2.0, "scheduler": scheduler}
    seeds = [5, 9, 5, 11]
    together = [array(result) for result in grey.edit(image, seeds=seeds, **given)]
    for seed, result in zip(seeds, together, strict=True):
        assert np.array_equal(result, array(grey.edit(image, seeds=[seed], **given)[0]))
    assert not np.array_equal(together[0], together[1])


def test_no_global_random_numbers_are_drawn(grey):
    before = torch.get_rng_state()
    grey.edit(noise(28, 28))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("scheduler", ["HaltonDecoder", "ConfidenceDecoder"])
def test_the_model_sees_the_kept_tokens_and_masks_elsewhere(grey, scheduler):
    image, mask = noise(32, 32), box((32, 32), 8, 4, 20, 15)
    canvas = make_canvas(image, mask, None, "center", False, 32, 4, True)
    tokens = grey.autoencoder.encode(canvas.work_pixels(1)[None])[0]
    redrawn = torch.zeros(8, 8, dtype=torch.bool)
    redrawn[1:4, 2:5] = True
    calls = seen(grey, image=image, mask=mask, seeds=[0, 1], scheduler=scheduler)
    assert len(calls) == 4
    assert (calls[0][0][:, redrawn] == CODES).all()
    left = [int((given[0] == CODES).sum()) for given, _ in calls]
    assert left[0] == 9 and left == sorted(set(left), reverse=True)
    for given, _ in calls:
        assert torch.equal(given[:, ~redrawn], tokens[~redrawn].expand(2, -1))


@pytest.mark.parametrize("size", [(32, 32), (28, 20), (90, 70)])
def test_what_lies_under_the_mask_has_no_effect(grey, size):
    image, mask = noise(*size), box(size, 8, 4, 20, 15)
    other = image.copy()
    other.paste(255, (8, 4, 20, 15))
    results = [grey.edit(given, 2, mask, seeds=[3], edge=0)[0] for given in (image, other)]
    assert np.array_equal(array(results[0]), array(results[1]))
    assert not np.array_equal(array(results[0]), array(image))


def test_the_label_reaches_the_model(grey):
    image, mask = noise(28, 28), box((28, 28), 4, 4, 24, 24)
    common = {"image": image, "mask": mask, "seeds": [0, 1]}
    assert {tuple(labels) for _, labels in seen(grey, **common)} == {(10, 10)}
    assert {tuple(labels) for _, labels in seen(grey, label="jackal", **common)} == {(9, 9)}
    guided = seen(grey, label=4, guidance=2.0, **common)
    assert {tuple(labels) for _, labels in guided} == {(4, 4, 10, 10)}
    results = [array(grey.edit(image, label, mask)[0]) for label in (None, 4, 9)]
    assert not np.array_equal(results[0], results[1])
    assert not np.array_equal(results[1], results[2])


def test_without_a_class_the_models_own_guidance_is_not_used(make):
    pipeline = make(guidance=3.0)
    image = noise(28, 28)
    assert {tuple(labels) for _, labels in seen(pipeline, image=image)} == {(10,)}
    assert {tuple(labels) for _, labels in seen(pipeline, image=image, label=1)} == {(1, 10)}


def test_a_guide_needs_no_class(grey, make, make_token_model):
    guide = make(model=make_token_model(seed=1))
    image = noise(28, 28)
    guided = grey.edit(image, guidance=4.0, guide=guide)[0]
    assert not np.array_equal(array(guided), array(grey.edit(image)[0]))


def test_options_of_the_decoder_are_passed_on(grey):
    image, options = noise(28, 28), {"greedy": True}
    first, second = grey.edit(image, seeds=[0, 1], scheduler_options=options)
    assert np.array_equal(array(first), array(second))


def test_an_interval_of_guidance_is_kept_to(grey):
    calls = seen(grey, image=noise(28, 28), label=1, guidance=2.0, guidance_interval=(0.0, 0.5))
    assert [len(labels) for _, labels in calls] == [1, 1, 2, 2]


@pytest.mark.parametrize(("strength", "count"), [(1e-6, 1), (0.1, 7), (0.5, 32), (0.999, 64)])
def test_variations_redraw_the_first_places_of_the_halton_order(grey, strength, count):
    image = noise(32, 32)
    encoded = grey.autoencoder.encode(torch.from_numpy(np.array(image))[None, None])[0]
    plan = make_plan(grey, Edit(image, strength=strength, settings=Settings(steps=1)))
    order = halton_order(8)[:count]
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[order[:, 0], order[:, 1]] = True
    assert torch.equal(plan.tokens == CODES, expected)
    assert plan.num_masked == count
    sample = last(grey, plan, [0, 1])
    assert torch.equal(sample[:, ~expected], encoded[~expected].expand(2, -1))
    assert (sample < CODES).all()
    assert torch.equal(plan.tokens[~expected], encoded[~expected])


def test_a_share_of_a_share_that_is_whole_is_not_rounded_up():
    """0.28 * 25 is 7.000000000000001 in floats."""
    redrawn = torch.zeros(8, 8, dtype=torch.bool)
    redrawn.view(-1)[:25] = True
    assert int(masked_tokens(redrawn, 0.28).sum()) == 7
    assert int(masked_tokens(redrawn, 0.29).sum()) == 8
    assert int(masked_tokens(redrawn, 1e-9).sum()) == 1
    weak, strong = masked_tokens(redrawn, 0.3), masked_tokens(redrawn, 0.7)
    assert not (weak & ~strong).any() and not (strong & ~redrawn).any()


def test_a_variation_is_the_decoded_tokens(grey):
    image = noise(28, 28)
    plan = make_plan(grey, Edit(image, strength=0.3))
    sample = last(grey, plan, [7])
    expected = grey.autoencoder.decode(sample)[0, 0, 2:30, 2:30].numpy()
    assert np.array_equal(np.asarray(grey.edit(image, seeds=[7], strength=0.3)[0]), expected)


def test_a_grey_model_varies_a_coloured_picture_in_rgb(grey):
    (result,) = grey.edit(noise(28, 28, "RGB"))
    assert result.mode == "RGB"
    assert (array(result) == array(result)[..., :1]).all()


@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("outpaint", [(28, 41), (45, 28), (60, 57)])
def test_the_image_lies_on_the_larger_canvas_where_the_anchor_says(grey, anchor, outpaint):
    image = noise(28, 28)
    (result,) = grey.edit(image, outpaint=outpaint, anchor=anchor)
    rows, columns = outpaint[0] - 28, outpaint[1] - 28
    top = rows // 2
    top = 0 if "top" in anchor else rows if "bottom" in anchor else top
    left = columns // 2
    left = 0 if "left" in anchor else columns if "right" in anchor else left
    assert result.size == outpaint[::-1]
    assert np.array_equal(array(result)[top : top + 28, left : left + 28], array(image))
    canvas = make_canvas(image, None, outpaint, anchor, False, 32, 4, True)
    assert canvas.corner == (top, left)
    assert (~canvas.redrawn).sum() == 28 * 28
    assert not canvas.redrawn[top : top + 28, left : left + 28].any()


def test_a_mask_and_a_larger_canvas_together(grey):
    image, mask = noise(28, 28), box((28, 28), 6, 6, 12, 10)
    (result,) = grey.edit(image, mask=mask, outpaint=(28, 40), anchor="left", edge=0)
    inside = array(result)[:, :28]
    kept = np.asarray(mask) == 0
    assert np.array_equal(inside[kept], array(image)[kept])
    assert (inside != array(image))[~kept].mean() > 0.8


@pytest.mark.parametrize(("given", "used"), [(None, 4), (3, 3), (100, 6)])
def test_there_are_never_more_steps_than_redrawn_tokens(grey, given, used):
    image, mask = noise(32, 32), box((32, 32), 0, 0, 12, 8)
    progress = []
    grey.edit(image, mask=mask, steps=given, seeds=[0, 1], on_step=progress.append)
    assert [(p.step, p.steps) for p in progress] == [(k + 1, used) for k in range(used)]
    assert progress[-1].preview().shape == (2, 1, 32, 32)
    plan = make_plan(grey, Edit(image, mask=mask, settings=Settings(steps=given)))
    assert (plan.resolved.steps, plan.num_masked) == (used, 6)


def test_a_default_of_more_steps_than_a_small_canvas_has_tokens_is_lowered(make):
    assert len(seen(make(steps=64), image=noise(300, 200), strength=0.999)) == 64
    assert len(seen(make(steps=64), image=noise(37, 23), strength=0.999)) == 60


def test_half_of_a_picture_is_varied_unless_told_otherwise(grey):
    assert make_plan(grey, Edit(noise(32, 32))).num_masked == 32


WHITE, BLACK = Image.new("L", (28, 28), 255), Image.new("L", (28, 28))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mask": Image.new("L", (28, 27), 255)}, "mask is 27x28 and the image 28x28"),
        ({"mask": BLACK}, "nothing to redraw"),
        ({"mask": Image.new("RGBA", (28, 28), (255, 255, 255, 0))}, "nothing to redraw"),
        ({"mask": WHITE}, "everything would be redrawn"),
        ({"mask": WHITE.convert("RGBA")}, "everything would be redrawn"),
        ({"strength": 0.0}, "strength must be above 0 and at most 1, got 0.0"),
        ({"strength": 1.0}, "nothing of the picture would be left; that is gensynth sample"),
        ({"seeds": [1.5]}, "a seed must be a whole number"),
        ({"strength": 1.1}, "strength must be"),
        ({"strength": math.nan}, "strength must be"),
        ({"guidance": 2.0}, "give a label too, or guidance 1"),
        ({"guidance": 0.5}, "give a label too, or guidance 1"),
        ({"guidance": -0.5, "label": 1}, "guidance must be from 0"),
        ({"label": 10}, "class 10 does not exist"),
        ({"label": "Jackel"}, "Did you mean 'Jackal'"),
        ({"outpaint": (28, 28)}, "outpaint 28x28 must be larger"),
        ({"outpaint": (27, 40)}, "outpaint 27x40 must be larger than the image's 28x28"),
        ({"outpaint": (40, 27)}, "must be larger"),
        ({"outpaint": (28, 29), "anchor": "middle"}, "anchor must be one of center, top"),
        ({"outpaint": (28, 449)}, "28x449 .* too narrow"),
        ({"outpaint": (90_000, 90_000)}, "too many pixels"),
        ({"anchor": "top"}, "give outpaint too"),
        ({"edge": 2}, "an edge is blended around"),
        ({"edge": -1, "outpaint": (28, 30)}, "edge must be a whole number of pixels from 0"),
        ({"steps": 0}, "steps must be from 1"),
        ({"scheduler": "DDIMScheduler"}, "DDIMScheduler"),
        ({"seeds": []}, "there are no seeds"),
        ({"seeds": [0, -1]}, "a seed must be .* got -1"),
        ({"seeds": [2**63]}, "a seed must be"),
    ],
)
def test_what_cannot_be_drawn_is_refused(grey, arguments, words):
    with pytest.raises(UsageError, match=words) as caught:
        grey.edit(noise(28, 28), **arguments)
    assert str(caught.value).endswith(".")


def test_models_of_latents_are_refused(tiny_pipeline):
    with pytest.raises(UsageError, match="needs a model that draws tokens, such as maskgit"):
        tiny_pipeline.edit(noise(28, 28))


def test_a_decoder_that_redraws_known_tokens_is_refused(make):
    pipeline = make()
    pipeline.scheduler = ConfidenceDecoder(as_published=True)
    with pytest.raises(UsageError, match="draws known tokens again"):
        pipeline.edit(noise(28, 28))
    assert pipeline.edit(noise(28, 28), scheduler="HaltonDecoder")


def test_the_rows_that_lie_farthest_apart_are_chosen():
    rows = np.array([[0], [1], [10], [5], [11]], dtype=np.uint8)
    assert most_different(rows, 3) == [0, 4, 3]
    assert most_different(rows, 1) == [0]
    assert sorted(most_different(np.zeros((4, 2), np.uint8), 4)) == [0, 1, 2, 3]
    for num in (0, 6):
        with pytest.raises(UsageError, match=f"got {num}"):
            most_different(rows, num)


def test_structures_are_previews_of_the_redrawn_part_at_half_of_the_tokens(grey):
    image, mask = noise(32, 32), box((32, 32), 8, 8, 24, 28)
    wanted = Edit(image, mask=mask, label=1, settings=Settings(steps=10))
    plan = make_plan(grey, wanted)
    counts = decided_counts("arccos", 10, 20)
    half = [2 * count >= 20 for count in counts].index(True) + 1
    assert 1 < half < 10
    previews = []

    def look(progress):
        if progress.step == half:
            previews.append(progress.preview()[:, 0, 8:28, 8:24].flatten(1).numpy())

    grey.edit(image, 1, mask, seeds=[3, 4], steps=10, on_step=look)
    calls = []
    hook = grey.model.register_forward_pre_hook(lambda *_: calls.append(1))
    found = structures(grey, plan, [3, 4])
    hook.remove()
    assert len(calls) == half
    assert np.array_equal(found, previews[0])
    assert np.array_equal(structures(grey, plan, [4])[0], found[1])


@pytest.mark.parametrize("name", ["image", "mask"])
@pytest.mark.parametrize("given", [np.zeros((28, 28), np.uint8), "picture.png"])
def test_what_is_no_pil_image_is_refused(grey, name, given):
    arguments = {"image": noise(28, 28), "mask": box((28, 28), 4, 4, 9, 9), name: given}
    with pytest.raises(UsageError, match=f"the {name} must be a PIL image, got"):
        grey.edit(**arguments)


def test_one_number_is_a_square_and_a_seed(grey):
    (one,) = grey.edit(noise(28, 28), outpaint=32, seeds=3)
    assert np.array_equal(
        array(one), array(grey.edit(noise(28, 28), outpaint=(32, 32), seeds=[3])[0])
    )
