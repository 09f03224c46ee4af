"""The adversary of a tokenizer's decoder: a score for each patch (pix2pix, arXiv 1611.07004)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # of the leaky rectifiers


class PatchDiscriminator(nn.Module):
    """Images [B, C, H, W] in [-1, 1] -> scores [B, 1, h, w], high for real patches.

    Group norms where pix2pix has batch norms: a score must not depend on the rest of the batch,
    nor on how it is split over processes.

    Args:
        channels: of the images.
        width: channels of the first layer.
        layers: how often the image is halved.
    """

    def __init__(self, channels: int, width: int = 32, layers: int = 2):
        super().__init__()
        steps: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(SLOPE)]
        for level in range(1, layers):
            inner = width * 2**level
            steps += [
                nn.Conv2d(inner // 2, inner, 4, 2, 1, bias=False),  # the norm after it has a bias
                nn.GroupNorm(8, inner),
                nn.LeakyReLU(SLOPE),
            ]
        self.layers = nn.Sequential(*steps, nn.Conv2d(width * 2 ** (layers - 1), 1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def hinge(real: Tensor, generated: Tensor) -> Tensor:
    """The discriminator's loss (arXiv 1802.05957): real scores above 1, generated below -1."""
    return (F.relu(1 - real).mean() + F.relu(1 + generated).mean()) / 2


def frozen_scores(discriminator: nn.Module, images: Tensor) -> Tensor:
    """Scores whose gradient reaches the images only, not the discriminator."""
    bare = getattr(discriminator, "module", discriminator)  # without the wrapper of processes
    weights = {name: weight.detach() for name, weight in bare.named_parameters()}
    return torch.func.functional_call(bare, weights, (images,))
