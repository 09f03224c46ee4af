"""Linear attention of a pipeline of diffusers as a model folder that names its base."""

import json
from pathlib import Path

from gensynth.files import write_text
from gensynth.linearize.contract import record_of
from gensynth.linearize.saving import save
from gensynth.pipelines.finding import INDEX, LINEARIZED
from gensynth.pipelines.pretrained.pipeline import PretrainedPipeline


def save_linearized(pipeline: PretrainedPipeline, folder: Path) -> None:
    """Writes what a linearized pipeline has of its own; `load` and commands take the folder.

    The weights are in the released layout of the method, which `linearize(weights=folder)` takes.

    Raises:
        UsageError: it is not linearized, or adapters are fused into its weights.
        OutputError: the folder cannot be written.
    """
    save(pipeline, folder)
    done = record_of(pipeline.network)
    assert done is not None  # `save` has refused it
    place = Path(pipeline.name)
    base = str(place.resolve()) if place.exists() else pipeline.name  # a hub id
    index = {"_class_name": LINEARIZED, "base": base, "method": done.method}
    write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")
