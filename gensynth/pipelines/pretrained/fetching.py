"""Which files of a hub repository a pretrained pipeline needs, and fetching them."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gensynth.conditions.encoder_files import OLDER_WORDS
from gensynth.errors import GensynthError, RefusedError
from gensynth.files import PICKLES
from gensynth.pipelines.pretrained.families import LEFT_OUT
from gensynth.stored import INDEX, WEIGHTS, choose_variant, weight_files
from gensynth.system import hub


def with_weights(model: str, folder: Path, index: Mapping[str, Any], variant: str | None) -> Path:
    """The folder of a pipeline with the weights that it is loaded from.

    That of a hub id has only what is small, see `finding.resolve`; of the weights there, which
    together are many times a pipeline, one variant is fetched.

    Raises:
        InputError: they cannot be fetched.
        RefusedError: they are pickles.
    """
    if Path(model).exists() or not hub.is_id(model):
        return folder
    instead = "Load it once where there is a network, or give a local folder."
    with hub.asking(f"the weights of {model}", instead) as offline:
        from huggingface_hub import HfApi, snapshot_download

        if offline:  # what was fetched before has to be enough
            _check_fetched(model, folder, index, variant)
            return folder
        names = HfApi().list_repo_files(model, revision=folder.name)
        wanted = weights_of(model, names, index, variant)
        return Path(snapshot_download(model, revision=folder.name, allow_patterns=wanted))


def weights_of(
    model: str, names: Sequence[str], index: Mapping[str, Any], variant: str | None
) -> list[str]:
    """The files of weights among the names of a repository.

    Of each part the variant that is asked for, where it has it, else the plain ones, else all that
    there are, among which loading will ask to choose.

    Raises:
        RefusedError: a part has pickles alone.
    """
    wanted: list[str] = []
    for part in parts_in(index):
        there = [name for name in names if name.startswith(f"{part}/") and name.count("/") == 1]
        variants = {name: _variant(Path(name).name) for name in there}
        known = {name: found for name, found in variants.items() if found is not None}
        if not known and any(name.endswith(PICKLES) for name in there):
            raise RefusedError(
                f"{model} has the weights of its {part} as pickles only, which can run code when "
                "loaded; take a repository with safetensors."
            )
        asked = variant or ""
        chosen = asked if asked in known.values() else ""
        wanted += [n for n, found in known.items() if found == chosen] or list(known)
    return wanted


def parts_in(index: Mapping[str, Any]) -> list[str]:
    """The parts of a pipeline that are loaded, by its `model_index.json`."""
    return [
        part
        for part, entry in index.items()
        if isinstance(entry, list) and part not in LEFT_OUT and entry != [None, None]
    ]


def loaded_files(folder: Path, index: Mapping[str, Any], variant: str | None) -> list[Path]:
    """The files of a pipeline's folder that decide what it draws, beside its index.

    Raises:
        InputError, CorruptError, RefusedError: weights that are not there; as loading says.
    """
    found: list[Path] = []
    for part in parts_in(index):
        names = [file for file in (folder / part).iterdir() if file.is_file()]
        found += [file for file in names if file.name in OLDER_WORDS]
        found += [file for file in names if file.suffix == ".json" and _variant(file.name) is None]
    chosen = choose_variant(_weighty(folder, index), variant)
    return found + [file for place, one in chosen.items() for file in weight_files(place, one)]


def _weighty(folder: Path, index: Mapping[str, Any]) -> list[Path]:
    """The folders of parts that have weights."""
    return [
        folder / part for part in parts_in(index) if not part.startswith(("scheduler", "tokenizer"))
    ]


def _check_fetched(model: str, folder: Path, index: Mapping[str, Any], variant: str | None) -> None:
    """Whether the weights of a hub id are on this machine, all of them.

    Raises:
        LocalEntryNotFoundError: they are not; `hub.asking` says why they cannot be fetched.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        chosen = choose_variant(_weighty(folder, index), variant)
        for place, one in chosen.items():
            weight_files(place, one)
    except (OSError, GensynthError) as error:
        raise LocalEntryNotFoundError("some of them are not on this machine") from error
    taken = {one for one in chosen.values() if one is not None}
    if variant is None and taken:
        print(
            f"note: without a network the weights of {model} that are on this machine are used, "
            f"variant {', '.join(sorted(taken))}.",
            file=sys.stderr,
        )


def _variant(name: str) -> str | None:
    """The variant of a file of weights, "" of the plain ones; None of other files."""
    for pattern in (*WEIGHTS.values(), *INDEX.values()):
        found = pattern.fullmatch(name)
        if found:
            return found["variant"] or ""
    return None
