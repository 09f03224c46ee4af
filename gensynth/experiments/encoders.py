"""Frozen image encoders whose features REPA aligns hidden states with.

An encoder is called with uint8 images [B, 1 or 3, H, W], does its own published preprocessing, and
returns a map of features [B, dim, h, w] without gradients.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gensynth.autoencoders.levels import as_floats
from gensynth.config import Repa
from gensynth.errors import InputError, UsageError
from gensynth.experiments.names import check_encoder
from gensynth.metrics.extractors.lite0 import BLOCKS, STAGES, Lite0Features
from gensynth.metrics.extractors.vision_transformers import IMAGENET
from gensynth.stored import MOST, TooLarge, at_most

DINOV2_TYPES = ("dinov2", "dinov2_with_registers")


class Lite0Encoder(nn.Module):
    """One stage of EfficientNet-Lite0; its weights come with the package.

    Args:
        stage: "s40" (a feature every 8 pixels), "s112" (every 16) or "s320" (every 32).
        image_size: side in pixels at which the network sees the images; None: 64.
    """

    def __init__(self, stage: str, image_size: int | None):
        super().__init__()
        self.network = Lite0Features(image_size or 64)
        self.blocks, self.dim = BLOCKS[: STAGES[stage] + 1], self.network.dims[stage]

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        network = self.network
        hidden = network.convolve(network.preprocess(images), "_conv_stem", stride=2)
        hidden = F.relu6(network.normalise(hidden, "_bn0"))
        for index, (_, stride, expansion, channels) in enumerate(self.blocks):
            hidden = network.block(hidden, f"_blocks.{index}.", stride, expansion, channels)
        return hidden  # [B, dim, h, w]


class Dinov2Encoder(nn.Module):
    """Normalised patch tokens of a DINOv2 (arXiv 2304.07193), preprocessed as in REPA.

    Args:
        path: hub id or folder of a model that transformers can load.
        image_size: side in pixels at which the network sees the images; None: 224 for every whole
            256 pixels of the image, at least 224.

    Raises:
        InputError: transformers is not installed, or there is no such model.
        UsageError: it is not a DINOv2, or its patches do not divide `image_size`.
    """

    def __init__(self, path: str, image_size: int | None):
        super().__init__()
        self.network = _load_dinov2(path)
        config = self.network.config
        if config.model_type not in DINOV2_TYPES:
            raise UsageError(f"{path} is a {config.model_type}, not a {' or '.join(DINOV2_TYPES)}.")
        self.dim, self.patch, self.image_size = config.hidden_size, config.patch_size, image_size
        if (image_size or 224) % self.patch:
            raise UsageError(f"image_size {image_size} is not a multiple of the patch {self.patch}")
        self.skipped = 1 + getattr(config, "num_register_tokens", 0)  # class token and registers

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        pixels = self.preprocess(images)  # [B, 3, side, side]
        tokens = self.network(pixel_values=pixels).last_hidden_state[:, self.skipped :]
        side = pixels.shape[-1] // self.patch
        return tokens.transpose(1, 2).unflatten(2, (side, side))  # [B, dim, h, w]

    def preprocess(self, images: Tensor) -> Tensor:
        """uint8 -> float32 [B, 3, side, side]: ImageNet's scale, then bicubic, not antialiased."""
        pixels = images.float().expand(-1, 3, -1, -1) / 255
        mean, std = (pixels.new_tensor(v)[:, None, None] for v in IMAGENET)
        side = self.image_size or 224 * max(1, images.shape[-1] // 256)
        return F.interpolate((pixels - mean) / std, (side, side), mode="bicubic")


def _load_dinov2(path: str) -> Any:
    check_encoder(path)
    from transformers import AutoModel

    try:
        # Safetensors only: the other format is a pickle.
        with at_most(MOST):
            return AutoModel.from_pretrained(
                path, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
            )
    except TooLarge as error:
        raise InputError(
            f"the config.json of the encoder {path} asks for more than {MOST} tensors, as no "
            "published encoder has; fetch it again."
        ) from error
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"regularizer repa cannot load the encoder {path}: {reason}") from error


class PerceptualDistance(nn.Module):
    """How unlike images look: squared differences of unit features, averaged over three depths.

    As LPIPS (arXiv 1801.03924) without learned weights, in features of EfficientNet-Lite0, which
    sees both images at their own size. `forward` takes images [B, 1 or 3, H, W] in [-1, 1], and
    its gradient reaches the first ones.
    """

    BLOCKS_READ = (0, 2, 4)  # features every 2, 4 and 8 pixels

    def __init__(self) -> None:
        super().__init__()
        self.network = Lite0Features()

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        both = as_floats(torch.cat([images, targets]).float())  # [2B, C, H, W]: one pass
        network = self.network
        hidden = network.convolve(network.scaled(both), "_conv_stem", stride=2)
        hidden = F.relu6(network.normalise(hidden, "_bn0"))
        distances = []
        for index, (_, stride, expansion, channels) in enumerate(BLOCKS[:5]):
            hidden = network.block(hidden, f"_blocks.{index}.", stride, expansion, channels)
            if index in self.BLOCKS_READ:
                image, target = F.normalize(hidden, dim=1).chunk(2)  # [B, C, h, w] each
                distances.append((image - target.detach()).square().sum(dim=1).mean())
        return torch.stack(distances).mean()


def create_encoder(config: Repa) -> Lite0Encoder | Dinov2Encoder:
    """The frozen encoder of a `repa` regularizer."""
    encoder: Lite0Encoder | Dinov2Encoder
    if config.encoder == "lite0":
        encoder = Lite0Encoder(config.stage, config.image_size)
    else:
        assert config.path is not None
        encoder = Dinov2Encoder(config.path, config.image_size)
    return encoder.eval().requires_grad_(False)
