"""Where a model is that is given by name, folder, run or hub id. Nothing heavy is imported."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gensynth.errors import CorruptError, InputError, RefusedError, nearest
from gensynth.files import PICKLES, json_in
from gensynth.models.known import model_names
from gensynth.pipelines.pretrained.families import FAMILIES
from gensynth.pretrained import PRETRAINED
from gensynth.system import hub, outline
from gensynth.system.disk import at_home

INDEX = "model_index.json"
LINEARIZED = "LinearizedPipeline"  # what the index of linear attention for a pipeline calls it
# What diffusers calls a pipeline -> where its authors' weights can be taken over from.
CONVERTED = {"DiTPipeline": "gensynth convert --from dit takes the authors' own file of weights"}


def resolve(model: str | Path) -> Path:
    """The pipeline folder that a model argument of `load` means.

    Raises:
        InputError: there is no such model, the folder is not one, or the hub cannot be reached.
        RefusedError: it is a pickle.
    """
    if str(model) in PRETRAINED:
        return PRETRAINED[str(model)]
    path = Path(at_home(str(model)))
    if path.is_file():
        if path.suffix in PICKLES:
            raise RefusedError(
                f"{path} is a pickle file, which can run code when loaded. Give a model folder "
                "with safetensors; gensynth convert makes one of a published checkpoint."
            )
        raise InputError(f"{path} is a file; give the model's folder.")
    if path.is_dir():
        return _pipeline_folder(path)
    about = about_architecture(str(model))
    if about is not None:
        raise InputError(about)
    near = _nearest_model(path)
    hint = f" Did you mean {near!r}?" if near else ""
    if hub.is_id(str(model)):
        return _from_hub(str(model), hint)
    raise InputError(
        f"there is no model {str(model)!r}: not a folder here, not a hub id (owner/name), and not "
        f"one that comes with gensynth ({', '.join(PRETRAINED)}).{hint}"
    )


def parts_folder(model: str | Path) -> Path:
    """The folder of the parts that a model draws with.

    Where that is a pipeline of diffusers with linear attention, it is the folder of the pipeline.

    Raises:
        InputError, RefusedError, CorruptError: as `resolve` and `base_of`.
    """
    folder = resolve(model)
    index = json_in(folder / INDEX)
    linear = isinstance(index, dict) and index.get("_class_name") == LINEARIZED
    return resolve(base_of(folder, index)) if linear else folder


def base_of(folder: Path, index: Mapping[str, Any]) -> str:
    """The pipeline of diffusers that linear attention in a folder is for: a folder or hub id.

    Raises:
        CorruptError: the folder does not say.
        InputError: it is a folder that is not there any more.
    """
    base = index.get("base")
    if not isinstance(base, str) or not isinstance(index.get("method"), str):
        raise CorruptError(f"{folder / INDEX} does not say which pipeline was linearized, and how.")
    if not hub.is_id(base) and not Path(base).is_dir():
        raise InputError(
            f"{folder} is linear attention for the pipeline {base}, which is not there. If it has "
            f'moved, write its folder or hub id as "base" into {folder / INDEX}.'
        )
    return base


def _nearest_model(path: Path) -> str | None:
    """The model whose path or name is nearly `path`; None if there is none."""
    place = Path(path.anchor)
    *above, last = path.parts[len(place.parts) :] or ("",)
    for part in above:
        if not (place / part).is_dir():
            close = nearest(part, _folders(place), any_case=True)
            if close is None:
                return None
            part = close
        place /= part
    known = [name for name in _folders(place) if _index_in(place / name)]
    close = nearest(last, [*known, *(PRETRAINED if place == Path() else ())], any_case=True)
    return None if close is None else str(place / close)


def _folders(place: Path) -> list[str]:
    try:
        return [one.name for one in place.iterdir() if one.is_dir()]
    except OSError:  # not there, or nothing that may be looked into
        return []


def about_architecture(name: str) -> str | None:
    """What to do with the name of an architecture, which has no weights; None for other names."""
    from gensynth.config.shipped import shipped_configs  # imports pydantic

    proper = {known.lower(): known for known in model_names()}.get(name.lower())
    if proper is None:
        return None
    said = f"{proper} is an architecture, without weights."
    families = outline.literal("gensynth.preflight.converting", "FAMILIES")
    system = next((one for one, start in families.items() if proper.startswith(start)), None)
    if system is not None and "nano" not in proper:
        said += f" Turn published weights into a model: gensynth convert --from {system} --help."
    own = re.compile(rf"^  name: {re.escape(proper)}$", re.MULTILINE)
    trained = [key for key, file in shipped_configs().items() if own.search(file.read_text())]
    if trained:
        at_hand = [key for key in trained if key.startswith("fashion_mnist/")]  # needs no network
        said += f" Train one: gensynth train --config {[*at_hand, *trained][0]}."
    return f"{said} Models with weights that come with gensynth: {', '.join(PRETRAINED)}."


def _pipeline_folder(path: Path) -> Path:
    found = _index_in(path)
    if found is not None:
        return found
    about = about_model(path, json_in(path / "config.json"))
    raise InputError(
        about or f"{path} is neither a model folder nor a run with a checkpoint: no {INDEX} there."
    )


def _index_in(path: Path) -> Path | None:
    """The pipeline folder of a model or run; None if it has none."""
    finished = [path, path / "model"]
    unfinished = sorted(path.glob("checkpoints/step-????????/model"), reverse=True)
    return next((f for f in [*finished, *unfinished] if (f / INDEX).is_file()), None)


def _from_hub(name: str, hint: str) -> Path:
    instead = f"Check the name, or use one of: {', '.join(PRETRAINED)}.{hint}"
    with hub.asking(f"there is no folder {name!r} here, and as a hub id it", instead) as offline:
        from huggingface_hub import snapshot_download

        def fetched(*patterns: str) -> Path:
            chosen = list(patterns)
            return Path(snapshot_download(name, allow_patterns=chosen, local_files_only=offline))

        # Neither pickles nor Python files: nothing that could run. Words of tokenizers are texts.
        folder = fetched("*.json", "*.md", "*.txt", "*.model")
        if pretrained_class(json_in(folder / INDEX)) is not None:
            return folder  # of its weights, of which there are many, `load` fetches some
        return fetched("*.json", "*.safetensors", "*.md")


def pretrained_class(index: Any) -> str | None:
    """The pipeline of diffusers that an index names, if it can be drawn with."""
    name = index.get("_class_name") if isinstance(index, dict) else None
    return name if isinstance(name, str) and name in FAMILIES else None


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


def known_pipelines(own: Iterable[str]) -> str:
    """A sentence with what can be drawn with."""
    return f"Its own pipelines: {', '.join(own)}. Of diffusers: {', '.join(FAMILIES)}."


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
