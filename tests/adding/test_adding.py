"""What CONTRIBUTING says of adding things: one file each, and nothing else changes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HERE = Path(__file__).parent
TOYS = ("backbone", "condition", "mixer", "sampler", "setting")
CONFIG = HERE.parents[1] / "configs" / "fashion_mnist" / "dico_nano.yaml"
PROGRAM = """
import json, sys
from gensynth.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as end:
        if end.code:
            sys.exit(f"{arguments}: {end.code}")
"""
TINY = (
    *("training.steps=2", "training.batch_size=4", "training.log_every=1", "data.workers=0"),
    *("sampling.steps=2", "sampling.every=0", "condition.kind=parity"),
    "sampling.scheduler=LeapScheduler",
)


def gensynth(*commands: list[str], **environment: str) -> subprocess.CompletedProcess:
    """Commands one after the other in one process that knows the toys."""
    plugins = ",".join(str(HERE / f"toy_{name}.py") for name in TOYS)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)],
        env={**os.environ, "GENSYNTH_PLUGINS": plugins, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """Two runs and drawings with every toy, what was printed, and last a value that is refused."""
    out = tmp_path_factory.mktemp("toys")
    train = ["train", "--config", str(CONFIG), *TINY]
    own = [*train, f"output={out / 'own'}", "model.name=Toy-S"]
    mixed = [*train, f"output={out / 'mixed'}", "model.name=DiT-nano/2", "model.mixer=shift"]
    mixed += ["model.mixer_options={distance: 2}", "model.depth=1", "model.hidden_size=16"]
    sample = ["sample", "--num", "2", "--labels", "odd,even", "--guidance", "2"]
    refused = [*sample, "--model", str(out / "own"), "--loudness", "11", "--out", str(out / "x")]
    done = gensynth(
        own,
        [*sample, "--model", str(out / "own"), "--out", str(out / "drawn")],
        [*sample, "--model", str(out / "own"), "--loudness", "2", "--out", str(out / "loud")],
        mixed,
        ["models", "toy"],
        ["sample", "--help"],
        refused,
    )
    assert done.stderr.endswith(f"{refused}: 2\n"), done.stderr  # all others ended well
    return out, done


def recipe(path: Path) -> dict:
    with Image.open(path) as image:
        return json.loads(image.info["gensynth"])


def test_a_run_with_all_toys_draws(ran):
    out, _ = ran
    drawn, loud = (recipe(out / name / "000000.png") for name in ("drawn", "loud"))
    assert drawn["parity"] == "odd" and drawn["scheduler"] == "LeapScheduler"
    assert "loudness" not in drawn and loud["loudness"] == 2
    first, other = (np.asarray(Image.open(out / n / "000000.png")) for n in ("drawn", "loud"))
    assert (first != other).mean() > 0.1


def test_the_folder_names_what_it_is_made_of(ran):
    index = json.loads((ran[0] / "own" / "model" / "model_index.json").read_text())
    assert index["model"] == ["toy_backbone", "Toy"]
    assert index["scheduler"] == ["toy_sampler", "LeapScheduler"]
    assert index["condition_kind"] == "parity"


def test_a_mixer_gets_its_option(ran):
    config = json.loads((ran[0] / "mixed" / "model" / "model" / "config.json").read_text())
    assert config["mixer"] == "shift" and config["mixer_options"] == {"distance": 2}


def test_the_catalogue_and_the_help_show_them(ran):
    text = ran[1].stdout
    assert "Toy-S" in text and "--loudness" in text and "How loud the model speaks." in text


def test_a_wrong_value_is_refused_by_the_setting(ran):
    assert "loudness must be between 0 and 10, got 11.0." in ran[1].stderr


def test_without_the_files_a_folder_says_what_is_missing(ran, command):
    done = command("sample", "--model", ran[0] / "own")  # here nothing knows the toys
    assert "toy_backbone" in done.stderr and done.returncode != 0


def test_a_plugin_that_is_not_there():
    done = gensynth(["models"], GENSYNTH_PLUGINS="nowhere/at/all.py")
    assert "GENSYNTH_PLUGINS names nowhere/at/all.py, and there is no such file." in done.stderr
