"""Halving and doubling of images in the convolutional hourglasses."""

from torch import nn


def downsample(channels: int) -> nn.Sequential:
    """[B, C, H, W] -> [B, 2C, H/2, W/2]."""
    # unshuffling makes four channels of each: C/2 of them become 2C
    conv = nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.PixelUnshuffle(2))


def upsample(channels: int) -> nn.Sequential:
    """[B, C, H, W] -> [B, C/2, 2H, 2W]."""
    # shuffling makes one channel of four: 2C of them become C/2
    conv = nn.Conv2d(channels, channels * 2, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.PixelShuffle(2))
