"""What is particular to models of texts; the rest of their contract is in test_models.py."""

import pytest
import torch
from small_models import (
    OWN_TEXT,
    TEXT,
    TEXT_VARIANTS,
    fresh,
    inputs_of,
    small,
    step_random,
    text_of,
)
from transformers import CLIPTextModel

from gensynth.models import create_model, example_inputs, example_text

every = pytest.mark.parametrize("variant", TEXT_VARIANTS)


def changed(text, row=0, word=None):
    """The texts with one word of a row changed, or its summary."""
    text = {name: tensor.clone() for name, tensor in text.items()}
    if word is None:
        text["pooled_projections"][row] += 1
    elif "input_ids" in text:
        text["input_ids"][row, word] = 4 + (text["input_ids"][row, word] - 3) % 16
    else:
        text["encoder_hidden_states"][row, word] += 1
    return text


@every
def test_every_word_parameter_and_summary_matters(variant):
    model, given, text = small(variant), inputs_of(variant), text_of(variant)
    output = model(*given, **text)
    output.square().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name
    settings = model.config.text
    different = []
    if settings["cross"]:
        different.append(changed(text, word=1))
    if "pooled_projections" in text:
        different.append(changed(text))
    for other in different:
        apart = (model(*given, **other) - output).flatten(1).abs().amax(dim=1)
        assert apart[0] > 2e-5 and apart[1:].max() == 0  # of the one picture


@every
def test_padding_is_not_seen(variant):
    """The first text has three words; what stands behind them is nothing."""
    model, given, text = small(variant), inputs_of(variant), text_of(variant)
    if "input_ids" in text:
        pytest.skip("its encoder's own mask hides them: what stands there has another output")
    other = changed(changed(text, word=3), word=5)
    with torch.no_grad():
        assert torch.equal(model(*given, **other), model(*given, **text))
        shorter = {n: t[:, :5] if n.startswith("encoder_") else t for n, t in text.items()}
        torch.testing.assert_close(
            model(*given, **shorter), model(*given, **text), atol=1e-5, rtol=1e-5
        )


@every
@pytest.mark.parametrize("size", [(8, 8), (4, 12), (16, 8)])
def test_output_has_the_size_of_the_input(variant, size):
    model = small(variant)
    shape = model(*inputs_of(variant, 2, *size), **text_of(variant, 2)).shape
    assert shape == ((2, size[0] * size[1], 31) if model.works_on == "tokens" else (2, 8, *size))


@pytest.mark.parametrize("variant", ["DiCo-own-text", "MaskGIT-own-text"])
def test_an_encoder_of_its_own_is_transformers_clip_model(variant):
    """With the same weights; and what was encoded once draws the same."""
    model, given, text = small(variant), inputs_of(variant), text_of(variant)
    encoder = CLIPTextModel(model.text_input.encoder.config).eval()
    encoder.load_state_dict(model.text_input.encoder.state_dict())
    with torch.no_grad():
        found = encoder(input_ids=text["input_ids"], attention_mask=text["attention_mask"].long())
        encoded = model.encoded(text)
        assert set(encoded) == {
            "encoder_hidden_states",
            "encoder_attention_mask",
            "pooled_projections",
        }
        assert torch.equal(encoded["encoder_hidden_states"], found.last_hidden_state)
        assert torch.equal(encoded["pooled_projections"], found.pooler_output)
        assert torch.equal(encoded["encoder_attention_mask"], text["attention_mask"])
        last = text["attention_mask"].sum(1) - 1  # the summary is that of the end of the text
        at_end = found.last_hidden_state[torch.arange(3), last]
        assert torch.equal(found.pooler_output, at_end)
        assert torch.equal(model(*given, **encoded), model(*given, **text))
        assert model.encoded(encoded) == encoded


@every
def test_words_begin_without_an_effect(variant):
    """Cross-attention starts at zero: only the summary acts at first (PixArt-alpha)."""
    model = fresh(variant)
    if model.works_on == "tokens":
        pytest.skip("its gates start at zero: nothing in the blocks acts")
    for parameter in (*model.final_layer.parameters(),):
        torch.nn.init.normal_(parameter)
    given, text = inputs_of(variant), model.encoded(text_of(variant))
    with torch.no_grad():
        output = model(*given, **text)
        assert torch.equal(model(*given, **changed(text, word=1)), output)


@pytest.mark.parametrize("variant", ["MDTv2-text", "MDTv2-words"])
def test_masked_passes_see_the_words(variant):
    model = small(variant, mask_ratio=0.3).train()
    for keywords in model.training_passes(step_random(), 8, 8):
        model(*inputs_of(variant), **text_of(variant), **keywords).square().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name
    with torch.no_grad():
        outputs = [
            model(*inputs_of(variant), **told, **keywords)
            for told in (text_of(variant), changed(text_of(variant), word=2))
        ]
    assert (outputs[0] - outputs[1])[0].abs().max() > 1e-4


@every
def test_examples_fit(variant):
    model = small(variant)
    given = example_inputs(model, 8, 8), example_text(model)
    assert model(*given[0], **given[1]).isfinite().all()


@every
def test_what_is_not_there_or_not_known_is_refused(variant):
    model, given, text = small(variant), inputs_of(variant), text_of(variant)
    with pytest.raises(ValueError, match="a model of texts needs encoder_hidden_states"):
        model(*given)
    for missing in ("encoder_hidden_states", "pooled_projections"):
        told = model.encoded(text)
        needed = "cross" if missing == "encoder_hidden_states" else "pooled_width"
        if model.config.text[needed]:
            del told[missing]
            with pytest.raises(ValueError, match="a model of texts needs encoder_hidden_states"):
                model(*given, **told)
    with pytest.raises(ValueError, match="takes no class_labels: it is one of texts"):
        model(*given, class_labels=torch.tensor([0, 1, 2]), **text)
    if model.config.text["encoder"] is None:
        ids = {"input_ids": torch.ones(3, 6).long(), "attention_mask": torch.ones(3, 6).bool()}
        with pytest.raises(ValueError, match="no text encoder; give encoder_hidden_states"):
            model(*given, **ids)


@pytest.mark.parametrize("name", ["DiC", "DiCo", "DiT", "MDTv2", "MaskGIT"])
def test_a_model_of_classes_takes_no_text(name):
    with pytest.raises(ValueError, match="this model takes no encoder_hidden_states"):
        small(name)(*inputs_of(name), encoder_hidden_states=torch.zeros(3, 6, 12))


def test_a_text_is_not_dropped_as_a_label_is():
    text = text_of("MaskGIT-text")
    with pytest.raises(ValueError, match="dropped by giving the empty one, not by drop_label"):
        dropped = torch.tensor([True, False, False])
        small("MaskGIT-text")(*inputs_of("MaskGIT-text"), drop_label=dropped, **text)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("DiCo-nano", {"width": 8}, "text must have width, pooled_width, length, cross, encoder"),
        ("DiC-nano", {**TEXT, "width": 0}, "text_width must be a whole number from 1, got 0"),
        ("DiT-nano/2", {**TEXT, "cross": False, "pooled_width": 0}, "neither cross nor a pooled"),
        ("MaskGIT-nano", {**TEXT, "pooled_width": 0}, "MaskGIT is not told a time"),
        (
            "MDTv2-nano/2",
            {**OWN_TEXT, "encoder": {"vocab_size": 20, "layers": 0, "heads": 2}},
            "layers must be a whole number from 1, got 0",
        ),
    ],
)
def test_impossible_texts_are_refused(name, text, message):
    with pytest.raises(ValueError, match=message):
        create_model(name, text=text)
