"""`gensynth evaluate` as a function: names in, numbers and report out."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from gensynth.conditions.prompt_files import READERS, read_prompts
from gensynth.data.files.image_set import ImageSet, open_images
from gensynth.errors import UsageError
from gensynth.evaluation.measuring.beside import Beside
from gensynth.evaluation.measuring.features import Effort, Images
from gensynth.evaluation.measuring.measure import measure
from gensynth.evaluation.measuring.measured import Measured
from gensynth.evaluation.measuring.measures import space_of
from gensynth.evaluation.references.reference import (
    Reference,
    holds_images,
    is_reference,
    read_reference,
)
from gensynth.evaluation.report.report import describe
from gensynth.metrics.extractors import Extractor, open_extractor
from gensynth.metrics.extractors.pairs import open_clip_pairs
from gensynth.preflight.measuring import check_reference
from gensynth.processes import processes
from gensynth.values import plain_text

OFFLINE = "lite0-64"  # its weights come with the package
PUBLISHED = "inception-2015"  # what published FIDs are computed with


@dataclass(frozen=True)
class Fit:
    """How images are read, see `open_images`; only real ones are brought to a size."""

    size: int | None = None
    how: str = "crop"
    level: int | None = None


@dataclass(frozen=True)
class Texts:
    """What is measured of samples that were drawn for prompts.

    Attributes:
        prompts: where the prompts of samples that are at hand stand, see `prompts_at`; None: with
            the samples, if at all.
        trained_on: pictures the model was trained on, with their captions, see `open_images`.
        clip: folder or hub id of a CLIP, for CLIP score.
    """

    prompts: str | None = None
    trained_on: str | None = None
    clip: str | None = None


def evaluate(
    samples: str | Path | Images,
    reference: str,
    num: int | None = None,
    *,
    extractor: str | None = None,
    weights: Path | None = None,
    download: bool = False,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    floor: str | None = None,
    fit: Fit | None = None,
    effort: Effort | None = None,
    texts: Texts | None = None,
) -> tuple[Measured, dict[str, Any]] | None:
    """The numbers of samples, and their report; None in all processes but the main one.

    Args:
        samples: images, or where they are, see `open_images`.
        reference: real images, or a file with their statistics, see `read_reference`.
        num: number of samples to use; None for all.
        extractor: a key of `EXTRACTORS`; None for inception-2015 with `weights`, lite0-64 without.
        weights: file or folder of the extractor's weights, where they do not come with a package.
        download: whether missing weights may be fetched.
        metrics: some of `measures.METRICS`; None for all.
        floor: other real images, whose score is the floor; None: the training pictures of `texts`,
            or see `measure`.
        texts: prompts, training pictures and a CLIP.

    Raises:
        InputError: images, weights or a reference that are missing or unreadable.
        UsageError: fewer than two images, or a name that does not exist.
        RefusedError: a reference of another extractor.
    """
    name = extractor or (OFFLINE if weights is None else PUBLISHED)
    network = open_extractor(name, weights, processes().device, download=download)
    fit = fit or Fit()
    effort = effort or Effort()
    own = Fit(level=fit.level)
    drawn = open_pictures(str(samples), own) if isinstance(samples, str | Path) else samples
    texts = texts or Texts()
    if texts.prompts is not None and isinstance(drawn, ImageSet):
        drawn = with_prompts(drawn, texts.prompts)
    beside = open_beside(texts, fit, download)
    of_file = floor is not None and is_reference(reference)  # the size is then the floor's alone
    real = open_real(reference, network, Fit() if of_file else fit)
    if floor is not None:
        others: Images | None = open_pictures(floor, fit)
    else:
        others = other_images(reference, fit) if space_of(network).floor else None
        others = others or unseen(beside.training, real, network)
    sets = {"samples": drawn, "reference": real, "trained on": beside.training}
    _say_what_is_read(sets | ({} if others is beside.training else {"floor": others}), effort)
    found = measure(drawn, real, network, num, metrics, seed, others, effort, beside)
    if found is None:
        return None
    return found, describe(found, command_line(), seed)


def open_beside(texts: Texts, fit: Fit, download: bool) -> Beside:
    """The training pictures and the CLIP of `texts`.

    Raises:
        InputError, UsageError: one of them is missing, unreadable or something else.
    """
    training = None if texts.trained_on is None else open_pictures(texts.trained_on, fit)
    clip = None if texts.clip is None else open_clip_pairs(texts.clip, download=download)
    return Beside((), training, clip)


def prompts_at(where: str) -> list[str]:
    """The prompts of a file, see `read_prompts`, or the captions of the pictures at a place.

    Raises:
        InputError: nothing there, or not readable.
        UsageError: there are no prompts.
    """
    if Path(where).suffix.lower() in READERS:
        return read_prompts(where)
    return captions_at(where)


def captions_at(where: str) -> list[str]:
    """The captions of the pictures at a place, see `open_images`.

    Raises:
        InputError: nothing there, or not readable.
        UsageError: there are no captions.
    """
    found = [text for text in open_images(where).texts or [] if text]
    if not found:
        raise UsageError(
            f"the pictures in {where} have no captions; give what is to be drawn with --prompts "
            f"FILE ({', '.join(READERS)})."
        )
    return found


def with_prompts(images: ImageSet, where: str) -> ImageSet:
    """Samples with the prompts they were drawn for, in their order.

    Raises:
        UsageError: there are not as many prompts as samples.
    """
    prompts = list(map(plain_text, prompts_at(where)))  # as captions are written
    if len(prompts) != images.length:
        raise UsageError(
            f"{where} has {len(prompts):,} prompts and {images.name} {images.length:,} samples; "
            "give one for each, in their order."
        )
    return replace(images, captions=partial(list, [[prompt] for prompt in prompts]))


def _say_what_is_read(sets: dict[str, Any], effort: Effort) -> None:
    for role, images in sets.items():
        if isinstance(images, ImageSet) and processes().is_main_process:
            effort.say(f"{role}: {images.summary}")


def other_images(reference: str, fit: Fit) -> ImageSet | None:
    """Real images that are not in the reference, where gensynth knows some."""
    if reference not in ("fashion_mnist", "fashion_mnist:test"):
        return None
    # The training images: as many of them as there are samples score what a perfect model would.
    return open_images("fashion_mnist:train", fit.size, fit.how)


def unseen(
    training: Images | None, real: ImageSet | Reference, extractor: Extractor
) -> Images | None:
    """The training pictures as real images that are not in the reference, unless they are it.

    What a file of statistics was made of is not known: perhaps of these.
    """
    if training is None or isinstance(real, Reference) or not space_of(extractor).floor:
        return None
    return None if real.fingerprint == training.fingerprint else training


def open_pictures(where: str, fit: Fit | None = None) -> ImageSet:
    """Images, see `open_images`.

    Raises:
        UsageError: a file of statistics, which holds no pictures.
        InputError: nothing there, or not readable.
    """
    fit = fit or Fit()
    if is_reference(where) and not Path(where).is_dir() and not holds_images(where):
        raise UsageError(
            f"{where} is a reference (statistics of real images), not samples or other images. "
            f"Give it with --reference {where}."
        )
    return open_images(where, fit.size, fit.how, level=fit.level)


def open_real(where: str, extractor: Extractor, fit: Fit) -> ImageSet | Reference:
    """A reference, or the images to make one of.

    Raises:
        InputError: nothing there, or not readable.
        RefusedError: it is of another extractor.
    """
    if is_reference(where):
        if fit.size is not None:
            raise UsageError(f"{where} holds statistics, which --size cannot change.")
        return read_reference(where, extractor)
    check_reference(where)
    return open_images(where, fit.size, fit.how, level=fit.level)


def command_line() -> str:
    """The command line, as the user typed it."""
    return shlex.join(["gensynth", *sys.argv[1:]])
