"""What the evaluations of a run measure with: a feature space, and real images in it."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gensynth.config import Data, Experiment
from gensynth.data.files.image_set import ImageSet
from gensynth.data.images import UNREADABLE
from gensynth.data.sources import Source
from gensynth.data.training import prepare
from gensynth.errors import DeviceMemoryError, InputError, RefusedError, UsageError
from gensynth.evaluation.drawn import AtHand, DrawnImages
from gensynth.evaluation.evaluate import Fit, open_real, other_images
from gensynth.evaluation.measuring.features import (
    Effort,
    FeatureFiles,
    Images,
    extract,
    feature_files,
    selection,
)
from gensynth.evaluation.measuring.measure import add_floors, reference_of
from gensynth.evaluation.measuring.measured import Measured
from gensynth.evaluation.measuring.measures import COMPUTE, Score, space_of
from gensynth.evaluation.references.reference import Reference, is_reference
from gensynth.metrics.extractors import open_extractor
from gensynth.processes import processes
from gensynth.training.session.faults import Abandoned, StopRequest
from gensynth.training.watching.log import TrainingLog

MOST_REAL = 10_000  # training images that stand for all of them
TESTS = "fashion_mnist:test"  # real images of a run on the bundled data


class Yardstick:
    """Measures pictures as the `evaluation:` section says; every process has one.

    Raises:
        InputError, UsageError, RefusedError: the reference or the extractor cannot be used; the
            message names the field.
    """

    def __init__(self, experiment: Experiment, source: Source, stop: StopRequest):
        self.settings, self.stop = experiment.evaluation, stop
        self.workers = experiment.data.workers
        name, weights = self.settings.extractor, self.settings.weights
        with naming("evaluation.weights" if weights else "evaluation.extractor"):
            self.extractor = open_extractor(name, weights, processes().device)
        self.reference: Reference | None = None  # of images, only in the main process
        self.real: Images | None = None
        self.real_files: FeatureFiles | None = None
        # For the floor: real images that are not in the reference.
        self.others: Images | None = None
        self.other_files: FeatureFiles | None = None
        self.drawing: dict[str, Any] = {}  # of the latest pictures
        with naming("evaluation.reference"):
            self._open(self.settings.reference, experiment.data, source)
        self.prompts = self._prompts(source) if source.captioned else None

    def _open(self, where: str | None, data: Data, source: Source) -> None:
        if where is None and data.source != "fashion_mnist":
            self.real = training_images(source, data)
            return
        where = where or TESTS
        fit = Fit() if is_reference(where) else Fit(data.size, data.fit, data.class_level)
        found = open_real(where, self.extractor, fit)
        if isinstance(found, Reference):
            self.reference = found
            self._check_reference(found)
            return
        self.real = found
        self.others = other_images(where, fit)

    def _prompts(self, source: Source) -> list[str]:
        """The captions of the reference, or else some of the training pictures'."""
        known = None if self.real is None else self.real.texts
        if known is not None:
            return [caption for caption in known if caption]
        captions = source.some_captions()
        return [captions[at] for at in selection(len(captions), self.settings.num, seed=0)]

    def _check_reference(self, reference: Reference) -> None:
        space = space_of(self.extractor)
        feature = space.frechet.get(space.headline)
        there = reference.features if feature is None else reference.statistics
        if (feature or space.main) not in there:
            raise UsageError(
                f"{reference.name} holds nothing of {feature or space.main} of "
                f"{self.extractor.name}. Give images."
            )

    def prepare(self, log: TrainingLog) -> None:
        """Extracts the features of the real images, unless they are in the cache.

        Raises:
            InputError: one of them cannot be read.
        """
        if self.real is None:
            return
        if isinstance(self.real, ImageSet) and self.real.summary:
            log.say(f"evaluation.reference: {self.real.summary}")
        order = range(self.real.length)
        drawn = selection(
            self.others.length if self.others else 0, self.settings.num, self.settings.seed
        )
        with (
            naming("evaluation.reference"),
            log.counting("real images", len(order) + len(drawn)) as tick,
        ):
            self.real_files = self._extract(self.real, order, tick)
            if self.others is not None:
                self.other_files = self._extract(self.others, drawn, tick)
            stopping = self.stop.agreed()
            if processes().is_main_process and not stopping:
                self.reference = reference_of(self.real, self.real_files, self.extractor)

    def _extract(
        self, images: Images, order: Sequence[int], tick: Callable[[int], None]
    ) -> FeatureFiles:
        """Features of images, of which some are missing if the run should stop."""
        effort = Effort(workers=self.workers, tick=tick)
        return extract(Interruptible(images, self.stop), order, self.extractor, effort)

    def measure(self, model: AtHand, log: TrainingLog) -> Score | None:
        """The score of a model's pictures; None in all processes but the main one.

        None also if the pictures are all alike, as they may be early in training.

        Raises:
            Abandoned: the run should stop.
            DeviceMemoryError: too many pictures at once.
        """
        num, batch_size = self.settings.num, self.settings.batch_size
        images = DrawnImages(
            model,
            num,
            self.settings.seed,
            batch_size=batch_size,
            on_step=self.stop.watch,
            prompts=self.prompts,
        )
        self.drawing = {
            "label_rule": images.label_rule,
            "steps": images.resolved.steps,
            "guidance": images.resolved.guidance,
        }
        files = feature_files(images, range(num), self.extractor)
        try:
            with log.counting("evaluation", num) as tick:
                self._extract(images, range(num), tick)
            if self.stop.agreed():
                raise Abandoned
            return self._score(images, files, log) if processes().is_main_process else None
        except (DeviceMemoryError, torch.OutOfMemoryError) as error:
            fewer = f"evaluation.batch_size={batch_size // 2}"
            advice = fewer if batch_size > 1 else "evaluation.every=0 for none, or another device"
            raise DeviceMemoryError(
                f"out of memory in an evaluation, with {batch_size} pictures at once. Try "
                f"{advice}; nothing of the run is lost."
            ) from error
        finally:
            if processes().is_main_process:
                files.remove()

    def _score(self, images: Images, files: FeatureFiles, log: TrainingLog) -> Score | None:
        assert self.reference is not None
        space = space_of(self.extractor)
        name = "frechet" if space.headline in space.frechet else space.headline
        # One after the other: the distances in wide features, which come last, are never computed.
        scores = COMPUTE[name](self.extractor, files, self.reference)
        try:
            score = next(score for score in scores if score.key == space.headline)
        except InputError as error:
            log.say(f"{images.name} are not evaluated: {error}")
            return None
        if space.floor and self.real_files is not None:
            order = range(files.count)
            found = Measured(images, order, files, self.reference, self.extractor, [score])
            add_floors(found, self.real_files, self.other_files, self.others)
        return score

    def facts(self) -> dict[str, Any]:
        """What the latest value depends on, besides the model."""
        assert self.reference is not None
        return {
            "num_samples": self.settings.num,
            "extractor_fingerprint": self.extractor.fingerprint,
            "reference": (self.real or self.reference).name,
            "reference_sha256": self.reference.images_sha256 or self.reference.statistics_sha256,
            **self.drawing,
        }


class Interruptible:
    """Images that end early once the run should stop.

    Nothing is raised: the other processes would wait for this one for ever.
    """

    def __init__(self, images: Images, stop: StopRequest):
        self.images, self.stop = images, stop
        self.name, self.length = images.name, images.length
        self.fingerprint, self.lossy = images.fingerprint, images.lossy
        self.labels, self.classes = images.labels, images.classes

    @property
    def texts(self) -> Sequence[str] | None:
        return self.images.texts

    def read(self, index: int) -> Tensor:
        return self.images.read(index)

    def batches(
        self, indices: Sequence[int], batch_size: int, workers: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        try:
            for batch in self.images.batches(indices, batch_size, workers):
                self.stop.watch()
                yield batch
        except Abandoned:
            return


def training_images(source: Source, data: Data) -> ImageSet:
    """The images of a run as it sees them, without random crops and flips."""
    assert not source.streamed
    chosen = selection(len(source.rows), MOST_REAL, seed=0)
    shown = data.model_dump(include={"size", "channels", "fit", "exif_rotate"})
    stamp = f"{source.stamp()} sRGB {len(chosen)} {json.dumps(shown, sort_keys=True)}"
    return ImageSet(
        f"{len(chosen):,} training images",
        len(chosen),
        partial(_training_image, source, data, chosen),
        hashlib.sha256(stamp.encode()).hexdigest(),
    )


def _training_image(source: Source, data: Data, chosen: Sequence[int], index: int) -> Tensor:
    row = chosen[index]
    try:
        return prepare(source.rows[row], data)
    except UNREADABLE as error:
        raise InputError(f"{source.name_of(row)} cannot be read: {error}.") from error


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Adds to an error of the block the field of the experiment that it is about."""
    try:
        yield
    except (InputError, RefusedError, UsageError) as error:
        raise type(error)(f"{field}: {error}") from error
