"""How a row is measured: trained, drawn for the held-out captions, held against their pictures."""

import time
from functools import partial
from pathlib import Path

from gensynth.data.files.image_set import ImageSet, open_images
from gensynth.data.images import to_pil
from gensynth.errors import InputError
from gensynth.evaluation.drawn import AtHand, DrawnImages
from gensynth.evaluation.evaluate import evaluate
from gensynth.evaluation.measuring.measured import Measured
from gensynth.experiments.encoding import encode
from gensynth_benchmarks.gpu_steps.training_runs import facts, train_until
from gensynth_benchmarks.ledger import Ledger, Row
from gensynth_benchmarks.text_runs.pictures import shown, strip
from gensynth_benchmarks.text_runs.recipes import HELD_OUT, TRAINED, Trial, counted

LEAST_SECONDS = 90.0  # no row is started with fewer left: saving the state takes some
STOPPED = "stopped when the minutes were over; the same command goes on"
DRAWN_TOGETHER = 64
MEASURED = ("frechet", "retrieval")
RETRIEVED = ("retrieval_1", "retrieval_5", "style_1")
REAL = "_real"  # the same of real pictures


def measure(trial: Trial, name: str, ledger: Ledger, fingerprint: str) -> Row | None:
    """The row of a backbone, from the ledger if it is there; None if no time is left for it."""
    recipe = trial.recipe(name, fingerprint)
    latents, run = trial.work / f"latents-{fingerprint}", trial.work / f"{name}-{recipe}"
    needs = 0.0 if trial.miniature else LEAST_SECONDS
    work = partial(row, trial, name, ledger, latents, run)
    return ledger.measure(work, needs, row=name, recipe=recipe)


def row(trial: Trial, name: str, ledger: Ledger, latents: Path, run: Path) -> Row:
    """Trains a backbone, or goes on with it, and measures what it draws."""
    encode_once(trial, latents)
    whole = trial.experiment(
        name,
        "data.source=encoded",
        f"data.path='{latents}'",
        f"output='{run}'",
    )
    if train_until(whole, ledger.seconds_left) is None:
        return {"failed": STOPPED}
    _, captions = held_out(trial)
    images = open_images(str(trial.data / TRAINED)).length
    start = time.perf_counter()
    model = AtHand.loaded(str(run))
    drawn = DrawnImages(model, len(captions), batch_size=DRAWN_TOGETHER, prompts=captions)
    prompts = [captions[index] for index in shown(len(captions))]
    pictures = model.pipeline.draw(prompts, range(len(prompts)))
    strip(pictures).save(ledger.path.parent / picture(name))
    return {
        **counted(whole),
        **facts(run, whole, images),
        **scores(drawn, trial),
        "drawing_seconds": time.perf_counter() - start,
    }


def held_out(trial: Trial) -> tuple[ImageSet, list[str]]:
    """The held-out pictures and their captions.

    Raises:
        InputError: a picture without one, or none at all.
    """
    images = open_images(str(trial.data / HELD_OUT))
    captions = images.texts or []
    if not captions or not all(captions):
        raise InputError(f"{trial.data / HELD_OUT} has pictures without a caption.")
    return images, captions


def write_real(trial: Trial, folder: Path) -> list[str]:
    """Writes the held-out pictures of the prompts that are shown; gives the prompts."""
    images, captions = held_out(trial)
    chosen = shown(images.length)
    folder.mkdir(parents=True, exist_ok=True)
    strip([to_pil(images.read(index)) for index in chosen]).save(folder / picture("real"))
    return [captions[index] for index in chosen]


def encode_once(trial: Trial, folder: Path) -> None:
    """Makes the latents of the training pictures, which are the same for all rows."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        encode(trial.experiment("dico"), folder)


def scores(drawn: DrawnImages, trial: Trial) -> Row:
    """The distance to the held-out pictures and how often a picture's own caption is found.

    Beside them what as many training pictures, and the held-out pictures themselves, score.
    """
    reference, floor = (str(trial.data / name) for name in (HELD_OUT, TRAINED))
    found = evaluate(drawn, reference, metrics=MEASURED, floor=floor)
    assert found is not None  # one process
    measured, _ = found
    measured.files.remove()
    for files in measured.further:
        files.remove()
    return of_measured(measured)


def of_measured(measured: Measured) -> Row:
    headline = measured.headline
    kept: Row = {
        "metric": headline.name,
        "distance": headline.value,
        "standard_error": headline.standard_error,
        "floor": headline.floor,
        "samples": len(measured.order),
    }
    for score in measured.scores:
        if score.key in RETRIEVED:
            kept |= {score.key: score.value, score.key + REAL: score.floor}
            kept["scorer"] = score.name.partition("(")[2].rstrip(")")
    return kept


def picture(name: str) -> str:
    """The file with what a row draws for the prompts that are shown."""
    return f"text_{name}.png"
