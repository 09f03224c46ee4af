"""`make demo`: train, draw, measure, on the bundled data and in minutes."""

import json
import os
import sys
from pathlib import Path

from gensynth.data.images import labelled_grid, to_pil
from gensynth.errors import InputError
from gensynth.evaluation.evaluate import evaluate, summary, write_report
from gensynth.evaluation.sources import open_images
from gensynth.experiment import load_experiment
from gensynth.progress import progress_bar
from gensynth.sampling.job import Job
from gensynth.sampling.job import run as sample
from gensynth.training.curve import plot_loss
from gensynth.training.loop import train

CONFIG = Path(__file__).parent.parent / "configs" / "fashion_mnist" / "demo.yaml"
QUICK = ["training.steps=20", "training.batch_size=16", "checkpoint.every=10", "sampling.steps=4"]


def run(out: Path, quick: bool = False) -> None:
    """Trains `configs/fashion_mnist/demo.yaml` into `out` and looks at the result.

    Writes `samples.png` (ten pictures of each class), `loss.png`, `metrics.json` and `model/`.

    Args:
        out: output folder; the same command again completes it.
        quick: a few steps and samples, to see that everything runs.

    Raises:
        InputError: gensynth was installed without its repository.
    """
    if not CONFIG.is_file():
        raise InputError("the demo needs the repository: clone it and run `make demo` there.")
    experiment = load_experiment(CONFIG, [f"output={out}", *(QUICK if quick else [])])
    train(experiment)
    plot_loss(out / "log.jsonl", out / "loss.png")

    drawn = sample(
        Job(
            str(out),
            labels=None,
            num=100 if quick else 1000,
            seed=0,
            settings={},
            batch_size=100,
            kind="npz",
        ),
        out / "samples",
    )
    classes = json.loads((out / "model" / "labels.json").read_text(encoding="utf-8"))
    images = open_images(str(drawn))
    pictures = [to_pil(images.read(index)) for index in range(100)]
    rows = {name: pictures[label::10] for label, name in enumerate(classes)}
    labelled_grid(rows).save(out / "samples.png")

    with progress_bar() as bar:
        task = bar.add_task("evaluating", total=images.length * 2 + 2000)
        report = evaluate(drawn, "fashion_mnist:test", tick=lambda n: bar.advance(task, n))
    write_report(report, out / "metrics.json")

    print(f"\n{out / 'samples.png'}: ten pictures of each class")
    print(f"{out / 'loss.png'}: the loss")
    print(f"{out / 'metrics.json'}: {summary(report)}")
    command = _command()
    print("\nTry next:")
    print(f"  {command} sample --model {out} --labels Sneaker,Bag --num 20 --out bags")
    print(f"  {command} serve {out}")
    print(f"  {command} train --config configs/fashion_mnist/dico_nano.yaml")


def _command() -> str:
    program = Path(sys.executable).parent / "gensynth"
    return os.path.relpath(program) if program.is_file() else "gensynth"
