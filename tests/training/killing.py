"""Kills a run of two processes again and again; it must become what a run in peace is."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from averaged import SEVERAL
from launching import Launch, command, launch, training
from tiny import weights, write_experiment

from gensynth.data.files.image_set import open_images
from gensynth.data.images import to_pil

PROCESSES = 2
EVERY = {**SEVERAL, "checkpoint.every": 2, "checkpoint.keep": 2, "data.workers": 1}
# What is drawn -> real pictures to measure against, and what changes in the experiment.
KINDS: dict[str, tuple[str, list[str]]] = {
    "classes": ("fashion_mnist:test", []),
    "captions": (
        "emoji:test",
        [
            "data={source: emoji, size: 32, workers: 1}",
            "autoencoder.patch=4",
            "condition={kind: text, length: 8, width: 16, layers: 1, vocabulary: 600}",
        ],
    ),
}
MEASURED = ("images_per_second", "data_wait", "seconds")  # what a clock says, and never twice


def write_run(folder: Path, real: Path, steps: int) -> Path:
    """The experiment of a run with everything on that a kill could disturb."""
    return write_experiment(
        folder,
        **EVERY,
        **{
            "training.steps": steps,
            "sampling.every": 4,
            "sampling.num": 2,
        },
    )


def changed(real: Path, kind: str) -> list[str]:
    return [
        *KINDS[kind][1],
        "evaluation.every=4",
        "evaluation.num=8",
        f"evaluation.reference='{real}'",
    ]


def write_real(folder: Path, kind: str = "classes", count: int = 16) -> Path:
    """A folder of test images to measure against, with captions if there are some."""
    folder.mkdir()
    images = open_images(KINDS[kind][0], 32, "pad")
    for index in range(count):
        to_pil(images.read(index)).save(folder / f"{index}.png")
        if images.texts is not None:
            (folder / f"{index}.txt").write_text(images.texts[index])
    return folder


def in_peace(folder: Path, real: Path, steps: int, kind: str = "classes") -> Path:
    config = write_run(folder, real, steps)
    done = launch(
        command, *training(config, *changed(real, kind)), processes=PROCESSES, timeout=3000
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


def killed(
    folder: Path,
    real: Path,
    steps: int,
    moments: int,
    chance: random.Random,
    kind: str = "classes",
    say: Callable[[str], None] = print,
) -> Path:
    """The run that is killed `moments` times with SIGKILL, and then left to end."""
    config = write_run(folder, real, steps)
    words = training(config, *changed(real, kind))
    saved = folder / "run" / "checkpoints"
    for moment in range(moments):
        before = set(saved.glob("step-*"))
        with Launch(command, *words, processes=PROCESSES) as started:
            begins = chance.random() < 0.2  # a process may also die while it starts
            while not begins and set(saved.glob("step-*")) == before and started.running:
                time.sleep(0.001)
            time.sleep(chance.random() * (3 if begins else 0.6))
            assert started.running, f"the run ended before moment {moment}: give it more steps"
            kill(started, chance)
        names = sorted(path.name for path in saved.glob("step-*"))
        say(f"moment {moment + 1}: {'starting' if begins else 'running'}, left {', '.join(names)}")
    done = launch(command, *words, processes=PROCESSES, timeout=3000)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def kill(started: Launch, chance: random.Random) -> None:
    """kill -9 of all processes, or of one first and of the others a little later."""
    processes = list(started.processes)
    chance.shuffle(processes)
    apart = chance.random() < 0.5
    for process in processes:
        process.kill()
        if apart:
            time.sleep(chance.random() * 0.3)


def same(peace: Path, disturbed: Path) -> list[str]:
    """What differs between two runs, in words; nothing may."""
    found = []
    for name in ("log.jsonl", "evaluations.jsonl"):
        one, other = (entries(run / name) for run in (peace, disturbed))
        found += [f"{name}: {a} became {b}" for a, b in zip(one, other, strict=False) if a != b]
        if len(one) != len(other):
            found.append(f"{name}: {len(one)} lines became {len(other)}")
    for what in ("snapshots", "best", "samples", "model"):
        one, other = (contents(run / what) for run in (peace, disturbed))
        # A grid that was being drawn when the run was killed is not drawn again.
        names = one.keys() & other.keys() if what == "samples" else one.keys() | other.keys()
        unlike = {name for name in names if one.get(name) != other.get(name)}
        found += [f"{what}/{name}" for name in sorted(unlike)]
        assert one, f"{what} is empty, so that it proves nothing"
    if weights(peace) != weights(disturbed):
        found.append("weights of the newest checkpoint")
    return found + [f"left over: {path.name}" for path in leftovers(disturbed)]


def entries(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    lines = [json.loads(text)] if path.suffix == ".json" else map(json.loads, text.splitlines())
    return [{key: line[key] for key in line if key not in MEASURED} for line in lines]


def contents(folder: Path) -> dict[str, Any]:
    """What is in the files of a folder; of lines of evaluations, what no clock says."""
    return {
        str(path.relative_to(folder)): entries(path)
        if path.name == "evaluation.json"
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def leftovers(run: Path) -> list[Path]:
    return [path for path in run.rglob("*") if path.name.endswith((".tmp", ".part"))]
