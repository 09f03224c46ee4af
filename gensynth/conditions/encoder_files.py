"""The files of a text encoder of transformers, by which a changed one is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gensynth.errors import CorruptError

WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"
WORDS = "tokenizer.json"
OLDER_WORDS = (  # what tokenizers are made of that have no tokenizer.json
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)


def hash_of_files(place: str, weights: Mapping[str, Any], words: Mapping[str, Any]) -> str:
    """A hash of the tensors in an encoder's safetensors, as they are stored, and of its tokenizer.

    No network is made of them, and what a version of transformers calls their modules does not
    matter. How the tensors are spread over files does not either.

    Args:
        place: a folder or hub id.
        weights, words: transformers' keywords that say where in the place they are.

    Raises:
        OSError: there are no safetensors, or no tokenizer.
        CorruptError: the safetensors are damaged.
    """
    digest = hashlib.sha256()
    for name, said, content in _tensors(place, weights):
        digest.update(f"{name} {said}\n".encode())
        digest.update(content)
    whole = _file(place, WORDS, words)
    found = {WORDS: whole} if whole else {name: _file(place, name, words) for name in OLDER_WORDS}
    if not any(found.values()):
        raise OSError(f"there is no {WORDS}")
    for name, path in found.items():
        if path is not None:
            with Path(path).open("rb") as file:
                digest.update(f"{name}\n".encode())
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _tensors(place: str, keywords: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """The name, type and shape, and bytes of each tensor, by name."""
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        files = [safe_open(path, "pt") for path in _weights(place, keywords)]
        names = {name: file for file in files for name in file.keys()}  # noqa: SIM118 - no mapping
        for name, file in sorted(names.items(), key=lambda pair: pair[0]):
            tensor = file.get_tensor(name)
            said = f"{tensor.dtype} {list(tensor.shape)}"
            yield name, said, tensor.reshape(-1).view(torch.uint8).numpy()
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"the weights of the text encoder {place!r} are damaged.") from error


def _weights(place: str, keywords: Mapping[str, Any]) -> list[str]:
    """The safetensors that transformers would load."""
    whole = _file(place, WEIGHTS, keywords)
    if whole is not None:
        return [whole]
    index = _file(place, SHARDS, keywords)
    if index is None:
        raise OSError(f"there is no {WEIGHTS}")
    names = sorted(set(json.loads(Path(index).read_bytes())["weight_map"].values()))
    found = {name: _file(place, name, keywords) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise OSError(f"there is no {missing[0]}")
    return [path for path in found.values() if path is not None]


def _file(place: str, name: str, keywords: Mapping[str, Any]) -> str | None:
    """Where a file of a folder or hub id lies; None if it has none of that name."""
    from transformers.utils import cached_file

    found: str | None = cached_file(
        place, name, _raise_exceptions_for_missing_entries=False, **keywords
    )
    return found
