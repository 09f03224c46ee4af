"""What the page offers suits the model that is chosen."""

import pytest

from gensynth.pipelines.loading import load
from gensynth.pretrained import PRETRAINED
from gensynth_serve.pages.handlers import Handlers
from gensynth_serve.queue.engine import Engine
from gensynth_serve.queue.order import MAX_STEPS


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
    _, slider, _ = handlers.choose_model(model)
    assert (slider.value, slider.maximum) == (steps, most)
