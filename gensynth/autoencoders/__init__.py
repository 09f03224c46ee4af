"""Pixels <-> latents. The only place that scales pixel values."""

from gensynth.autoencoders.kl import KLAutoencoder
from gensynth.autoencoders.pixels import PixelAutoencoder

AUTOENCODERS = {"pixels": PixelAutoencoder, "kl": KLAutoencoder}
