"""Features from images: the networks that distances between sets of images are measured in."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from gensynth.errors import UsageError
from gensynth.metrics.extractors.extractor import Extractor
from gensynth.metrics.extractors.inception_features import (
    InceptionFeatures,
    random_inception,
    read_inception,
)
from gensynth.metrics.extractors.lite0 import Lite0Features
from gensynth.metrics.extractors.vision_transformers import open_clip, open_dinov2
from gensynth.seeding import whole_seed

__all__ = ["EXTRACTORS", "Extractor", "open_extractor"]

Where = str | Path | None


class Entry(NamedTuple):
    """A feature space in one line, and how it is opened: (name, weights, download)."""

    description: str
    open: Callable[[str, Where, bool], Extractor]


def open_extractor(
    name: str,
    weights: Where = None,
    device: torch.device | str = "cpu",
    *,
    download: bool = False,
) -> Extractor:
    """The feature space of that name, see `EXTRACTORS`.

    Args:
        weights: of inception-2015 a file; of DINOv2 and CLIP a folder as transformers saves models,
            or a hub id. None: the published ones, where they are kept on this machine.
        device: where features are computed.
        download: whether published weights that are not on this machine may be fetched.

    Raises:
        UsageError: there is no such feature space, or `weights` are those of another.
        InputError: weights that are missing or unreadable, or a package that is not installed.
        CorruptError: a weights file in a cache is damaged.
        OutputError: a download cannot be written.
    """
    entry = EXTRACTORS.get(re.sub(r"(?<=^random-inception-)\d+$", "<seed>", name))
    if entry is None or "<" in name:
        raise UsageError(f"there is no extractor {name!r}. Known: {', '.join(EXTRACTORS)}.")
    return entry.open(name, weights, download).to(device)


def _inception(name: str, weights: Where, download: bool) -> Extractor:
    found = read_inception(None if weights is None else Path(weights), download=download)
    return InceptionFeatures(name, found, clean=name.endswith("-clean"))


def _random_inception(name: str, weights: Where, download: bool) -> Extractor:
    _without_file(name, weights)
    return InceptionFeatures(name, random_inception(whole_seed(int(name.rpartition("-")[2]))))


def _lite0(name: str, weights: Where, download: bool) -> Extractor:
    _without_file(name, weights)
    return Lite0Features(int(name.rpartition("-")[2]))


def _without_file(name: str, weights: Where) -> None:
    if weights is not None:
        raise UsageError(f"{name} brings its own weights; it cannot take {weights}.")


EXTRACTORS: dict[str, Entry] = {
    "inception-2015": Entry("the network of FID, resized as TensorFlow 1 does", _inception),
    "inception-2015-clean": Entry("the same network, resized as clean-fid does", _inception),
    "dinov2-vits14": Entry("DINOv2 ViT-S/14, class token", open_dinov2),
    "dinov2-vitb14": Entry("DINOv2 ViT-B/14, class token", open_dinov2),
    "dinov2-vitl14": Entry("DINOv2 ViT-L/14, class token: FD-DINOv2", open_dinov2),
    "dinov2-vitg14": Entry("DINOv2 ViT-g/14, class token", open_dinov2),
    "clip-vitl14-336": Entry("CLIP ViT-L/14 at 336, image embedding: CMMD", open_clip),
    "lite0-64": Entry("EfficientNet-Lite0 at 64 pixels, offline", _lite0),
    "lite0-128": Entry("EfficientNet-Lite0 at 128 pixels, offline", _lite0),
    "lite0-224": Entry("EfficientNet-Lite0 at 224 pixels, offline", _lite0),
    "random-inception-<seed>": Entry(
        "the network of FID untrained: for trying things out", _random_inception
    ),
}
