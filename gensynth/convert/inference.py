"""The keywords of a model as far as its tensors, under our names, tell them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from gensynth.models import preset

IMAGENET = 1000  # a class table of this length has no row for the null label; any other has
Tensors = Mapping[str, Tensor]


def inferred(system: str, name: str, tensors: Tensors, changes: Mapping[str, Any]) -> dict:
    """Keywords that the tensors tell, in which a model may differ from its preset.

    Args:
        system: a key of `convert.SYSTEMS`.
        name: of the preset.
        tensors: under our names; without one, its keyword stays as in the preset.
        changes: keywords that are known already.
    """
    if system == "maskgit":
        return _masked(tensors)
    return (
        _tokenizer(tensors) if system == "llamagen" else _backbone(system, name, tensors, changes)
    )


def _length(tensors: Tensors, name: str, axis: int) -> int | None:
    found = tensors.get(name)
    return found.shape[axis] if found is not None and found.ndim > axis else None


def _read(tensors: Tensors, places: Mapping[str, tuple[str, int, Callable[[int], int]]]) -> dict:
    """Keyword -> a length, made into its value, of the keywords whose tensor is there."""
    found = {key: _length(tensors, name, axis) for key, (name, axis, _) in places.items()}
    return {key: places[key][2](value) for key, value in found.items() if value is not None}


def _masked(tensors: Tensors) -> dict[str, Any]:
    """Of MaskGIT. The last rows of the tables of classes and tokens are "none" and "masked"."""
    keywords = _read(
        tensors,
        {
            "input_size": ("positions", 0, math.isqrt),  # one row for each token of a square
            "codebook_size": ("token_embedder.weight", 0, lambda rows: rows - 1),
            "num_classes": ("class_embedder.weight", 0, lambda rows: rows - 1),
        },
    )
    keywords["num_registers"] = _length(tensors, "registers", 0) or 0
    keywords["proj"] = 2 if "merge.weight" in tensors else 1
    return keywords


def _tokenizer(tensors: Tensors) -> dict[str, Any]:
    """Of a VQ tokenizer."""
    return _read(
        tensors,
        {
            "channels": ("encoder.conv_in.weight", 1, int),
            "latent_channels": ("encoder.conv_out.weight", 0, int),
            "codebook_size": ("quantizer.embedding.weight", 0, int),
            "codebook_dim": ("quantizer.embedding.weight", 1, int),
        },
    )


def _backbone(
    system: str, name: str, tensors: Tensors, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Channels, classes, variance and size of a diffusion backbone."""
    keywords: dict[str, Any] = {}
    transformer = "patch_size" in preset(name)[1]
    patch = _length(tensors, "patch_embed.proj.weight", 2) if transformer else 1
    # The first layer's inputs are the channels; the last one's outputs tell the variance.
    first = "patch_embed.proj.weight" if transformer else "stem.weight"
    channels = _length(tensors, first, 1)
    last = f"final_layer.{'proj' if transformer else 'conv'}.weight"
    outputs = _length(tensors, last, 0)
    if channels is not None:
        keywords["in_channels"] = channels
        if outputs and patch:
            # p * p outputs for each channel of the prediction, twice as many with the variance
            keywords["learn_sigma"] = outputs // patch**2 == 2 * channels
            if system == "sit":
                keywords["discard_sigma"] = keywords["learn_sigma"]
    rows = _length(tensors, f"class_embedder{'' if transformer else 's.0'}.weight", 0)
    if rows is not None:
        null_label = bool(changes.get("null_label", rows != IMAGENET))
        keywords |= {"num_classes": rows - null_label, "null_label": null_label}
    tokens = _length(tensors, "token_positions.table", 1)
    if tokens is not None:
        # The table has a row for each token; the patch makes them latents again.
        own_patch = changes.get("patch_size", preset(name)[1]["patch_size"])
        keywords["input_size"] = math.isqrt(tokens) * own_patch
    if system == "mdt":
        blocks = {key.split(".")[1] for key in tensors if key.startswith("decoder.")}
        keywords["decode_layer"] = len(blocks)
    return keywords
