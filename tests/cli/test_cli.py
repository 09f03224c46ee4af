import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gensynth import __version__
from gensynth.experiments.read import load_experiment

ROOT = Path(__file__).parents[2]
REAL = "fashion_mnist:test"
NANO = ROOT / "configs" / "fashion_mnist" / "dico_nano.yaml"
CHECKED: list[list[str]] = []  # by tests of this module, all of them in one process


def checked(cases: list) -> list:
    """The cases, whose first parts are arguments of commands for `light`."""
    for case in cases:
        CHECKED.append([str(word) for word in (case[0] if isinstance(case, tuple) else case)])
    return cases


@pytest.fixture(scope="module")
def light(guarded) -> Callable[..., subprocess.CompletedProcess]:
    """What a command that must not import anything heavy does."""
    ended = guarded(CHECKED)

    def run(*arguments) -> subprocess.CompletedProcess:
        return ended[CHECKED.index([str(word) for word in arguments])]

    return run


def gensynth(*arguments, **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "gensynth", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )


def error_line(done: subprocess.CompletedProcess) -> str:
    """The one line on stderr; nothing on stdout, no traceback."""
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    "arguments", checked([["sample", "-n", "1", "--out", "nowhere/at/all"]]), ids=" ".join
)
def test_the_guard_does_catch_an_import(light, arguments):
    done = light(*arguments)
    assert done.returncode == 99
    assert "imported" in done.stderr


COMMANDS = [
    "train",
    "encode",
    "sample",
    "edit",
    "evaluate",
    "reference",
    "compare",
    "serve",
    "config",
    "convert",
    "bench",
    "demo",
    "ema",
    "models",
    "classes",
    "ops",
    "doctor",
]


@pytest.mark.parametrize(
    "arguments",
    checked([["--help"], ["-h"], ["--version"], *([c, "--help"] for c in COMMANDS)]),
    ids=" ".join,
)
def test_help_imports_nothing_heavy(light, arguments):
    done = light(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert (__version__ if arguments == ["--version"] else "Usage: gensynth") in done.stdout


def test_help_names_every_command(light):
    shown = light("--help").stdout
    for command in COMMANDS:
        assert f"  {command} " in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    checked(
        [
            (["sample", "--nmu", "3"], "--nmu"),
            (["sample", "--num", "three"], "--num"),
            (["smaple"], "smaple"),
            (["train"], "--config"),
            (["convert", "--from", "dit", "--out", "x"], "--checkpoint"),
            (["serve", "--port", "99999"], "--port"),
        ]
    ),
)
def test_bad_flags_import_nothing_heavy(light, arguments, words):
    done = light(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    checked(
        [
            (["config", NANO, "sede=1"], 2, "'sede'"),
            (["train", "--config", NANO, "training.steps=ten"], 2, "'training.steps'"),
            (["train", "--config", NANO, "training.steps"], 2, "key=value"),
            (["train", "--config", "nowhere.yaml"], 3, "no configuration file"),
            (["sample", "--size", "axb"], 2, "--size"),
            (["sample", "--guidance-interval", "0.5"], 2, "--guidance-interval"),
            (["edit", "a.png", "--outpaint", "32x", "--out", "x"], 2, "--outpaint"),
            (["evaluate", "x", "--reference", "y", "--fit", "stretch"], 2, "crop or pad"),
            (
                ["evaluate", "x", "--reference", "y", "--option", "a=1"],
                2,
                "--option are for --model",
            ),
            (
                ["evaluate", "--model", "m", "--reference", "y", "--option", "a"],
                2,
                "like key=value",
            ),
            (
                ["evaluate", "--selfcheck"],
                2,
                "folder with published samples; gensynth evaluate . --self",
            ),
        ]
    ),
)
def test_mistakes_found_before_anything_heavy_is_imported(light, arguments, code, words):
    done = light(*arguments)
    assert done.returncode == code, done.stderr
    assert words in error_line(done)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["sample", "--model", "nowhere"], 3, "there is no model 'nowhere'"),
        (["convert", "--from", "dit", "--checkpoint", "x.pt", "--out", "y"], 3, "x.pt"),
        (["convert", "--from", "vit", "--checkpoint", "x.pt", "--out", "y"], 2, "dico, dic, dit"),
        (["sample", "--guide", "nowhere"], 3, "there is no model 'nowhere'"),
        (["evaluate", "nowhere", "--reference", "nowhere"], 3, "there are no images"),
        (
            ["evaluate", "x", "--reference", "y", "--extractor", "inception-2015"],
            3,
            "--weights FILE",
        ),
        (
            ["evaluate", REAL, "--reference", REAL, "--extractor", "dinov2-vitb14"],
            3,
            "it has not been fetched. Have it fetched with --download, fetch it",
        ),
        (["evaluate", "x", "--protocol", "dit-xl2-256-cfg1.6"], 2, "mean dit-xl2-256-cfg1.5?"),
        (["evaluate", "--protocol", "sit-xl2-256"], 2, "Did you mean sit-xl2-256"),
        (
            ["evaluate", "x", "--protocol", "dit-xl2-256-cfg1.5", "--extractor", "lite0-64"],
            2,
            "dit-xl2-256-cfg1.5 measures with inception-2015, not with lite0-64",
        ),
        (["evaluate", REAL, "--protocol", "dit-xl2-256-cfg1.5"], 3, "imagenet256 is not here"),
    ],
)
def test_missing_input_is_exit_code_3(command, arguments, code, words):
    done = command(*arguments)
    assert done.returncode == code
    assert words in error_line(done)


def test_help_names_every_metric(light):
    from gensynth.evaluation.measuring.measures import METRICS

    shown = re.sub(r"\s", "", light("evaluate", "--help").stdout)
    assert all(name in shown for name in METRICS)


INTERRUPTED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored below a shell's `command &`
from gensynth.experiments import read
from gensynth import cli
def interrupted(*arguments, **keywords):
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
read.load_experiment = interrupted
cli.main(["config", "x"])
"""


def test_an_interrupt_is_one_line():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "interrupted.")


@pytest.mark.parametrize(
    ("replaced", "arguments", "said"),
    [
        ("gensynth.evaluation.evaluate.evaluate", ["evaluate", REAL, "--reference", REAL],
         "interrupted; what was done is kept: the same command goes on"),
        ("gensynth.evaluation.evaluate.open_pictures", ["reference", REAL, "--out", "y.npz"],
         "interrupted; what was done is kept: the same command goes on"),
        ("gensynth.evaluation.comparing.compare.compare", ["compare", "x", "y"], "interrupted."),
    ],
)  # fmt: skip
def test_what_an_interrupted_command_says(command, monkeypatch, replaced, arguments, said):
    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(replaced, interrupted)
    monkeypatch.setattr("gensynth.preflight.measuring.numbers_file", lambda place: place)
    done = command(*arguments)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", said)


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1])
def test_an_error_of_several_processes_is_said_once(first):
    """Of the main process, unless only another one has it."""
    program = f"""
import os, time
from gensynth import cli
from gensynth.errors import InputError
from gensynth.evaluation.comparing import compare
def failing(*arguments, **keywords):
    if os.environ["RANK"] == "0" and {first}:
        time.sleep(60)
    raise InputError("the disk is gone")
compare.compare = failing
from gensynth.preflight import measuring
measuring.numbers_file = lambda place: place
cli.main(["compare", "x", "y"])
"""
    launch = ["--no-python", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    launch = [*launch, "--rdzv-endpoint", "localhost:0", sys.executable, "-c", program]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *launch], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.count("error: the disk is gone") == 1
    assert done.stderr.index("error: the disk is gone") < done.stderr.index("Failed")


def test_a_pickle_is_exit_code_4(command, tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"x")
    done = command("sample", "--model", path)
    assert done.returncode == 4
    assert "pickle" in error_line(done)


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_debug_shows_the_traceback(how):
    arguments = ["config", "nowhere.yaml"]
    done = (
        gensynth(*arguments, "--debug")
        if how == "flag"
        else gensynth(*arguments, GENSYNTH_DEBUG="1")
    )
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "InputError" in done.stderr


def test_config_prints_what_an_experiment_reads(command, tmp_path):
    done = command("config", NANO, "training.steps=7")
    assert (done.returncode, done.stderr) == (0, "")
    path = tmp_path / "printed.yaml"
    path.write_text(done.stdout)
    assert load_experiment(path) == load_experiment(NANO, ["training.steps=7"])


def test_sample_prints_the_folder_and_nothing_else(command, tiny_model_folder, tmp_path, capfd):
    out = tmp_path / "out"
    done = command("sample", "--model", tiny_model_folder, "--num", 2, "--steps", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}\n"
    assert capfd.readouterr().out == ""  # past `sys.stdout`, by a library
    assert "Traceback" not in done.stderr
    assert {"000000.png", "000001.png", "manifest.jsonl"} <= {path.name for path in out.iterdir()}


def test_sample_optimized_says_how_and_draws_the_same(command, tiny_model_folder, tmp_path):
    folders = [tmp_path / name for name in ("plain", "optimized")]
    common = ["sample", "--model", tiny_model_folder, "--num", 2, "--guidance", 2, "--out"]
    plain = command(*common, folders[0])
    done = command(*common, folders[1], "--optimize")
    assert (done.returncode, done.stdout) == (0, f"{folders[1]}\n"), done.stderr
    assert f"{tiny_model_folder}: channels-last: the model's convolutions" in done.stderr
    assert "channels-last" not in plain.stderr
    records = [(folder / "job.json").read_bytes() for folder in folders]
    assert records[0] == records[1]  # either command completes the other's folder
    for name in ("000000.png", "000001.png"):
        one, other = (np.asarray(Image.open(folder / name), dtype=np.int16) for folder in folders)
        assert np.abs(one - other).max() <= 1


def test_sample_takes_a_guide(command, tiny_model_folder, tmp_path):
    out = tmp_path / "out"
    guide = ["--guide", tiny_model_folder, "--guidance", 2, "--guidance-interval", "0.2,0.9"]
    done = command(
        "sample", "--model", tiny_model_folder, "--num", 1, "--steps", 1, *guide, "--out", out
    )
    assert (done.returncode, done.stdout) == (0, f"{out}\n"), done.stderr
    recorded = json.loads((out / "job.json").read_text())
    assert recorded["guide"] == recorded["model"]
    assert recorded["guidance_interval"] == [0.2, 0.9]


def test_evaluate_draws_with_every_setting(command, monkeypatch):
    monkeypatch.setattr(
        "gensynth.evaluation.request.Request.run",
        lambda request, effort: print(request.drawing.to_json()),
    )
    line = f"evaluate --model dico-nano-fashion --num 9 --reference {REAL} --steps 3 --guidance 0.5"
    line += " --guidance-interval 0.2,0.9 --guide dico-nano-fashion"
    line += " --scheduler FlowODEScheduler --option method=heun --option shift=3"
    done = command(*line.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert ast.literal_eval(done.stdout) == {
        "steps": 3,
        "guidance": 0.5,
        "guidance_interval": [0.2, 0.9],
        "guide": "dico-nano-fashion",
        "scheduler": "FlowODEScheduler",
        "scheduler_options": {"method": "heun", "shift": 3},
    }


BUG = """
import sys
from gensynth.experiments import read
from gensynth import cli
def broken(*arguments, **keywords):
    raise ZeroDivisionError("nobody foresaw this")
read.load_experiment = broken
cli.main(["config", "x", *sys.argv[1:]])
"""


def test_an_unforeseen_error_is_one_line_and_a_file():
    done = subprocess.run([sys.executable, "-c", BUG], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "please report" in done.stderr
    log = Path(re.search(r"The traceback is in (\S+\.log)", done.stderr)[1])
    assert "nobody foresaw this" in log.read_text() and "Traceback" in log.read_text()
    log.unlink()
    shown = subprocess.run([sys.executable, "-c", BUG, "--debug"], capture_output=True, text=True)
    assert "Traceback" in shown.stderr and "please report" not in shown.stderr


def test_a_report_that_cannot_be_written_is_exit_code_6(command, encode, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (4, 8, 8))):
        (pictures / f"{number}.png").write_bytes(encode(pixels.astype(np.uint8)))
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "report.json"
    done = command("evaluate", pictures, "--reference", pictures, "--out", out)
    assert done.returncode == 6
    assert "is a file, so it can hold no folder; choose another --out." in done.stderr
