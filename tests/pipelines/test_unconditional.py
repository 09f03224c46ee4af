"""Pictures of a model that knows no condition: drawn, saved, guided by another, made faster."""

import numpy as np
import pytest
import torch
from optimized import tiny_model

import gensynth
from gensynth.autoencoders import PixelAutoencoder
from gensynth.conditions import Nothing
from gensynth.errors import UsageError
from gensynth.pipelines.unconditional import UnconditionalPipeline
from gensynth.samplers.registry import create_scheduler
from gensynth.settings import Settings

KINDS = ["velocity", "epsilon", "tokens"]


def arrays(pictures) -> np.ndarray:
    return np.stack([np.asarray(picture).astype(int) for picture in pictures])


@pytest.fixture
def make(make_token_model, make_tokenizer):
    def make(prediction: str = "velocity", model=None, **settings) -> UnconditionalPipeline:
        if prediction == "tokens":
            model, codec = make_token_model(num_classes=0), make_tokenizer()
        else:
            learns = prediction == "epsilon"
            model = model or tiny_model("DiCo", num_classes=0, learn_sigma=learns)
            codec = PixelAutoencoder(1, 2)
        pipeline = UnconditionalPipeline(
            model,
            create_scheduler(None, prediction),
            codec,
            prediction=prediction,
            condition_kind="none",
            **{"size": 32, "steps": 3, "time_scale": 1000.0, **settings},
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return make


@pytest.mark.parametrize("prediction", KINDS)
def test_a_seed_is_a_picture(make, prediction):
    draw = make(prediction)
    assert isinstance(draw.condition, Nothing)
    seen = []
    together = arrays(draw([1, 2, 3], on_step=seen.append))
    assert together.shape == (3, 32, 32) and [progress.step for progress in seen] == [1, 2, 3]
    assert seen[0].preview().shape == (3, 1, 32, 32)
    assert abs(arrays(draw([2])) - together[1]).max() <= 1
    assert not np.array_equal(together[0], together[1])
    assert np.array_equal(arrays(draw.draw([None] * 3, [1, 2, 3])), together)
    assert arrays(draw([1], size=(16, 24), steps=2)).shape == (1, 16, 24)


@pytest.mark.parametrize("prediction", KINDS)
def test_a_folder_holds_the_whole_pipeline(make, prediction, tmp_path):
    draw = make(prediction)
    draw.save_pretrained(tmp_path)
    assert not (tmp_path / "labels.json").exists()
    loaded = gensynth.load(tmp_path, device="cpu")
    assert type(loaded) is UnconditionalPipeline and isinstance(loaded.condition, Nothing)
    assert loaded.config.condition_kind == "none"
    assert np.array_equal(arrays(loaded([3, 4])), arrays(draw([3, 4])))


@pytest.mark.parametrize("guidance", [0, 0.5, 3.0])
def test_there_is_nothing_to_lead_away_from(make, guidance):
    with pytest.raises(UsageError, match=r"guidance must be 1\.") as caught:
        make()([1], guidance=guidance)
    assert str(caught.value).endswith(".")
    with pytest.raises(UsageError, match="guidance must be 1"):
        make(guidance=guidance).resolve()
    assert len(make()([1], guidance=1)) == 1


def test_it_is_guided_by_a_worse_model(make, make_pipeline):
    draw = make()
    plain = arrays(draw([1, 2]))
    worse = make(model=tiny_model("DiCo", num_classes=0, hidden_size=4))
    assert not np.array_equal(arrays(draw([1, 2], guidance=2.0, guide=worse)), plain)
    assert abs(arrays(draw([1, 2], guidance=3.0, guide=make())) - plain).max() <= 1
    with pytest.raises(UsageError, match="its condition is 'Classes', not "):
        draw([1], guidance=2.0, guide=make_pipeline())
    with pytest.raises(UsageError, match=r"its condition is '\w+', not 'Classes'"):
        make_pipeline()([1], [1], guidance=2.0, guide=draw)


def test_a_class_is_refused(make):
    with pytest.raises(UsageError, match="draws without a class or prompt"):
        make().condition.item("Bag")
    with pytest.raises(UsageError, match="0 seeds"):
        make()([])


def test_the_model_is_told_no_label(make):
    draw, told = make(), []
    draw.model.register_forward_pre_hook(
        lambda module, given, keywords: told.append((len(given), keywords)), with_kwargs=True
    )
    draw([1])
    assert told == [(2, {})] * 3


@pytest.mark.parametrize("prediction", KINDS)
def test_optimized_it_draws_the_same(make, prediction):
    plain, optimized = make(prediction), make(prediction)
    said = optimized.optimize(tables=True)
    assert any(sentence.startswith("tables of modulations") for sentence in said)
    assert abs(arrays(optimized([1, 2])) - arrays(plain([1, 2]))).max() <= 1


def test_a_showcase_needs_no_classes(make):
    draw = make()
    pictures = draw.showcase(3, None, lambda progress: None)
    assert np.array_equal(arrays(pictures), arrays(draw([0, 1, 2])))


def test_it_is_what_a_model_with_classes_draws_without_any(make, make_pipeline):
    """The same weights, of which the class table holds only the last row."""
    with_classes = make_pipeline()
    state = with_classes.model.state_dict()
    model = tiny_model("DiCo", num_classes=0, learn_sigma=False)
    for name, weight in model.state_dict().items():
        if weight.shape != state[name].shape:
            state[name] = state[name][-1:]
    model.load_state_dict(state)
    zero = with_classes([3, 3], [1, 2], guidance=0)
    assert abs(arrays(make(model=model)([1, 2])) - arrays(zero)).max() <= 1
    walk = make(model=model).walk([None], [1], make(model=model).resolve(Settings(steps=4)))
    with torch.inference_mode():
        assert [(step.index, step.steps) for step in walk] == [(k, 4) for k in (1, 2, 3, 4)]
