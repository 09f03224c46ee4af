"""Which files of a hub repository a pretrained pipeline needs, and fetching them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gensynth.errors import RefusedError
from gensynth.pipelines.pretrained.families import LEFT_OUT
from gensynth.stored import INDEX, PICKLES, WEIGHTS
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
    instead = "Check the name, or give a local folder."
    with hub.asking(f"the weights of {model}", instead) as offline:
        from huggingface_hub import HfApi, snapshot_download

        if offline:  # what was fetched before has to be enough
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
    for part, entry in index.items():
        if not isinstance(entry, list) or part in LEFT_OUT:
            continue
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


def _variant(name: str) -> str | None:
    """The variant of a file of weights, "" of the plain ones; None of other files."""
    for pattern in (*WEIGHTS.values(), *INDEX.values()):
        found = pattern.fullmatch(name)
        if found:
            return found["variant"] or ""
    return None
