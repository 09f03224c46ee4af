"""What every backbone promises, whatever its token mixer. Models of tokens: test_maskgit.py too."""

import pytest
import torch
import torch._dynamo.testing
from small_models import (
    SMALL,
    SMALL_TOKENS,
    TEXT_VARIANTS,
    TOKEN_VARIANTS,
    TRANSFORMER,
    VARIANTS,
    fresh,
    inputs,
    inputs_of,
    small,
    step_random,
    text_of,
)

from gensynth.errors import UsageError
from gensynth.models import MODELS, constructor_keywords, create_model
from gensynth.models.layers.mixers import MIXERS

every = pytest.mark.parametrize("variant", VARIANTS)
every_trained_one = pytest.mark.parametrize("variant", [*VARIANTS, *TOKEN_VARIANTS])
# also of texts
every_one = pytest.mark.parametrize("variant", [*VARIANTS, *TOKEN_VARIANTS, *TEXT_VARIANTS])


def test_every_class_is_here():
    """Tokenizers have their own contract, with the other autoencoders."""
    for kinds, works_on in ((SMALL, "latents"), (SMALL_TOKENS, "tokens")):
        classes = {entry[0] for entry in MODELS.values()}
        drawing = [one for one in classes if one.draws]
        assert set(kinds) == {one.__name__ for one in drawing if one.works_on == works_on}


@every
@pytest.mark.parametrize("learn_sigma", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (4, 12), (16, 8)])
def test_output_has_the_size_of_the_input(variant, learn_sigma, size):
    model = small(variant, learn_sigma=learn_sigma)
    output = model(*inputs(2, *size))
    assert output.shape == (2, 8 if learn_sigma else 4, *size)


@every
def test_every_input_and_parameter_matters(variant):
    model = small(variant)
    sample, timestep, labels = inputs()
    sample.requires_grad_()
    output = model(sample, timestep, labels)
    output.square().sum().backward()
    assert sample.grad.abs().amin(dim=(1, 2, 3)).min() >= 0 and sample.grad.abs().max() > 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name
    assert not torch.equal(output, model(sample, timestep + 0.1, labels))
    assert not torch.equal(output, model(sample, timestep, labels.flip(0)))


@every_one
def test_a_row_does_not_depend_on_its_batch(variant):
    model, given, text = small(variant), inputs_of(variant), text_of(variant)
    with torch.inference_mode():
        together = model(*given, **text)
        of_one = {name: tensor[1:2] for name, tensor in text.items()}
        alone = model(*(tensor[1:2] for tensor in given), **of_one)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("one", [torch.tensor(0.5), torch.tensor(7), 0.5, 7], ids=repr)
def test_a_timestep_for_the_whole_batch(name, one):
    """As diffusers' schedulers have it: a number or a 0-d tensor."""
    model = small(name)
    sample, _, labels = inputs()
    each = torch.full((3,), float(one))
    assert torch.equal(model(sample, one, labels), model(sample, each, labels))
    assert torch.equal(model(sample, one), model(sample, each))


def null_labels(model) -> torch.Tensor:
    return torch.full((3,), model.config.num_classes)


def table_of(model) -> list[torch.Tensor]:
    """The weights of the class tables."""
    tables = [p for name, p in model.named_parameters() if "class_embedder" in name and p.ndim == 2]
    return [table for table in tables if len(table) == model.config.num_classes + 1]


@every_trained_one
def test_no_label_is_the_null_label(variant):
    model = small(variant)
    sample, time = inputs_of(variant)[:2]
    null = {"class_labels": null_labels(model)}
    with torch.inference_mode():
        expected = model.predict(sample, time, null)
        assert torch.equal(model.predict(sample, time, {}), expected)
        given = (sample,) if variant in TOKEN_VARIANTS else (sample, time)
        assert torch.equal(model(*given), expected)
        assert torch.equal(model(*given, class_labels=None), expected)
        some = (null_labels(model) + torch.arange(3)) % 6  # 5, 0, 1
        other = model.predict(sample, time, {"class_labels": some})
        torch.testing.assert_close(other[0], expected[0], atol=1e-5, rtol=1e-5)
        assert (other[1:] - expected[1:]).flatten(1).abs().amax(dim=1).all()


@every_trained_one
def test_predict_takes_what_embed_gives(variant):
    model = small(variant)
    sample, time, labels = inputs_of(variant)
    if variant in TOKEN_VARIANTS:
        time = time.float()  # which it is not told
    told = {} if variant != "DiT-sized" else {"crops": torch.tensor([[8.0, 8.0, 0.0, 0.0]] * 3)}
    for conditions in ({"class_labels": labels.long() % 6}, {}):
        embedded = model.embed(time, **conditions, **told)
        assert all(vector.shape[0] == 3 for vector in embedded)
        expected = model.predict(sample, time, conditions)
        assert torch.equal(model.predict(sample, time, {}, embedded), expected)


@every_trained_one
def test_a_model_without_classes_knows_only_the_null_label(variant):
    """Its class table has one row; with all others left out, a model with classes is the same."""
    model, sample, time = small(variant, num_classes=0), *inputs_of(variant)[:2]
    assert [len(table) for table in table_of(model)] == [1] * len(table_of(model)) != []
    output = model.predict(sample, time, {})
    assert output.isfinite().all() and output.std() > 0
    zeros = {"class_labels": torch.zeros(3, dtype=torch.long)}
    assert torch.equal(model.predict(sample, time, zeros), output)
    with pytest.raises(IndexError):
        model.predict(sample, time, {"class_labels": torch.ones(3, dtype=torch.long)})
    output.square().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name
    with_classes = small(variant)
    state = model.state_dict()
    for name, weight in with_classes.state_dict().items():
        if weight.shape != state[name].shape:  # the class tables
            state[name] = torch.cat([torch.full_like(weight[1:], torch.nan), state[name]])
    with_classes.load_state_dict(state)
    torch.testing.assert_close(with_classes.predict(sample, time, {}), output)


@pytest.mark.parametrize(
    ("name", "keywords", "returns", "varies"),
    [
        ("DiT", {"learn_sigma": True}, True, False),
        ("DiT", {"learn_sigma": True, "discard_sigma": True}, False, False),
        ("DiT", {"learn_sigma": False}, False, False),
        ("DiC", {"learn_sigma": True}, True, False),
        ("DiCo", {"learn_sigma": False}, False, False),
        ("MDTv2", {"learn_sigma": True}, True, False),
        ("MDTv2", {"learn_sigma": False, "mask_ratio": 0.3}, False, True),
    ],
)
def test_what_a_backbone_says_of_itself(name, keywords, returns, varies):
    model = small(name, **keywords)
    assert (model.returns_variance, model.varying_tokens) == (returns, varies)
    assert (model.works_on, model.takes) == ("latents", ("class_labels",))
    assert model(*inputs()).shape[1] == (8 if returns else 4)
    assert len(model.training_passes(step_random(), 8, 8)) == 1 + varies


@pytest.mark.parametrize("variant", [*SMALL, *TOKEN_VARIANTS])
def test_one_pass_without_keywords_unless_a_model_asks_for_more(variant):
    model = small(variant)
    assert model.training_passes(step_random(), 8, 8) == [{}]
    assert not model.varying_tokens


@every_one
def test_save_and_load(variant, tmp_path):
    model, given, text = small(variant), inputs_of(variant), text_of(variant)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    torch.testing.assert_close(again(*given, **text), model(*given, **text), atol=0, rtol=0)


@every_one
def test_gradient_checkpointing_changes_nothing(variant):
    model, given, text = small(variant).train(), inputs_of(variant), text_of(variant)
    model(*given, **text).square().sum().backward()
    plain = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    model.enable_gradient_checkpointing()
    model(*given, **text).square().sum().backward()
    again = [p.grad for p in model.parameters() if p.grad is not None]
    for gradient, expected in zip(again, plain, strict=True):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("variant", [*VARIANTS, *(v for v in TEXT_VARIANTS if v[:4] != "Mask")])
def test_a_fresh_model_predicts_zero(variant):
    """adaLN-Zero: the output layer starts at zero."""
    assert fresh(variant)(*inputs_of(variant), **text_of(variant)).abs().max() == 0


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param("MDTv2", marks=pytest.mark.slow),
        pytest.param("DiC", marks=pytest.mark.slow),
        pytest.param("DiCo-text", marks=pytest.mark.slow),
        *("DiCo", "DiT", "MaskGIT", "DiT-linear", "DiT-local", "DiT-pixart", "MaskGIT-text"),
        *(
            pytest.param(f"DiT-{mixer}", marks=pytest.mark.slow)
            for mixer in MIXERS
            if mixer not in ("softmax", "linear", "local")
        ),
    ],
)
def test_compiles_whole_once_for_any_batch_and_once_for_another_size(variant):
    """One graph without breaks; a new batch size reuses it, a new resolution costs one more."""
    counter = torch._dynamo.testing.CompileCounter()
    torch._dynamo.reset()
    depth = {} if variant.split("-")[0] != "DiT" else {"depth": 1}
    model = torch.compile(small(variant, **depth), fullgraph=True, backend=counter)

    def run(*size: int) -> None:
        given, text = inputs_of(variant, *size), text_of(variant, size[0])
        for tensor in (*given, *text.values()):
            torch._dynamo.mark_dynamic(tensor, 0)
        model(*given, **text)

    with torch.no_grad():
        run(2, 8, 8)
        assert counter.frame_count == 1
        run(3, 8, 8)
        assert counter.frame_count == 1
        run(2, 12, 8)
        assert counter.frame_count <= 2


@pytest.mark.parametrize("name, multiple", [("DiCo", 4), ("DiC", 4), ("DiT", 2), ("MDTv2", 2)])
def test_impossible_size_is_refused(name, multiple):
    with pytest.raises(ValueError, match=f"{name} needs .* divisible by {multiple}, got 5x8"):
        small(name)(*inputs(2, 5, 8))


@pytest.mark.parametrize(
    "name, keywords, message",
    [
        ("DiT", {"mixer": "soft"}, "unknown mixer 'soft'; known: softmax, linear"),
        ("DiT", {"window": 3}, "mixer 'softmax' has no option 'window' .it is for: local"),
        ("DiT", {"num_heads": 3}, "hidden_size 32 is not a multiple of num_heads 3"),
        ("DiT", {"positions": "rop"}, "unknown positions 'rop'; known: sincos, rope, none"),
        ("DiT", {"position_range": 3}, "position_range must be at least the 4 tokens"),
        ("DiT", {"patch_size": 3}, "input_size 8x8 is not a multiple of patch_size 3"),
        ("MDTv2", {"decode_layer": 1}, "decode_layer must leave an even number of the 4 blocks"),
        ("MDTv2", {"mask_ratio": 0.9}, "mask_ratio must be from 0 to below 0.8, got 0.9"),
        ("DiC", {"depth": [1, 1, 1, 1, 2]}, "the same on both sides"),
        ("DiT", {"num_heads": 0}, "num_heads must be a whole number from 1, got 0"),
        ("DiT", {"patch_size": 0}, "patch_size must be a whole number from 1, got 0"),
        ("DiT", {"hidden_size": "big"}, "hidden_size must be a whole number from 1, got 'big'"),
        ("DiT", {"mlp_ratio": -1}, "mlp_ratio must be a number above 0, got -1"),
        ("DiT", {"input_size": [16, 16, 16]}, "input_size must be one number or a height"),
        ("DiT", {"mixer": "local", "window": 4.5}, "window must be a whole number from 1, got 4.5"),
        ("DiT", {"mixer": "rala", "hidden_size": 44}, "a width divisible by 4, got 22"),
        ("DiT", {"positions": "none", "position_range": 9}, "needs positions: sincos or rope"),
        ("DiCo", {"num_classes": -1}, "num_classes must be a whole number from 1, got -1"),
        ("DiC", {"num_classes": False}, "num_classes must be a whole number from 1, got False"),
        *(
            (
                name,
                {"num_classes": 0, "null_label": False},
                "num_classes must be a whole number from 1, got 0",
            )
            for name in SMALL
        ),
        ("DiC", {"hidden_size": 14}, "hidden_size 14 is not possible"),
    ],
)
def test_impossible_keywords_are_refused(name, keywords, message):
    with pytest.raises(ValueError, match=message):
        fresh(name, **keywords)


def test_names_and_keywords():
    with pytest.raises(UsageError, match="Did you mean 'DiCo-nano'"):
        create_model("DiCo-nanno")
    with pytest.raises(TypeError, match=r"no keyword 'hidden_sise'.*'hidden_size'"):
        create_model("DiCo-nano", hidden_sise=8)
    assert "hidden_size" in constructor_keywords("dico-s")


@pytest.mark.parametrize("mixer", sorted(MIXERS))
def test_masked_pass(mixer):
    """A training step of MDTv2 has two passes; together they reach every parameter."""
    model = small("MDTv2", mixer=mixer, mask_ratio=0.3).train()
    passes = model.training_passes(step_random(), 8, 8)
    assert [list(keywords) for keywords in passes] == [[], ["kept"]]
    kept = passes[1]["kept"]
    assert 8 <= kept.shape[1] <= 11  # 16 tokens, of which 30 to 50 % are left out
    assert all(len(set(row.tolist())) == kept.shape[1] for row in kept)
    for keywords in passes:
        model(*inputs(), **keywords).square().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("mixer", sorted(MIXERS))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_masked_pass_in_half_precision(mixer, dtype):
    model = small("MDTv2", mixer=mixer, mask_ratio=0.3)
    keywords = model.training_passes(step_random(), 8, 8)[1]
    expected = model(*inputs(), **keywords)
    with torch.autocast("cpu", dtype):
        output = model(*inputs(), **keywords)
    sample, timestep, labels = inputs()
    halved = model.to(dtype)(sample.to(dtype), timestep, labels, **keywords)
    for result in (output, halved):
        assert (result.float() - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("mixer", sorted(MIXERS))
def test_masked_tokens_are_not_seen(mixer):
    """What is under the mask does not reach the encoder, for any mixer."""
    model = small("MDTv2", mixer=mixer, mask_ratio=0.3)
    kept = torch.tensor([[0, 5, 6, 9, 10, 15, 3, 12, 2]])
    tokens = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(0))
    condition = torch.zeros(1, 32)
    grid = grid_of(model)
    before = model.encode(tokens, condition, grid, kept)
    hidden = torch.ones(16, dtype=torch.bool).scatter(0, kept[0], False)
    tokens[:, hidden] += 1
    torch.testing.assert_close(model.encode(tokens, condition, grid, kept), before)
    every_token = torch.arange(16)[None]
    torch.testing.assert_close(
        model.encode(tokens, condition, grid, every_token),
        model.encode(tokens, condition, grid, None),
        atol=1e-5,
        rtol=1e-5,
    )


def grid_of(model):
    from gensynth.models.layers.grid import Grid
    from gensynth.models.layers.mixers.softmax import relative_index

    rows, columns = model.token_positions.along(4, 4, torch.device("cpu"), None)
    tables = model.token_positions.tables(rows, columns)
    return Grid(4, 4, tables, relative_index(4, 4))


@pytest.mark.parametrize("variant", ["DiT-random", "MDTv2-random-rope"])
def test_random_positions(variant):
    """Drawn anew each step, in order, the same in every row; evenly spread when sampling."""
    model = small(variant)
    first = model.training_passes(step_random(0), 8, 8)[0]["position_ids"]
    again = model.training_passes(step_random(0), 8, 8)[0]["position_ids"]
    other = model.training_passes(step_random(1), 8, 8)[0]["position_ids"]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    for ids in (*first, *other):
        assert (ids.diff() > 0).all() and ids.min() >= 0 and ids.max() <= 15
    rows, columns = model.token_positions.along(4, 8, torch.device("cpu"), None)
    assert rows.tolist() == [0, 5, 10, 15] and len(columns) == 8 and columns[-1] == 15
    sample = inputs()
    given = tuple(model.token_positions.along(4, 4, torch.device("cpu"), None))
    torch.testing.assert_close(model(*sample, position_ids=given), model(*sample))
    assert not torch.equal(model(*sample, position_ids=first), model(*sample))
    with pytest.raises(ValueError, match="17 tokens along an axis, but position_range is 16"):
        model(*inputs(1, 34, 8))


def test_size_conditioning():
    model = small("DiT-sized")
    whole = torch.tensor([[8.0, 8.0, 0.0, 0.0]]).expand(3, 4)
    torch.testing.assert_close(model(*inputs(), crops=whole), model(*inputs()))
    cropped = torch.tensor([[12.0, 12.0, 2.0, 4.0]]).expand(3, 4)
    assert not torch.equal(model(*inputs(), crops=cropped), model(*inputs()))


@pytest.mark.parametrize("size", ["nano", "S"])
def test_sit_makes_variances_and_throws_them_away(size):
    keywords = {**TRANSFORMER, "depth": 1, "num_classes": 5}
    sit, dit = (create_model(f"{name}-{size}/2", **keywords) for name in ("SiT", "DiT"))
    dit.load_state_dict(sit.state_dict())
    assert torch.equal(sit(*inputs()), dit(*inputs())[:, :4])


@every_one
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(variant, dtype):
    """Whole models in half precision, and autocast: near the float32 output, gradients finite."""
    model = small(variant)
    sample, *others = inputs_of(variant)
    text = text_of(variant)
    expected = model(sample, *others, **text)
    scale = expected.abs().max()
    if dtype is torch.bfloat16:
        with torch.autocast("cpu", dtype):
            output = model(sample, *others, **text)
        assert (output.float() - expected).abs().max() < 0.05 * scale
        output.float().square().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    sample = sample.to(dtype) if sample.is_floating_point() else sample
    halved = model.to(dtype)(sample, *others, **text)
    assert halved.dtype == dtype
    assert (halved.float() - expected).abs().max() < 0.05 * scale
