"""What gensynth can do with a model folder of another library, in words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gensynth import outline

# What diffusers calls a pipeline -> where its authors' weights can be taken over from.
CONVERTED = {"DiTPipeline": "gensynth convert --from dit takes the authors' own file of weights"}


def about_pipeline(folder: Path, name: str, index: Mapping[str, Any]) -> str:
    """A sentence or two about a folder whose `model_index.json` names an unknown pipeline."""
    maker = _maker(index)
    if maker is None:
        return f"{folder} holds a {name}, which gensynth does not know."
    said = f"{folder} holds a {name} of {maker}, which gensynth cannot draw with."
    if name in CONVERTED:
        said += f" {CONVERTED[name]}."
    codecs = [
        f"autoencoder.kind={kind} autoencoder.path={folder / part}"
        for part, entry in index.items()
        if isinstance(entry, list) and len(entry) == 2  # [module, class]
        for kind, classes in _codecs().items()
        if entry[1] in classes
    ]
    if codecs:
        said += f" Its autoencoder can be trained with: {' or '.join(codecs)}."
    return said


def about_model(folder: Path, config: Any) -> str | None:
    """A sentence about a folder that holds one part by itself; None if it says nothing."""
    name = config.get("_class_name") if isinstance(config, dict) else None
    if name is None:
        return None
    for kind, classes in _codecs().items():
        if name in classes:
            return (
                f"{folder} is an autoencoder by itself ({name}), which draws nothing; train with "
                f"it: autoencoder.kind={kind} autoencoder.path={folder}."
            )
    return f"{folder} is one part of a model by itself ({name}); give the folder above it."


def _codecs() -> dict[str, list[str]]:
    """Kind of autoencoder -> names of the classes that are opened as such."""
    kinds = outline.keys("gensynth.autoencoders.opening", "CLASSES")
    return {kind: outline.keys_of(classes) for kind, classes in kinds.items()}


def _maker(index: Mapping[str, Any]) -> str | None:
    """The library that wrote an index."""
    if "_diffusers_version" in index:
        return f"diffusers {index['_diffusers_version']}"
    parts = [entry[0] for entry in index.values() if isinstance(entry, list) and entry]
    return "diffusers" if "diffusers" in parts else None
