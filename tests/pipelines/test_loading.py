import json
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import gensynth
from gensynth.errors import CorruptError, InputError, RefusedError
from gensynth.pipelines.loading import resolve

WEIGHTS = Path("model") / "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tiny_model_folder, tmp_path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "copy"))


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_model_folder(folder):
    assert resolve(folder) == folder
    assert gensynth.load(folder).classes[0] == "Ant"


def test_a_finished_run(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run" / "model")
    shutil.copytree(folder, tmp_path / "run" / "checkpoints" / "step-00000009" / "model")
    assert resolve(tmp_path / "run") == tmp_path / "run" / "model"


def test_an_unfinished_run_gives_its_newest_checkpoint(folder, tmp_path):
    checkpoints = tmp_path / "run" / "checkpoints"
    for name in ("step-00000009", "step-00000100", "step-00000200.tmp", "step-00000300.bad"):
        shutil.copytree(folder, checkpoints / name / "model")
    assert resolve(str(tmp_path / "run")) == checkpoints / "step-00000100" / "model"
    assert gensynth.load(tmp_path / "run").classes[0] == "Ant"


@pytest.mark.parametrize("name", ["nothing-like-this", "./nowhere", "a/b/c", "/nowhere/at/all"])
def test_a_missing_model_names_those_there_are(name):
    with pytest.raises(InputError, match="dico-nano-fashion"):
        gensynth.load(name)


def test_a_hub_id_without_a_network_is_refused_in_words():
    with pytest.raises(
        InputError, match="no folder 'owner/name' here, and as a hub id it cannot be fetched"
    ):
        gensynth.load("owner/name")


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(InputError, match=r"neither a model folder nor a run.*model_index\.json"):
        gensynth.load(tmp_path)


def test_a_file_is_not_a_model(folder):
    with pytest.raises(InputError, match="is a file"):
        gensynth.load(folder / WEIGHTS)


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("ending", ["pt", "pth", "ckpt", "bin", "pkl"])
def test_a_pickle_is_refused_and_not_run(tmp_path, ending):
    path, touched = tmp_path / f"weights.{ending}", tmp_path / "touched"
    torch.save({"weights": Touch(touched)}, path)
    with pytest.raises(RefusedError, match="pickle"):
        gensynth.load(path)
    assert not touched.exists()


@pytest.mark.parametrize("beside", [False, True])
def test_pickled_weights_in_a_folder_are_not_run(folder, tmp_path, beside):
    touched = tmp_path / "touched"
    pickled = pickle.dumps(Touch(touched))
    (folder / "model" / "diffusion_pytorch_model.bin").write_bytes(pickled)
    if beside:
        gensynth.load(folder)
    else:
        (folder / WEIGHTS).unlink()
        with pytest.raises((CorruptError, RefusedError)):
            gensynth.load(folder)
    assert not touched.exists()
    pickle.loads(pickled)
    assert touched.exists()  # the trap does work


@pytest.mark.parametrize("part", ["model", "scheduler", "autoencoder", "extra"])
def test_code_from_elsewhere_is_refused_and_not_imported(folder, tmp_path, monkeypatch, part):
    (tmp_path / "evil_module.py").write_text("class Model: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    edit(folder / "model_index.json", **{part: ["evil_module", "Model"]})
    with pytest.raises(RefusedError, match="evil_module"):
        gensynth.load(folder)
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize(
    "name", ["evil_module", "os", "gensynth.cli", "transformers", ["diffusers"]]
)
def test_only_named_modules_may_be_used(folder, name):
    edit(folder / "model_index.json", model=[name, "DiCo"])
    with pytest.raises((RefusedError, CorruptError)):
        gensynth.load(folder)


@pytest.mark.parametrize("module", ["gensynth.models.dico", "gensynth.samplers.token_decoders"])
def test_a_class_that_ours_do_not_know_is_said_to_be_new_or_your_own(folder, module):
    edit(folder / "model_index.json", model=[module, "DiCoNext"])
    with pytest.raises(InputError, match=r"its model is a DiCoNext, which this version") as caught:
        gensynth.load(folder)
    assert "A newer version may have written it, or a file of your own" in str(caught.value)


def test_code_beside_the_weights_is_not_run(folder, tmp_path):
    touched = tmp_path / "touched"
    code = f"import pathlib\npathlib.Path({str(touched)!r}).touch()\nclass Model: pass\n"
    for path in (
        folder / "pipeline.py",
        folder / "model" / "evil.py",
        folder / "model" / "dico.py",
    ):
        path.write_text(code)
    edit(folder / "model_index.json", model=["evil", "Model"])
    with pytest.raises(RefusedError):
        gensynth.load(folder)
    edit(folder / "model_index.json", _class_name=["pipeline", "Model"])
    with pytest.raises((RefusedError, InputError, CorruptError)):
        gensynth.load(folder)
    assert not touched.exists()


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/outside.safetensors", "missing.safetensors"]
)
def test_a_shard_index_must_stay_in_its_folder(folder, tmp_path, name):
    (folder / "outside.safetensors").write_bytes((folder / WEIGHTS).read_bytes())
    index = {"metadata": {}, "weight_map": {"stem.weight": name}}
    path = folder / "model" / "diffusion_pytorch_model.safetensors.index.json"
    path.write_text(json.dumps(index))
    with pytest.raises(RefusedError, match=r"index\.json"):
        gensynth.load(folder)


def test_sharded_weights_load(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    loaded = gensynth.load(tmp_path).model.state_dict()
    for name, tensor in tiny_pipeline.model.state_dict().items():
        assert torch.equal(loaded[name], tensor)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_weights_cut_off(folder, share):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CorruptError, match="damaged"):
        gensynth.load(folder)


@pytest.mark.parametrize("change", ["wider", "missing tensor", "missing file"])
def test_weights_that_do_not_fit(folder, make_model, change):
    if change == "wider":
        save_file(make_model(hidden_size=12).state_dict(), folder / WEIGHTS)
    elif change == "missing tensor":
        weights = load_file(folder / WEIGHTS)
        del weights["stem.weight"]
        save_file(weights, folder / WEIGHTS)
    else:
        (folder / WEIGHTS).unlink()
    with pytest.raises(CorruptError) as caught:
        gensynth.load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model_index.json", "{"),
        ("model_index.json", "[]"),
        ("model_index.json", "{}"),
        ("model_index.json", '{"_class_name": "ClassConditionalPipeline"}'),
        ("model_index.json", '{"_class_name": "ClassConditionalPipeline", "model": []}'),
        ("model/config.json", "{"),
        ("model/config.json", '{"_class_name": "DiCo", "hidden_size": "wide"}'),
        ("scheduler/scheduler_config.json", "{"),
        ("labels.json", "{"),
        ("labels.json", '["Ant"]'),
        ("labels.json", "5"),
        ("model/diffusion_pytorch_model.safetensors.index.json", "{"),
        ("model/diffusion_pytorch_model.safetensors.index.json", "{}"),
    ],
)
def test_damaged_descriptions(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(CorruptError) as caught:
        gensynth.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model", "scheduler", "autoencoder", "labels.json"])
def test_missing_parts(folder, name):
    path = folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(CorruptError, match=name):
        gensynth.load(folder)


def test_a_pipeline_of_another_kind(folder):
    edit(folder / "model_index.json", _class_name="StableDiffusionUpscalePipeline")
    with pytest.raises(InputError, match=r"UpscalePipeline.*ClassConditionalPipeline"):
        gensynth.load(folder)
