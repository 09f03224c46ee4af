"""`make demo` and `make demo-masked`: train, draw, measure, on the bundled data and in minutes."""

import json
import os
import sys
from pathlib import Path

import torch
from PIL import Image

from gensynth.autoencoders import open_autoencoder
from gensynth.config import Data
from gensynth.data.files.image_set import open_images
from gensynth.data.images import decode, labelled_grid, to_pil
from gensynth.data.sources import open_source
from gensynth.evaluation.evaluate import evaluate
from gensynth.evaluation.measuring.features import Effort
from gensynth.evaluation.report.report import METRICS_FILE, summary, write_report
from gensynth.experiments.read import load_experiment
from gensynth.pipelines.loading import load
from gensynth.progress import progress_bar
from gensynth.sampling.job import Job
from gensynth.sampling.job import run as sample
from gensynth.training.loop import train
from gensynth.training.watching.curve import plot_loss

QUICK = ["training.steps=20", "training.batch_size=16", "checkpoint.every=10"]
QUICK_STEPS = ["sampling.steps=4"]
EDITED = {"Sneaker": 7, "Bag": 8, "Dress": 3, "T-shirt": 0}  # a class, and its number


def run(out: Path, quick: bool = False) -> None:
    """Trains the experiment `fashion_mnist/demo` into `out` and looks at the result.

    Writes `samples.png` (ten pictures of each class), `loss.png`, `metrics.json` and `model/`.

    Args:
        out: output folder; the same command again completes it.
        quick: a few steps and samples, to see that everything runs.
    """
    _train("demo", [f"output={out}", *(QUICK + QUICK_STEPS if quick else [])], out)
    _look(out, quick)
    print("\nTry next:")
    _suggest(out)
    print(f"  {_command()} train --config fashion_mnist/dico_nano")


def run_masked(out: Path, quick: bool = False) -> None:
    """Trains `demo_vq.yaml`, on its tokens `demo_maskgit.yaml`, and looks at the result.

    Beside what `run` writes: `tokenizer/`, a run of its own, `reconstructions.png` with test
    images and what the tokenizer makes of them, and `edits.png` with test images whose right half
    was drawn anew.
    """
    tokenizer = out / "tokenizer"
    _train("demo_vq", [f"output={tokenizer}", *(QUICK if quick else [])], tokenizer)
    changes = [f"output={out}", f"autoencoder.path={tokenizer}"]
    _train("demo_maskgit", changes + (QUICK + QUICK_STEPS if quick else []), out)
    tests = open_images("fashion_mnist:test")
    shown = torch.stack([tests.read(index) for index in range(20)])
    codec = open_autoencoder(str(tokenizer), "vq")
    again = codec.decode(codec.encode(shown))
    rows = {"test image": list(map(to_pil, shown)), "from tokens": list(map(to_pil, again))}
    labelled_grid(rows).save(out / "reconstructions.png")
    _edit(out)
    _look(out, quick)
    print(f"{out / 'reconstructions.png'}: test images, and what the tokenizer makes of them")
    print(f"{out / 'edits.png'}: test images, and three times another right half")
    print("\nTry next:")
    _suggest(out)
    print(f"  {_command()} train --config fashion_mnist/maskgit_nano")


def _train(name: str, overrides: list[str], out: Path) -> None:
    train(load_experiment(f"fashion_mnist/{name}", overrides))
    plot_loss(out / "log.jsonl", out / "loss.png")


def _look(out: Path, quick: bool) -> None:
    """Draws pictures with the model of a run, measures them, and says where all of it is."""
    drawn = sample(
        Job(
            str(out),
            shown=None,
            num=100 if quick else 1000,
            seed=0,
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
        effort = Effort(tick=lambda count: bar.advance(task, count))
        found = evaluate(drawn, "fashion_mnist:test", effort=effort)
    assert found is not None  # one process
    measured, report = found
    measured.files.remove()
    write_report(report, out / METRICS_FILE)

    print(f"\n{out / 'samples.png'}: ten pictures of each class")
    print(f"{out / 'loss.png'}: the loss")
    print(f"{out / METRICS_FILE}: {summary(report)}")


def _edit(out: Path) -> None:
    """`edits.png`: a test image of some classes, and its right half drawn three times."""
    pipeline = load(out)
    rows = open_source(Data(split="test", channels=1)).rows
    mask = Image.new("L", (28, 28))
    mask.paste(255, (14, 0, 28, 28))
    sheet = {}
    for name, label in EDITED.items():
        row = next(row for row in rows if row["label"] == label)
        image = decode(row["image"]["bytes"], channels=1)
        hidden = Image.composite(Image.new("L", image.size, 128), image, mask)
        edited = pipeline.edit(image, label=label, mask=mask, seeds=(0, 1, 2))
        sheet[name] = [image, hidden, *edited]
    labelled_grid(sheet).save(out / "edits.png")


def _suggest(out: Path) -> None:
    command = _command()
    print(f"  {command} sample --model {out} --labels Sneaker,Bag --num 20 --out bags")
    print(f"  {command} serve {out}")


def _command() -> str:
    program = Path(sys.executable).parent / "gensynth"
    return os.path.relpath(program) if program.is_file() else "gensynth"
