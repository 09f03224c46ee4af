"""Runs of training in a benchmark: data, speed, number of steps, how good the pictures are."""

import json
import os
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from gensynth.config import Experiment
from gensynth.data.files.image_set import ImageSet, open_images
from gensynth.data.images import labelled_grid
from gensynth.errors import Stopped, UsageError
from gensynth.evaluation.drawn import AtHand, DrawnImages
from gensynth.evaluation.measuring.features import Effort, extract, selection
from gensynth.evaluation.measuring.measure import add_floors, reference_of
from gensynth.evaluation.measuring.measured import Measured
from gensynth.evaluation.measuring.measures import frechet_scores, space_of
from gensynth.experiments.apply import MOST_COMPILED
from gensynth.experiments.read import load_experiment
from gensynth.files import read_json_lines, write_text
from gensynth.metrics.extractors import open_extractor
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.pipelines.loading import load
from gensynth.settings import Settings
from gensynth.training.loop import train
from gensynth_benchmarks.gpu_steps.common import Bench
from gensynth_benchmarks.ledger import Row
from gensynth_benchmarks.measuring import ROOT

EXTRACTOR = "lite0-64"
# Steps of the run that measures speed, and those of them before it counts: compilers at work, and
# batches that were read meanwhile.
PROBE_STEPS, WARM_STEPS = 100, 60
SAVING_SECONDS = 60.0  # kept free for the state of a run that is stopped
CURVE_POINTS = 200  # in a row
DRAWN_TOGETHER = 500
GRID_CLASSES, GRID_COLUMNS = 15, 10
TINY_SIDE, TINY_IMAGES = 16, 64  # in miniature

Make = Callable[..., Experiment]  # overrides -> experiment


@dataclass(frozen=True)
class Dataset:
    """Where images to learn from and others to compare with are; files in `--data`, or the hub."""

    name: str
    test: str  # file
    hub: str | None = None


CIFAR10 = Dataset("cifar10", "test.parquet", "uoft-cs/cifar10")
TINY_IMAGENET = Dataset("tiny-imagenet-45", "validation.parquet")


def experiment(bench: Bench, dataset: Dataset, config: str, *overrides: str) -> Experiment:
    """An experiment of configs/ on the data at hand; of tiny grey pictures in miniature.

    Raises:
        UsageError: there are no such data.
    """
    given = list(overrides)
    folder = None if bench.data is None else bench.data / dataset.name
    if folder is not None:
        given += ["data.source=parquet", f"data.path={json.dumps(str(folder))}"]
    if bench.miniature:
        given += [
            f"data.size={TINY_SIDE}",
            "data.workers=0",
            "training.batch_size=4",
            "training.log_every=1",
            "training.compile=false",
        ]
    if folder is None and bench.miniature:
        given += ["data.source=fashion_mnist", "data.path=null", "data.channels=1", "data.fit=pad"]
    elif folder is None and dataset.hub is None:
        raise UsageError(f"{dataset.name} is not on the hub; give the folder above it as --data.")
    return load_experiment(ROOT / "configs" / config, given)


def real_images(bench: Bench, dataset: Dataset) -> tuple[ImageSet, ImageSet]:
    """Images that nothing was trained on, and those of the training; a handful in miniature."""
    if bench.data is not None:
        folder = bench.data / dataset.name
        places = [str(folder / dataset.test), str(folder / "train.parquet")]
    else:
        source = "fashion_mnist" if bench.miniature else f"hub:{dataset.hub}"
        places = [f"{source}:test", f"{source}:train"]
    if not bench.miniature:
        test, training = map(open_images, places)
        return test, training
    test, training = (
        replace(
            found := open_images(place, TINY_SIDE, "pad"),
            length=TINY_IMAGES,
            fingerprint=f"{TINY_IMAGES} of {found.fingerprint}",
        )
        for place in places
    )
    return test, training


def plan(folder: Path, make: Make, seconds: float, miniature: bool) -> Row:
    """How many steps take so many seconds, measured once for a folder and kept beside the run.

    Args:
        make: gives the experiment with further overrides.
    """
    path = folder / "plan.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    steps, warm = (4, 2) if miniature else (PROBE_STEPS, WARM_STEPS)
    rate = speed(make, folder / "probe", steps, warm)
    batch = make().training.batch_size
    count = 4 if miniature else max(1, int(seconds * rate / batch))
    found = {"steps": count, "probed_images_per_second": rate, "run": secrets.token_hex(4)}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(found) + "\n")
    return found


def speed(make: Make, folder: Path, steps: int, warm: int) -> float:
    """Images per second of a run's steps after the first `warm`, as it logs them."""
    shutil.rmtree(folder, ignore_errors=True)
    every = max(1, (steps - warm) // 4)
    probe = make(
        f"output={json.dumps(str(folder))}",
        f"training.steps={steps}",
        f"training.log_every={every}",
        "sampling.every=0",
        "evaluation.every=0",
    )
    entries = read_json_lines(train(probe) / "log.jsonl")
    seconds = [1 / entry["images_per_second"] for entry in entries if entry["step"] > warm]
    shutil.rmtree(folder)
    return len(seconds) / sum(seconds)


def train_until(experiment: Experiment, seconds: float) -> Path | None:
    """The folder of the finished run; none if it was stopped, with its state saved, in time.

    Raises:
        Stopped: somebody else asked it to stop.
    """
    folder = Path(experiment.output)
    if (folder / "model").is_dir():
        return folder
    asked, over = threading.Event(), threading.Event()

    def interrupt() -> None:
        if not over.wait(max(0.0, seconds - SAVING_SECONDS)):
            asked.set()
            while not over.is_set():  # again, if the run did not listen yet
                os.kill(os.getpid(), signal.SIGTERM)
                over.wait(1.0)

    # Before the run listens, and after it, the signal must not end the program.
    previous = signal.signal(signal.SIGTERM, lambda number, frame: None)
    clock = threading.Thread(target=interrupt, daemon=True)
    clock.start()
    try:
        return train(experiment)
    except Stopped:
        if not asked.is_set():
            raise
        return None
    finally:
        over.set()
        clock.join()
        signal.signal(signal.SIGTERM, previous)


def facts(run: Path, experiment: Experiment, images: int) -> Row:
    """What the log of a finished run says: steps, speed, loss and its curve.

    Args:
        images: of the training data.
    """
    entries = read_json_lines(run / "log.jsonl")
    steps, batch = entries[-1]["step"], experiment.training.batch_size
    newest = sorted((run / "checkpoints").glob("step-????????"))[-1]
    seconds = json.loads((newest / "training.json").read_text())["seconds"]
    # Without what regularizers add.
    losses = {entry["step"]: entry.get("denoising", entry["loss"]) for entry in entries}
    last = [loss for step, loss in losses.items() if step > 0.95 * steps]
    return {
        "steps": steps,
        "epochs": steps * batch / images,
        "seconds": seconds,
        "images_per_second": steps * batch / seconds,
        "data_wait": sum(entry["data_wait"] for entry in entries) / len(entries),
        "loss": sum(last) / len(last),
        "curve": thinned(list(losses.items())),
    }


def thinned(points: Sequence[tuple[int, float]], most: int = CURVE_POINTS) -> list[list[float]]:
    """At most so many points: the last step and the mean of each group of neighbours."""
    size = -(-len(points) // most)
    groups = [points[first : first + size] for first in range(0, len(points), size)]
    return [[group[-1][0], round(sum(y for _, y in group) / len(group), 5)] for group in groups]


def drawing(bench: Bench, folder: Path) -> ClassConditionalPipeline:
    """The pipeline of a folder made fast: in bfloat16 with compiled blocks on a GPU."""
    torch._dynamo.config.recompile_limit = MOST_COMPILED
    pipeline = load(folder, bench.device)
    fast = bench.device == "cuda" and not bench.miniature
    if fast:
        pipeline.model.to(torch.bfloat16)
    pipeline.optimize(compile={"dynamic": False} if fast else False)
    return pipeline


def distance(
    bench: Bench,
    dataset: Dataset,
    pipeline: ClassConditionalPipeline,
    num: int,
    settings: Settings | None = None,
    seed: int = 0,
) -> Row:
    """FD(lite0-64) of `num` pictures of balanced labels to test images, and its floor.

    The floor is what as many training images score against the same test images.
    """
    start = time.perf_counter()
    settings = settings or Settings()
    if bench.miniature:
        num, settings = 16, settings.but(steps=2)
    model = AtHand("the model", pipeline, secrets.token_hex(16))
    drawn = DrawnImages(model, num, seed, batch_size=DRAWN_TOGETHER, settings=settings)
    extractor = open_extractor(EXTRACTOR, None, torch.device(bench.device))
    test, training = real_images(bench, dataset)
    effort = Effort(workers=0 if bench.miniature else 4)
    real = extract(test, range(test.length), extractor, effort)
    spare = extract(training, selection(training.length, num, 0), extractor, effort)
    files = extract(drawn, range(num), extractor, effort)
    reference = reference_of(test, real, extractor)
    headline = space_of(extractor).headline
    scores = frechet_scores(extractor, files, reference)
    score = next(score for score in scores if score.key == headline)
    found = Measured(drawn, range(num), files, reference, extractor, [score])
    add_floors(found, real, spare, training)
    files.remove()
    return {
        "metric": score.name,
        "distance": score.value,
        "standard_error": score.standard_error,
        "floor": score.floor,
        "samples": num,
        "computed_in": str(pipeline.model.dtype).removeprefix("torch."),
        "drawing_seconds": time.perf_counter() - start,
    }


def write_grid(
    bench: Bench,
    pipeline: ClassConditionalPipeline,
    name: str,
    settings: Settings | None = None,
) -> str:
    """Draws a row of pictures for each of the first classes; the name of the PNG in `bench.out`."""
    classes = pipeline.classes[: 2 if bench.miniature else GRID_CLASSES]
    columns = 2 if bench.miniature else GRID_COLUMNS
    settings = settings or Settings()
    if bench.miniature:
        settings = settings.but(steps=2)
    labels = [label for label in range(len(classes)) for _ in range(columns)]
    pictures = pipeline.draw(labels, range(len(labels)), settings)
    rows = {
        title: pictures[row * columns : (row + 1) * columns] for row, title in enumerate(classes)
    }
    bench.out.mkdir(parents=True, exist_ok=True)
    labelled_grid(rows, text_width=130).save(bench.out / name)
    return name
