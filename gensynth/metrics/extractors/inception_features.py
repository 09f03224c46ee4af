"""The feature space of FID, and ADM's and clean-fid's readings of it."""

import hashlib
import math
from pathlib import Path

import torch
from torch import Tensor

from gensynth.metrics.extractors.extractor import Extractor
from gensynth.metrics.extractors.inception import SPATIAL_CHANNELS, Inception2015
from gensynth.metrics.extractors.resize import clean_bicubic, tf1_bilinear
from gensynth.metrics.extractors.weights import (
    PublishedFile,
    Weights,
    find_weights,
    read_tensors,
)

# One file under the names of pytorch-fid and torch-fidelity, converted from Google's graph.
PUBLISHED = PublishedFile(
    names=(
        "pt_inception-2015-12-05-6726825d.pth",
        "weights-inception-2015-12-05-6726825d.pth",
    ),
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
SIDE = 299
COUNTER = "num_batches_tracked"  # of batch norm: counts training steps, no weight


class InceptionFeatures(Extractor):
    """`pool` for FID, `spatial` for sFID, `logits` for the Inception Score.

    Args:
        name: of the feature space.
        weights: see `read_inception` and `random_inception`.
        clean: preprocess as clean-fid does instead of as TensorFlow does.
    """

    def __init__(self, name: str, weights: Weights, clean: bool = False):
        resize = "Pillow bicubic of float channels" if clean else "TF1 bilinear"
        super().__init__(
            name,
            f"{resize} to {SIDE}, (x - 128) / 128",
            {"pool": 2048, "spatial": 17 * 17 * SPATIAL_CHANNELS, "logits": 1008},
            weights.sha256,
            weights.official,
        )
        self.clean = clean
        # Without memory: the tensors of the file take the place of these, and nothing is drawn.
        with torch.device("meta"):
            self.network = Inception2015()
        self.network.load_state_dict(weights.tensors, assign=True)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval().requires_grad_(False)

    def preprocess(self, images: Tensor) -> Tensor:
        if self.clean:
            pixels = clean_bicubic(images, SIDE)
        else:
            pixels = tf1_bilinear(images.float(), (SIDE, SIDE))
        return ((pixels - 128) / 128).contiguous(memory_format=torch.channels_last)

    def features(self, pixels: Tensor) -> dict[str, Tensor]:
        return self.network(pixels)


def inception_shapes() -> dict[str, torch.Size]:
    """Names and shapes of the tensors that a weights file must hold, sorted by name."""
    with torch.device("meta"):
        state = Inception2015().state_dict()
    return {name: state[name].shape for name in sorted(state) if not name.endswith(COUNTER)}


def read_inception(given: Path | None = None, *, download: bool = False) -> Weights:
    """The weights in the published file, or in another one of the same layout.

    Raises:
        InputError: there is no such file, it holds something else, or there is no network.
        CorruptError: a file in a cache is damaged.
        OutputError: a download cannot be written.
    """
    path, digest = find_weights(PUBLISHED, given, download=download)
    tensors = read_tensors(path, inception_shapes())
    return Weights(tensors, digest, official=digest == PUBLISHED.sha256)


def random_inception(seed: int) -> Weights:
    """Weights that are a function of the seed only, for trying things out without the file."""
    generator, tensors, digest = torch.Generator().manual_seed(seed), {}, hashlib.sha256()
    for name, shape in inception_shapes().items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("conv.weight"):  # He's scale, so that features neither die nor explode
            noise *= math.sqrt(2 / shape[1:].numel())
        elif name == "fc.weight":
            noise *= math.sqrt(1 / shape[1])
        elif name.endswith("bn.weight"):
            noise = 1 + 0.1 * noise
        elif name.endswith("running_var"):
            noise = (1 + 0.1 * noise) ** 2
        else:
            noise *= 0.1
        tensors[name] = noise
        digest.update(noise.numpy().data.cast("B"))
    return Weights(tensors, digest.hexdigest(), official=False)
