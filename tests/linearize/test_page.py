"""docs/linearize.md: its code as written, with tiny folders in the place of what the hub has."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from adapters import lora
from linear_models import tiny
from safetensors.torch import save_file

import gensynth

PAGE = Path(__file__).parents[2] / "docs" / "linearize.md"
LINFUSION = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folders(saved, tmp_path, monkeypatch):
    """A folder to work in, where all names of the page are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny("sd").save_pretrained("stable-diffusion-v1-5/stable-diffusion-v1-5")
    tiny("flux").save_pretrained("black-forest-labs/FLUX.1-dev")
    for folder in ("Yuanshi/LinFusion-1-5", "weights/LinFusion-1-5"):
        shutil.copytree(saved("sd"), folder)
    for options in ({"window": 8, "down_factor": 4}, {"window": 16, "down_factor": 1}):
        shutil.copytree(saved("flux", **options), "Huage001/CLEAR", dirs_exist_ok=True)
    shutil.copy("Huage001/CLEAR/clear_local_16.safetensors", "weights")
    save_file(lora(tiny("sd")), "my_lora.safetensors")
    return tmp_path


def blocks():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
def test_the_code_of_the_page(folders, monkeypatch, capsys):
    compile_module = torch.nn.Module.compile

    def quickly(module, **options):  # by hand with the default, which calls a compiler of C++
        compile_module(module, **{"backend": "eager", **options})

    monkeypatch.setattr(torch.nn.Module, "compile", quickly)
    names = {}
    for block in blocks():
        exec(block, names)
    said = capsys.readouterr().out
    assert "linfusion: 7 self-attentions of Stable Diffusion (UNet); linear_attention at" in said
    assert "clear: 3 self-attentions of FLUX; local_attention at 64x64 tokens runs as" in said
    made = {str(file.relative_to(folders)) for file in folders.rglob("*.*") if file.is_file()}
    pictures = {"apple.png", "green.png", "boat.png"}
    students = {f"students/apple/{name}" for name in (LINFUSION, "config.json")}
    assert pictures | students | {"softmax/model_index.json"} <= made


def test_names_that_the_page_says(folders):
    """Of text, not of code."""
    text = PAGE.read_text(encoding="utf-8")
    file = "weights/LinFusion-1-5/diffusion_pytorch_model.safetensors"
    assert f'"{file}"' in text
    gensynth.linearize(tiny("sd"), weights=file)
