"""What is read from sources before an import is what the import brings."""

import pytest

import gensynth_benchmarks.evaluation
from gensynth.convert.drawing import DEFAULT_VAE
from gensynth.convert.tokens import TOKENIZER
from gensynth.errors import UsageError
from gensynth.metrics.extractors import EXTRACTORS
from gensynth.metrics.extractors.inception_features import PUBLISHED
from gensynth.models import MODELS, constructor_keywords
from gensynth.models import known as known_models
from gensynth.models.layers.mixers import MIXERS
from gensynth.models.presets import PRESETS
from gensynth.ops import OPERATORS
from gensynth.pipelines import PIPELINES
from gensynth.pipelines.editing.canvas import ANCHORS
from gensynth.samplers import known as known_samplers
from gensynth.samplers.registry import SAMPLERS, fitting, predictions
from gensynth.system import outline
from gensynth.training.session.output import EXPERIMENT


@pytest.mark.parametrize("name", MODELS)
def test_of_a_model(monkeypatch, name):
    monkeypatch.setattr(known_models, "_imported", lambda: None)  # as before torch is there
    found, own = known_models.known(name.upper()), MODELS[name][0]
    assert found.keywords == constructor_keywords(name)
    assert found.works_on == own.works_on
    assert found.draws == getattr(own, "draws", True)
    of_text = known_models.TEXT if "text" in found.keywords else ()
    assert found.takes == (*getattr(own, "takes", ("class_labels",)), *of_text)


def test_of_all_models():
    assert list(PRESETS) == list(MODELS)
    assert all(preset.keywords == MODELS[name][1] for name, preset in PRESETS.items())


def test_a_model_of_your_own_is_known_too(monkeypatch):
    monkeypatch.setitem(MODELS, "Own-S", MODELS["DiCo-nano"])
    assert "Own-S" in known_models.model_names()
    assert known_models.known("own-s").keywords == constructor_keywords("DiCo-nano")


@pytest.mark.parametrize("path", ["linear", "gvp", "vp"])
@pytest.mark.parametrize("prediction", predictions())
def test_of_schedulers(monkeypatch, prediction, path):
    monkeypatch.setattr(known_samplers, "sys", type("", (), {"modules": {}}))
    for name in [*SAMPLERS, "Nope"]:
        try:
            known_samplers.check_scheduler(name, prediction, {}, path)
            fits = True
        except UsageError as error:
            fits = False
            assert f"Fitting: {', '.join(fitting(prediction, path))}." in str(error)
        assert fits == (name in fitting(prediction, path)), name


def test_of_tables_and_constants():
    module = "gensynth.metrics.extractors"
    assert list(outline.keys(module, "EXTRACTORS")) == list(EXTRACTORS)
    assert list(outline.keys("gensynth.models.layers.mixers", "MIXERS")) == list(MIXERS)
    assert list(outline.keys("gensynth.pipelines.table", "PIPELINES")) == list(PIPELINES)
    assert list(outline.keys("gensynth.pipelines.editing.canvas", "ANCHORS")) == list(ANCHORS)
    assert outline.literal("gensynth.ops.operators", "NAMES") == tuple(OPERATORS)
    assert outline.literal("gensynth.convert.drawing", "DEFAULT_VAE") == DEFAULT_VAE
    assert outline.literal("gensynth.convert.tokens", "TOKENIZER") == TOKENIZER
    assert outline.literal("gensynth.training.session.output", "EXPERIMENT") == EXPERIMENT
    parts = outline.literal("gensynth_benchmarks.evaluation", "PARTS")
    assert parts == gensynth_benchmarks.evaluation.PARTS
    call = outline.call(f"{module}.inception_features", "PUBLISHED")
    assert outline.ast.literal_eval(call["names"]) == PUBLISHED.names
    assert outline.ast.literal_eval(call["url"]) == PUBLISHED.url
