"""Pipelines of diffusers on the command line: drawn, completed, measured, refused in words."""

import json

import numpy as np
import pytest
from PIL import Image

from gensynth.sampling.outputs import read_recipe


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_pictures_of_a_file_of_prompts(command, pretrained_folder, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red apple\ntwo birds\nthe blue house\na small cat\n")
    words = ["sample", "--model", pretrained_folder("sd"), "--prompts", prompts, "--seed", 3]
    words += ["--negative", "grass", "--steps", 2]
    for batch in (1, 4):
        done = command(*words, "--batch-size", batch, "--out", tmp_path / f"by-{batch}")
        assert (done.returncode, done.stderr) == (0, "")
    for number in range(4):
        both = [pixels(tmp_path / f"by-{batch}" / f"{number:06d}.png") for batch in (1, 4)]
        assert np.abs(both[0] - both[1]).max() <= 1
    recipe = read_recipe(tmp_path / "by-4/000001.png")
    told = {"prompt": "two birds", "seed": 4, "negative": "grass", "guidance": 7.5, "steps": 2}
    assert told.items() <= recipe.items() and recipe["scheduler"] == "PNDMScheduler"
    job = json.loads((tmp_path / "by-4/job.json").read_text())
    assert job["dtype"] == "float32"


def test_a_job_is_completed_and_no_other(command, pretrained_folder, tmp_path):
    words = ["sample", "--model", pretrained_folder("flux"), "--prompt", "a red apple", "--num", 2]
    words += ["--steps", 2, "--size", 64, "--out", tmp_path / "out"]
    assert command(*words).returncode == 0
    before = pixels(tmp_path / "out/000001.png")
    (tmp_path / "out/000001.png").unlink()
    done = command(*words)
    assert done.returncode == 0
    assert done.stderr.startswith("note: ") and "draws 1024x1024 pixels of itself" in done.stderr
    alone = pixels(tmp_path / "out/000001.png")  # it was drawn with another before
    assert abs(alone - before).max() <= 1
    done = command(*words, "--load", "dtype=bf16")
    assert done.returncode == 4 and "dtype was 'float32', now 'bfloat16'" in done.stderr


def test_a_pipeline_is_measured(command, pretrained_folder, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red apple\nthe sea at night\n")
    words = ["evaluate", "--model", pretrained_folder("pixart"), "--steps", 2, "--num", 4]
    words += ["--prompts", tmp_path / "prompts.txt", "--reference", "emoji:test"]
    done = command(*words, "--metrics", "frechet", "--json", "--load", "vae_slicing=true")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["samples"]["count"] == 4


def test_suggestions_are_drawn_without_a_prompt(command, pretrained_folder, tmp_path):
    words = ["sample", "--model", pretrained_folder("sd"), "--num", 2, "--steps", 1]
    assert command(*words, "--out", tmp_path / "out").returncode == 0
    listed = command("classes", pretrained_folder("sd")).stdout.splitlines()
    drawn = [read_recipe(tmp_path / f"out/00000{number}.png")["prompt"] for number in range(2)]
    assert drawn == listed[:2]


REFUSED = [
    ("sd", ["--size", 60], "each side must be a multiple of 8. Nearest: 64x64"),
    ("sd3", ["--size", "512x64"], "positions for 256 pixels of a side. Nearest: 256x64"),
    ("sana", ["--size", 48], "multiple of 32. Nearest: 64x64"),
    ("sd", ["--labels", "3"], "told prompts and knows no classes: instead of the class '3'"),
    ("flux", ["--negative", "x"], "this FLUX has its guidance inside"),
    ("sd", ["--guidance", 0.5], "takes a guidance from 1 upwards (1 is none), got 0.5"),
    ("sd", ["--guidance", 1, "--negative", "x"], "has no effect with guidance 1"),
    ("sd", ["--guidance-interval", "0.1,0.5"], "cannot be told guidance_interval; leave it out"),
    ("sd", ["--timestep-respacing", "10"], "cannot be told timestep_respacing; give steps"),
    ("sd", ["--guide", "dico-nano-fashion"], "cannot be told guide"),
    ("flux", ["--scheduler", "DDIMScheduler"], "does not fit FLUX. Fitting: FlowMatchEuler"),
    ("sd", ["--scheduler", "DDIMScheduller"], "Did you mean 'DDIMScheduler'"),
    ("sd", ["--load", "dtyp=bf16"], "no option 'dtyp' of loading. Did you mean 'dtype'"),
    ("sd", ["--load", "bf16"], "--load must look like dtype=bf16"),
    ("sd", ["--load", "dtype=int8"], "dtype must be one of float32, bf16, fp16, got 'int8'"),
]


def test_what_json_files_tell_is_refused_without_torch(guarded, pretrained_folder):
    commands = [
        ["sample", "--model", str(pretrained_folder(kind)), *map(str, words)]
        for kind, words, _ in REFUSED
    ]
    ours = ["sample", "--load", "offload=model"]
    edited = ["edit", "tests/fixtures/saved_before/tokens/expected-0.png", "--out", "nowhere"]
    edited += ["--model", str(pretrained_folder("sd"))]
    *ended, own, edit = guarded([*commands, ours, edited])
    for (_, words, said), done in zip(REFUSED, ended, strict=True):
        assert done.returncode == 2 and said in done.stderr, (words, done.stderr)
    assert own.returncode == 2 and "one of gensynth" in own.stderr
    assert edit.returncode == 2 and "editing needs a model that draws tokens" in edit.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--steps", 2000], "steps must be from 1 to 1000, got 2000 (PNDMScheduler)"),
        (["--timesteps", "900,500"], "PNDMScheduler cannot be told timesteps"),
        (["--eta", 0.5], "PNDMScheduler cannot be told eta; DDIMScheduler can"),
        (["--option", "top_k=5"], "PNDMScheduler has no option 'top_k'"),
        (["--load", "offload=model"], "there is no GPU here; leave it out"),
    ],
)
def test_what_loading_tells(command, pretrained_folder, tmp_path, monkeypatch, words, said):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    out = tmp_path / "out"
    done = command("sample", "--model", pretrained_folder("sd"), *words, "--out", out)
    assert done.returncode == 2 and said in done.stderr and not out.exists()
