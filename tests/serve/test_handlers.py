"""What the page offers suits the model that is chosen."""

from types import SimpleNamespace

import pytest

from gensynth.conditions import Nothing
from gensynth.pipelines.drawing import DrawingPipeline
from gensynth.pipelines.loading import load
from gensynth.pretrained import PRETRAINED
from gensynth_serve.pages.handlers import CHOSEN, Handlers
from gensynth_serve.queue.engine import Engine, most_steps
from gensynth_serve.queue.order import MAX_STEPS, Order


@pytest.fixture(scope="module")
def handlers(tmp_path_factory):
    pipelines = {name: load(name, device="cpu") for name in PRETRAINED}
    engine = Engine(pipelines, tmp_path_factory.mktemp("pictures"))
    yield Handlers(engine)
    assert engine.stop(5.0)


@pytest.mark.parametrize(
    ("model", "steps", "most"), [("dico-nano-fashion", 30, MAX_STEPS), ("maskgit-fashion", 16, 64)]
)
def test_steps_go_as_far_as_the_model(handlers, model, steps, most):
    slider = handlers.choose_model(model)[2]
    assert (slider.value, slider.maximum) == (steps, most)


def test_nothing_chosen_is_for_models_with_nothing_to_choose(handlers):
    assert handlers.unchosen("maskgit-fashion") == handlers.unchosen("../x") == []
    free = DrawingPipeline(**handlers.engine.pipelines["dico-nano-fashion"].components)
    free.condition = Nothing()
    beside = Handlers(SimpleNamespace(pipelines={"free": free}))
    assert (beside.choices("free"), beside.unchosen("free")) == ([], [None])
    classes, buttons, _, guidance, *prompts = beside.choose_model("free")
    assert [box["visible"] for box in prompts] == [False, False, False]
    assert (classes.value, classes.visible, buttons.visible) == ([], False, False)
    assert "needs a guide" in guidance.info
    assert beside.all_classes("free") == ([None], 1)


def test_what_the_page_proposes_can_be_ordered(make_pipeline):
    pipeline = make_pipeline()
    pipeline.register_to_config(steps=1000)
    beside = Handlers(SimpleNamespace(pipelines={"many": pipeline}))
    slider = beside.choose_model("many")[2]
    assert slider.value == slider.maximum == 1000 == most_steps(pipeline)
    assert Order("many", [8], 1, 0, slider.value, 1.0, most_steps=most_steps(pipeline))


@pytest.mark.parametrize("model", [None, ["x"], {}, "../x"])
def test_an_odd_model_is_no_model(handlers, model):
    assert handlers.unchosen(model) == []
    assert len(handlers.choose_model(model)) == CHOSEN
