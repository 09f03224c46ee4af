"""Files of weights in the released layouts, from a hub id, a folder or a file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gensynth.errors import CorruptError, InputError, OutputError, RefusedError, first_line
from gensynth.files import temporary_for, write_text
from gensynth.system import hub

ENDING = ".safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def find(weights: str | Path, wanted: Sequence[str], beside: Sequence[str], hint: str) -> Path:
    """The file or folder called `weights`; if there is none, the files of that hub id.

    Args:
        weights: a path; "owner/name" of the hub, or "owner/name/file.safetensors".
        wanted: patterns of the files of weights to fetch, where no file is named.
        beside: patterns of what else is fetched.
        hint: a sentence for those who ask for what the hub has not.

    Raises:
        InputError: there is nothing of that name, here or on the hub.
    """
    path = Path(weights).expanduser()
    if path.exists():
        return path
    words = str(weights).split("/")
    owner = "/".join(words[:2])
    named = len(words) == 3 and words[2].endswith(ENDING)
    if not hub.is_id(owner) or not (len(words) == 2 or named) or words[1].endswith(ENDING):
        raise InputError(
            f"there is no file or folder of weights {str(weights)!r}; give one, or the id of a "
            "model of the hub (owner/name)."
        )
    what = f"there are no weights {str(weights)!r} here, and as a hub id they"
    instead = "Fetch the model where there is a network, and give its folder."
    with hub.asking(what, instead) as offline:
        from huggingface_hub import snapshot_download

        patterns = words[2:] if named else list(wanted)
        allowed = [*patterns, *beside]
        folder = Path(snapshot_download(owner, allow_patterns=allowed, local_files_only=offline))
    if not any(found for pattern in patterns for found in folder.glob(pattern)):
        where = " on this machine, and cannot be asked for more" if offline else ""
        raise InputError(f"{owner} has no {', '.join(patterns)}{where}. {hint}")
    return folder / words[2] if named else folder


def read(files: Sequence[Path]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors in some files of safetensors, and what is said beside them.

    Raises:
        InputError: a file is missing.
        RefusedError: a file of another kind, such as a pickle.
        CorruptError: a damaged file, or tensors that are not of finite numbers.
    """
    tensors: dict[str, Tensor] = {}
    said: dict[str, str] = {}
    for file in files:
        if not file.is_file():
            raise InputError(f"there is no file of weights {file}.")
        if file.suffix != ENDING:
            raise RefusedError(
                f"{file} is no file of safetensors, and reading others could run code. Ask its "
                "author for safetensors."
            )
        try:
            with safe_open(file, "pt") as stored:
                said.update(stored.metadata() or {})
                tensors.update({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CorruptError(
                f"{file} is damaged: {first_line(error)[:200]}. Fetch it again."
            ) from error
    _check_finite(tensors, files)
    return tensors, said


def _check_finite(tensors: Mapping[str, Tensor], files: Sequence[Path]) -> None:
    for name, tensor in tensors.items():
        # a sum is not finite if one of its terms is not; such tensors are looked at again
        if tensor.is_floating_point() and not tensor.float().sum().isfinite():
            if tensor.isfinite().all():
                continue
            raise CorruptError(
                f"{files[0].parent}: {name} is not of finite numbers. Take an earlier "
                "checkpoint, or fetch the weights again."
            )


def refuse_without(folder: Path) -> NoReturn:
    """Says what to do about a folder without safetensors.

    Raises:
        RefusedError: it has weights in pickles.
        InputError: it has none at all.
    """
    if any(file for pattern in PICKLES for file in folder.glob(pattern)):
        raise RefusedError(
            f"{folder} has its weights in pickles only, and reading them could run code. Ask their "
            "author for safetensors."
        )
    raise InputError(f"{folder} has no weights (*{ENDING}).")


def write(
    folder: Path,
    name: str,
    tensors: Mapping[str, Tensor],
    said: Mapping[str, str],
    config: Mapping[str, Any] | None = None,
) -> None:
    """Writes tensors, what is said beside them, and a config.json into a folder.

    Each file is whole or absent, and takes the place of one of the same name.

    Raises:
        OutputError: it cannot be written; the message says why.
    """
    stored = {n: t.detach().cpu().contiguous() for n, t in tensors.items()}
    temporary = temporary_for(folder / name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(stored, temporary, {"format": "pt", **said})
        temporary.replace(folder / name)
        if config is not None:
            write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"cannot write the weights to {folder}: {first_line(error)}; choose another folder."
        ) from error
    finally:
        if temporary.exists():
            temporary.unlink()
