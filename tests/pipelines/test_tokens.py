"""Pictures from masked tokens: both decoders, guidance, tokenizers that are not the model's."""

import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

import gensynth
from gensynth.errors import CorruptError, UsageError
from gensynth.samplers.masking import decided_counts
from gensynth.samplers.registry import create_scheduler
from gensynth.samplers.token_decoders import ORDER_NOISE, ConfidenceDecoder, Draws
from gensynth.seeding import picture_generator

DECODERS = ["HaltonDecoder", "ConfidenceDecoder"]
every_decoder = pytest.mark.parametrize("decoder", DECODERS)


def arrays(pictures) -> np.ndarray:
    return np.stack([np.asarray(picture).astype(int) for picture in pictures])


@pytest.fixture
def draw(make_pipeline):
    return make_pipeline("tokens", steps=5)


def calls(pipeline) -> list[tuple[torch.Tensor, ...]]:
    """Tokens and labels that the model will be called with."""
    seen: list[tuple[torch.Tensor, ...]] = []
    pipeline.model.register_forward_pre_hook(
        lambda module, given, told: seen.append((*given, told["class_labels"])), with_kwargs=True
    )
    return seen


@every_decoder
def test_seeds_and_labels_decide_the_picture(draw, decoder):
    request = {"labels": [1, 1, 4], "seeds": [1, 2, 1], "scheduler": decoder}
    first = arrays(draw(**request))
    assert np.array_equal(first, arrays(draw(**request)))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], first[2])
    state = torch.get_rng_state()
    draw(**request)
    assert torch.equal(state, torch.get_rng_state())


def test_the_decoders_differ(draw):
    one, other = (arrays(draw([1], [1], scheduler=decoder)) for decoder in DECODERS)
    assert not np.array_equal(one, other)


def test_the_options_of_the_models_decoder_reach_it(make_pipeline):
    greedy = make_pipeline("tokens", steps=1)
    greedy.scheduler = create_scheduler("HaltonDecoder", "tokens", {"greedy": True})
    one, other = arrays(greedy([1, 1], [1, 2]))
    assert np.array_equal(one, other)  # nothing is drawn
    one, other = arrays(make_pipeline("tokens", steps=1)([1, 1], [1, 2]))
    assert not np.array_equal(one, other)


@every_decoder
@pytest.mark.parametrize("steps", [1, 2, 7, 64])
def test_tokens_are_decided_once_and_all_at_last(draw, decoder, steps):
    seen = calls(draw)
    drawn = arrays(draw([1, 2], [1, 2], steps, scheduler=decoder))
    states = [given[0] for given in seen]
    assert len(states) == steps
    assert bool((states[0] == 16).all())
    masked = [int((state == 16).sum(dim=(1, 2)).unique()) for state in states]
    assert masked == [64, *(64 - count for count in decided_counts("arccos", steps, 64)[:-1])]
    for before, after in pairwise(states):
        assert torch.equal(before[before != 16], after[before != 16])
    assert drawn.shape == (2, 32, 32)


@pytest.mark.parametrize("order_noise", ORDER_NOISE)
def test_equal_confidence_decides_no_more_than_it_should(order_noise):
    """As of a model that knows nothing yet."""
    decoder = ConfidenceDecoder(order_noise=order_noise, greedy=True)
    tokens, steps = torch.full((2, 4, 4), 8), 5
    draws = Draws.of([picture_generator(seed) for seed in (1, 2)], steps, 16, tokens.device)
    states = decoder.decode(lambda *_: torch.zeros(2, 16, 9), tokens, 8, steps, draws)
    counts = [(state.tokens != 8).sum(dim=(1, 2)).tolist() for state in states]
    assert counts == [[count] * 2 for count in decided_counts("arccos", steps, 16)]


@every_decoder
def test_previews_at_every_step(draw, decoder):
    previews = []
    pictures = draw(
        [1, 2], [1, 2], scheduler=decoder, on_step=lambda p: previews.append(p.preview())
    )
    assert len(previews) == 5
    for preview in previews:
        assert (preview.shape, preview.dtype) == ((2, 1, 32, 32), torch.uint8)
    assert np.array_equal(previews[-1][:, 0].numpy(), arrays(pictures))
    assert not torch.equal(previews[0], previews[-1])
    # Looking changes nothing.
    assert np.array_equal(arrays(draw([1, 2], [1, 2], scheduler=decoder)), arrays(pictures))


@pytest.mark.parametrize(("size", "most"), [(32, 64), (16, 16), ((16, 24), 24)])
def test_more_steps_than_tokens_are_refused(draw, size, most):
    assert len(draw([1], [1], most, size=size)) == 1
    with pytest.raises(UsageError, match=f"steps must be from 1 to {most}, got {most + 1}"):
        draw([1], [1], most + 1, size=size)


@every_decoder
@pytest.mark.parametrize("size", [16, (16, 24), (40, 64)])
def test_other_sizes_than_trained(draw, decoder, size):
    height, width = (size, size) if isinstance(size, int) else size
    (picture,) = draw([1], [1], size=size, scheduler=decoder)
    assert (picture.size, picture.mode) == ((width, height), "L")
    with pytest.raises(UsageError, match="multiple of 4"):
        draw([1], [1], size=30)


# Guidance


@every_decoder
def test_guidance_costs_a_second_pass(draw, decoder):
    seen = calls(draw)
    plain = arrays(draw([1, 2], [1, 2], scheduler=decoder))
    assert [len(given[0]) for given in seen] == [2] * 5
    assert [given[1].tolist() for given in seen] == [[1, 2]] * 5
    seen.clear()
    guided = arrays(draw([1, 2], [1, 2], scheduler=decoder, guidance=3.0))
    assert [len(given[0]) for given in seen] == [4] * 5
    assert [given[1].tolist() for given in seen] == [[1, 2, 10, 10]] * 5
    assert not np.array_equal(plain, guided)


def test_guidance_acts_in_its_interval_only(draw):
    seen = calls(draw)  # at noise levels 1, 0.75, 0.5, 0.25 and 0
    draw([1, 2], [1, 2], guidance=3.0, guidance_interval=(0.2, 0.6))
    assert [len(given[0]) for given in seen] == [2, 2, 4, 4, 2]


@pytest.mark.parametrize("schedule", ["constant", "linear"])
@every_decoder
def test_a_schedule_against_its_formula(make_pipeline, schedule, decoder):
    draw = make_pipeline("tokens", steps=5, guidance=4.0, guidance_schedule=schedule)
    draw.scheduler = create_scheduler(decoder, "tokens")
    drawn, weights = arrays(draw([3], [7])), []

    def logits(tokens, progress):
        weights.append(1 + 3 * (progress if schedule == "linear" else 1))
        drop = torch.tensor([False])
        conditional = draw.model(tokens, torch.tensor([3]), drop)
        null = draw.model(tokens, torch.tensor([3]), ~drop)  # MaskGIT's own way to drop a label
        return null + weights[-1] * (conditional - null)

    tokens = torch.full((1, 8, 8), 16)
    draws = Draws.of([picture_generator(7)], 5, 64, tokens.device)
    with torch.no_grad():
        *_, last = draw.scheduler.decode(logits, tokens, 16, 5, draws)
    if schedule == "linear":
        assert weights == [1.0, 1.75, 2.5, 3.25, 4.0]
    assert np.array_equal(draw.autoencoder.decode(last.tokens)[:, 0].numpy(), drawn)


def test_a_linear_schedule_begins_without_guidance(make_pipeline):
    draw = make_pipeline("tokens", steps=5, guidance=4.0, guidance_schedule="linear")
    seen = calls(draw)
    draw([1, 2], [1, 2])
    assert [len(given[0]) for given in seen] == [2, 4, 4, 4, 4]


def test_a_guide(draw, make_pipeline, make_token_model):
    worse = make_pipeline("tokens", make_token_model(seed=1, hidden_size=8))
    own, its = calls(draw), calls(worse)
    request = {"labels": [1, 2], "seeds": [1, 2]}
    guided = arrays(draw(**request, guidance=2.0, guide=worse))
    for given, asked in zip(own, its, strict=True):
        assert torch.equal(given[0], asked[0]) and asked[1].tolist() == [1, 2]
    plain = arrays(draw(**request))
    assert not np.array_equal(guided, plain)
    assert not np.array_equal(guided, arrays(draw(**request, guidance=2.0)))
    # A model that guides itself changes nothing.
    assert np.array_equal(
        arrays(draw(**request, guidance=2.0, guide=make_pipeline("tokens"))), plain
    )


def test_guides_of_other_tokens_are_refused(draw, make_pipeline, make_tokenizer, make_token_model):
    other = make_pipeline("tokens", autoencoder=make_tokenizer(seed=1))
    fewer = make_pipeline("tokens", make_token_model(codebook_size=8), make_tokenizer(0, 8))
    for guide, words in (
        (other, "its codebook"),
        (fewer, "its codebook"),
        (make_pipeline(), "its prediction"),
    ):
        with pytest.raises(UsageError, match=words):
            draw([1], [1], guidance=2.0, guide=guide)


def test_a_tokenizer_is_no_guide(draw, make_tokenizer):
    from gensynth.pipelines.tokenizer import TokenizerPipeline

    with pytest.raises(UsageError, match="this is a tokenizer"):
        draw([1], [1], guidance=2.0, guide=TokenizerPipeline(make_tokenizer()))


# The tokenizer


def test_another_number_of_codes_is_refused(make_pipeline, make_tokenizer, make_model):
    with pytest.raises(UsageError, match=r"tokens of 16 codes and .* gives tokens of 8 codes"):
        make_pipeline("tokens", autoencoder=make_tokenizer(codebook_size=8))
    with pytest.raises(UsageError, match=r"works on latents and .* gives tokens of 16 codes"):
        make_pipeline(autoencoder=make_tokenizer())
    latents = make_pipeline().autoencoder
    with pytest.raises(UsageError, match=r"tokens of 16 codes and .* gives latents"):
        make_pipeline("tokens", autoencoder=latents)


@pytest.mark.parametrize("half", [False, True])
def test_a_folder_holds_the_whole_pipeline(draw, half, tmp_path):
    draw.scheduler = create_scheduler("ConfidenceDecoder", "tokens", {"noise_temperature": 2.0})
    drawn = arrays(draw([1, 2], [3, 4], guidance=1.5))
    if half:
        draw.to(torch.float16)
    draw.save_pretrained(tmp_path)
    loaded = gensynth.load(tmp_path, device="cpu")
    assert loaded.classes == draw.classes
    assert loaded.scheduler.config.noise_temperature == 2.0
    assert loaded.config.codebook == loaded.autoencoder.fingerprint()
    assert loaded.model.dtype == loaded.autoencoder.dtype == torch.float32
    again = arrays(loaded([1, 2], [3, 4], guidance=1.5))
    assert again.shape == drawn.shape
    assert half or np.array_equal(again, drawn)
    loaded.save_pretrained(tmp_path / "again")
    assert np.array_equal(
        arrays(gensynth.load(tmp_path / "again")([1, 2], [3, 4], guidance=1.5)), again
    )


def test_a_folder_with_another_tokenizer_says_so(draw, make_tokenizer, tmp_path):
    draw.save_pretrained(tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "autoencoder")
    make_tokenizer(seed=1).save_pretrained(tmp_path / "model" / "autoencoder")
    with pytest.raises(CorruptError, match="as many codes as the model's, but other ones") as error:
        gensynth.load(tmp_path / "model")
    assert "damaged" not in str(error.value)


def test_editing_works_in_half_precision(make_pipeline):
    pipeline = make_pipeline("tokens", fit="pad").to(torch.bfloat16)
    image = Image.fromarray(np.arange(784, dtype=np.uint8).reshape(28, 28))
    mask = Image.new("L", (28, 28))
    mask.paste(255, (14, 0, 28, 28))
    (edited,) = pipeline.edit(image, 1, mask, [0], guidance=2.0)
    assert np.array_equal(np.asarray(edited)[:, :14], np.asarray(image)[:, :14])


def test_the_published_confidence_sampler_needs_two_steps(draw):
    options = {"as_published": True}
    with pytest.raises(UsageError, match="as_published needs 2 steps or more"):
        draw([1], [1], steps=1, scheduler="ConfidenceDecoder", scheduler_options=options)
    draw([1], [1], steps=2, scheduler="ConfidenceDecoder", scheduler_options=options)
