"""`--lora` and `gensynth lora merge`."""

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image

import gensynth
from gensynth.cli import main
from gensynth.errors import UsageError
from gensynth.evaluation.drawn import AtHand
from gensynth.lora.folder import Wanted
from gensynth.sampling.job import Job
from gensynth.sampling.job import run as draw_job
from gensynth.sampling.outputs import read_recipe

BASE = "dico-nano-fashion"
DRAW = ["--num", "2", "--steps", "2"]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter") / "mine"
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["conv_out", "stem"], init_lora_weights=False)
    get_peft_model(gensynth.load(BASE, device="cpu").model, config).save_pretrained(folder)
    return folder


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code or 0


def pictures(folder):
    return [np.asarray(Image.open(folder / f"00000{n}.png")).astype(int) for n in (0, 1)]


def test_pictures_of_a_merged_model_are_those_of_the_adapter(adapter, tmp_path):
    assert run("sample", "--model", BASE, *DRAW, "--out", tmp_path / "base") == 0
    scaled = f"{adapter}:0.5"
    assert run("sample", "--model", BASE, "--lora", scaled, *DRAW, "--out", tmp_path / "lora") == 0
    assert run("lora", "merge", BASE, scaled, "--out", tmp_path / "merged") == 0
    merged = ["sample", "--model", tmp_path / "merged", *DRAW, "--out", tmp_path / "again"]
    assert run(*merged) == 0
    base, with_lora, again = (pictures(tmp_path / name) for name in ("base", "lora", "again"))
    for one, other, third in zip(base, with_lora, again, strict=True):
        assert abs(one - other).max() > 5
        assert abs(other - third).max() <= 1
    [used] = read_recipe(tmp_path / "lora" / "000000.png")["lora"]
    assert (used["adapter"], used["scale"]) == ("mine", 0.5)
    assert "lora" not in read_recipe(tmp_path / "base" / "000000.png")


def test_a_folder_of_pictures_is_of_one_scale(adapter, tmp_path, capsys):
    out = ["--out", tmp_path / "out"]
    assert run("sample", "--model", BASE, "--lora", adapter, *DRAW, *out) == 0
    assert run("sample", "--model", BASE, "--lora", f"{adapter}:0.9", *DRAW, *out) == 4
    assert "lora" in capsys.readouterr().err


def test_classes_and_prompts_at_once_are_refused_with_an_adapter_too(adapter, tmp_path, capsys):
    told = ["--labels", "3", "--prompt", "Bag"]
    out = tmp_path / "out"
    assert run("sample", "--model", BASE, "--lora", adapter, *told, *DRAW, "--out", out) == 2
    assert "two ways to say what to draw; give one" in capsys.readouterr().err
    assert not out.exists()
    job = Job(BASE, "3", 1, 0, prompts=["Bag"], lora=[Wanted(adapter)])
    with pytest.raises(UsageError, match="two ways to say what to draw"):
        draw_job(job, out)


def test_a_merged_model_takes_no_folder_that_holds_something(adapter, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run("lora", "merge", BASE, adapter, "--out", tmp_path) == 4
    assert "choose another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_adapter_of_another_class_is_refused_by_its_json(adapter, tmp_path, capsys):
    for file in adapter.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    base = {"name": "dit", "mark": "0" * 16, "model": {"_class_name": "DiT"}}
    (tmp_path / "base.json").write_text(json.dumps(base))
    assert run("sample", "--model", BASE, "--lora", tmp_path, *DRAW) == 3
    said = capsys.readouterr().err
    assert f"is of another model: a DiT, and {BASE} is a DiCo. Give its own base, dit" in said


def test_what_is_measured_knows_its_adapters(adapter):
    """Features that are kept are those of these weights."""
    prints = {
        AtHand.loaded(BASE, None, lora).fingerprint
        for lora in ([], [Wanted(adapter)], [Wanted(adapter, 0.5)])
    }
    assert len(prints) == 3
