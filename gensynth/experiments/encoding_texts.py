"""The captions of an experiment's data through its frozen text encoder once."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from gensynth.conditions.text_encoder import FrozenTextEncoder
from gensynth.conditions.texts import SMALL, Texts
from gensynth.config import Data, Experiment
from gensynth.data.announce import announced
from gensynth.data.encoded.prompts import EncodedPrompts, PromptRecord, write_prompts
from gensynth.data.encoded.texts import FOLDER, EncodedTexts, TextRecord, write_texts
from gensynth.data.source import Source
from gensynth.data.sources import open_source
from gensynth.errors import OutputError, RefusedError, UsageError
from gensynth.experiments.build import reads_texts
from gensynth.experiments.distilling.teacher import open_teacher
from gensynth.files import new_folder
from gensynth.pipelines.pretrained.prompts import PipelinePrompts
from gensynth.processes import processes
from gensynth.progress import progress_bar


def encode_texts(experiment: Experiment, out: Path) -> TextRecord | PromptRecord:
    """Encodes each different caption of an experiment into the folder `texts` of `out`.

    `out` may hold encoded images. Each caption is encoded by itself, so that training finds the
    same numbers as it would have made.

    Raises:
        UsageError: the experiment has no frozen text encoder, or there are several processes.
        RefusedError: `out` has texts already.
        InputError, CorruptError: data or encoder are missing or damaged.
        OutputError: the disk is full or not writable.
    """
    encoder = frozen_encoder(experiment)
    write: Any = write_texts if isinstance(encoder, FrozenTextEncoder) else write_prompts
    if processes().num_processes > 1:
        raise UsageError("gensynth encode is one process; start it without torchrun or accelerate.")
    folder = out / FOLDER
    if folder.exists():
        raise RefusedError(f"{folder} exists already; remove it, or choose another --out.")
    source = announced(open_source(experiment.data, texts=True), experiment.data)
    try:
        with new_folder(folder) as temporary, progress_bar() as bar:
            task = bar.add_task("encoding", total=None)
            texts = bar.track(_different(source), task_id=task)
            record: TextRecord | PromptRecord = write(temporary, texts, encoder, processes().device)
            return record
    except OSError as error:
        raise OutputError(
            f"the encoding into {folder} cannot go on: {error}. Nothing is left of it; free some "
            "space or mend the disk, and run the same command again."
        ) from error


def frozen_encoder(experiment: Experiment) -> FrozenTextEncoder | PipelinePrompts:
    """What reads the captions of an experiment and is not trained.

    Raises:
        UsageError: there is none.
    """
    shown = experiment.condition
    if experiment.objective.name == "distill":
        return frozen_of(experiment.objective.teacher)
    if not reads_texts(experiment):
        raise UsageError(
            f"the captions are not needed by a model of {shown.kind}, so there is nothing to "
            "encode; set condition.kind=text and condition.encoder to a text encoder."
        )
    if shown.encoder == SMALL:
        raise UsageError(
            "condition.encoder is small, which changes as it is trained with the model, so that "
            "captions cannot be encoded once; set it to a folder or hub id of a text encoder."
        )
    return FrozenTextEncoder(shown.encoder, shown.length)


def frozen_of(teacher: str) -> FrozenTextEncoder | PipelinePrompts:
    """What reads the captions of a teacher.

    Raises:
        UsageError: nothing does, or its own small encoder, which its network has inside.
    """
    pipeline = open_teacher(teacher)
    condition = pipeline.condition
    if isinstance(condition, PipelinePrompts):
        condition.inner.to(processes().device)
        return condition
    if not isinstance(condition, Texts) or condition.frozen is None:
        raise UsageError(
            f"the teacher {teacher} has no text encoder beside its network, so there is nothing to "
            "encode; leave --text out."
        )
    return condition.frozen


def use_encoded_texts(condition: object, data: Data) -> None:
    """Lets the frozen encoder of a condition, if it has one, take what is encoded from the data.

    Raises:
        UsageError: `data.texts` without a frozen encoder, or made by another.
        InputError, CorruptError: as `EncodedTexts`.
    """
    frozen: FrozenTextEncoder | PipelinePrompts | None = None
    if isinstance(condition, PipelinePrompts):
        frozen = condition
    elif isinstance(condition, Texts):
        frozen = condition.frozen
    if data.texts is not None and frozen is None:
        raise UsageError(
            "data.texts holds captions for a frozen text encoder, and this experiment has none; "
            "leave data.texts out (or, without a teacher, set condition.kind=text and "
            "condition.encoder)."
        )
    folder = Path(data.texts or data.path or "") / FOLDER
    if frozen is not None and (data.texts or (data.source == "encoded" and folder.is_dir())):
        if isinstance(frozen, PipelinePrompts):
            frozen.encoded = EncodedPrompts(folder, frozen)
        else:
            frozen.encoded = EncodedTexts(folder, frozen)


def _different(source: Source) -> Iterator[str]:
    """ "Nothing", then every caption once."""
    seen = {""}
    yield ""
    for text in chain.from_iterable(source.captions()):
        if text not in seen:
            seen.add(text)
            yield text
