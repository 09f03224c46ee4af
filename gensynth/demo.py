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
from gensynth.data.images import captioned_grid, decode, labelled_grid, to_pil
from gensynth.data.sources import open_source
from gensynth.evaluation.evaluate import Fit, evaluate, other_images
from gensynth.evaluation.measuring.features import Effort
from gensynth.evaluation.report.report import METRICS_FILE, summary, write_report
from gensynth.experiments.encoding import encode
from gensynth.experiments.read import load_experiment
from gensynth.pipelines.loading import load
from gensynth.progress import progress_bar
from gensynth.sampling.job import Job
from gensynth.sampling.job import run as sample
from gensynth.training.loop import train
from gensynth.training.watching.curve import plot_loss

QUICK = ["training.steps=20", "training.batch_size=16", "checkpoint.every=10"]
QUICK_STEPS = ["sampling.steps=4"]
QUICK_PICTURES = ["data.split='train[:300]'"]
EDITED = {"Sneaker": 7, "Bag": 8, "Dress": 3, "T-shirt": 0}  # a class, and its number


def run(out: Path, quick: bool = False) -> None:
    """Encodes the bundled emoji, trains the experiment `emoji/demo` into `out` and looks at it.

    Writes `latents/`, `samples.png` (a picture of each class), `loss.png`, `metrics.json` and
    `model/`.

    Args:
        out: output folder; the same command again completes it.
        quick: a few steps and samples, to see that everything runs.
    """
    changes = [f"output={out}", *(QUICK + QUICK_STEPS + QUICK_PICTURES if quick else [])]
    latents = out / "latents"  # whole or absent
    if not latents.exists():
        encode(load_experiment("emoji/demo", changes), latents)
    encoded = ["data.source=encoded", f"data.path={latents}"]
    _train("emoji/demo", [*changes, *encoded], out)
    classes, drawn = _draw(out, 1 if quick else 10)
    captioned_grid(list(zip(classes, drawn, strict=False)), columns=14).save(out / "samples.png")
    measured = _measure(out, "emoji:train")
    print(f"\n{out / 'samples.png'}: a picture of each class")
    print(measured)
    print("\nTry next: `emoji`, which comes along and is told prompts; then the model of this demo")
    print(f'  {_command()} sample --prompt "cat face, fluent" --num 4 --out cats')
    _suggest(out, "cat-face,food-fruit", "cats-of-the-demo")
    longer = " ".join([*encoded, "training.steps=20000", f"output={out}-longer"])
    print(f"  {_command()} train --config emoji/demo {longer}   # the better part of an hour")


def run_masked(out: Path, quick: bool = False) -> None:
    """Trains a tokenizer of Fashion-MNIST, on its tokens a MaskGIT, and looks at the result.

    Writes what `run` does but latents; `tokenizer/`, a run of its own; `reconstructions.png` with
    test images and what the tokenizer makes of them; and `edits.png` with test images whose right
    half was drawn anew.
    """
    tokenizer = out / "tokenizer"
    _train("fashion_mnist/demo_vq", [f"output={tokenizer}", *(QUICK if quick else [])], tokenizer)
    changes = [f"output={out}", f"autoencoder.path={tokenizer}"]
    _train("fashion_mnist/demo_maskgit", changes + (QUICK + QUICK_STEPS if quick else []), out)
    tests = open_images("fashion_mnist:test")
    shown = torch.stack([tests.read(index) for index in range(20)])
    codec = open_autoencoder(str(tokenizer), "vq")
    again = codec.decode(codec.encode(shown))
    rows = {"test image": list(map(to_pil, shown)), "from tokens": list(map(to_pil, again))}
    labelled_grid(rows).save(out / "reconstructions.png")
    _edit(out)
    classes, drawn = _draw(out, 10 if quick else 100)
    rows = {name: drawn[label::10] for label, name in enumerate(classes)}
    labelled_grid(rows).save(out / "samples.png")
    measured = _measure(out, "fashion_mnist:test")
    print(f"\n{out / 'samples.png'}: ten pictures of each class")
    print(measured)
    print(f"{out / 'reconstructions.png'}: test images, and what the tokenizer makes of them")
    print(f"{out / 'edits.png'}: test images, and three times another right half")
    print("\nTry next:")
    _suggest(out, "Sneaker,Bag", "bags")
    print(f"  {_command()} train --config fashion_mnist/maskgit_nano")


def _train(name: str, overrides: list[str], out: Path) -> None:
    train(load_experiment(name, overrides))
    plot_loss(out / "log.jsonl", out / "loss.png")


def _draw(out: Path, each: int) -> tuple[list[str], list[Image.Image]]:
    """The classes of the model of a run, drawn in turn so many times, and the first pictures."""
    classes = json.loads((out / "model" / "labels.json").read_text(encoding="utf-8"))
    num = each * len(classes)
    job = Job(str(out), shown=None, num=num, seed=0, batch_size=100, kind="npz")
    images = open_images(str(sample(job, out / "samples")))
    return classes, [to_pil(images.read(index)) for index in range(min(num, 100))]


def _measure(out: Path, reference: str) -> str:
    """Writes `metrics.json` of what a run drew; says where it is, and the loss."""
    drawn = out / "samples"
    num = open_images(str(drawn)).length
    floor = num if other_images(reference, Fit()) else 0  # as many real images
    with progress_bar() as bar:
        task = bar.add_task("evaluating", total=num + floor + open_images(reference).length)
        effort = Effort(tick=lambda count: bar.advance(task, count))
        found = evaluate(drawn, reference, effort=effort)
    assert found is not None  # one process
    measured, report = found
    measured.files.remove()
    write_report(report, out / METRICS_FILE)
    return f"{out / 'loss.png'}: the loss\n{out / METRICS_FILE}: {summary(report)}"


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


def _suggest(out: Path, labels: str, folder: str) -> None:
    command = _command()
    print(f"  {command} sample --model {out} --labels {labels} --num 20 --out {folder}")
    print(f"  {command} serve {out}")


def _command() -> str:
    program = Path(sys.executable).parent / "gensynth"
    return os.path.relpath(program) if program.is_file() else "gensynth"
