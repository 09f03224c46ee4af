"""Halving and doubling of images in the convolutional hourglasses."""

from torch import nn


def downsample(channels: int) -> nn.Sequential:
    """[B, C, H, W] -> [B, 2C, H/2, W/2]."""
    conv = nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.PixelUnshuffle(2))


def upsample(channels: int) -> nn.Sequential:
    """[B, C, H, W] -> [B, C/2, 2H, 2W]."""
    conv = nn.Conv2d(channels, channels * 2, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.PixelShuffle(2))
