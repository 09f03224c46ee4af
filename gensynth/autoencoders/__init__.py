"""Pixels <-> latents or tokens. The only place that scales pixel values."""

from diffusers.models.modeling_utils import ModelMixin

from gensynth.autoencoders.dc import DCAutoencoder
from gensynth.autoencoders.kl import KLAutoencoder
from gensynth.autoencoders.latent_vq import LatentVQ
from gensynth.autoencoders.opening import open_autoencoder as open_autoencoder
from gensynth.autoencoders.pixels import PixelAutoencoder
from gensynth.autoencoders.taesd import TaesdAutoencoder
from gensynth.autoencoders.tiny import TinyAutoencoder
from gensynth.autoencoders.vq import VQAutoencoder
from gensynth.autoencoders.vqmodel import VQModelAutoencoder
from gensynth.lazy import submodules

__getattr__, __dir__ = submodules(__name__)

# Every codec class; a model folder may name no other.
AUTOENCODERS: dict[str, type[ModelMixin]] = {
    "none": PixelAutoencoder,
    "pixels": PixelAutoencoder,  # the old name of "none"
    "kl": KLAutoencoder,
    "dc": DCAutoencoder,
    "taesd": TaesdAutoencoder,
    "taef2": TinyAutoencoder,
    "vq": VQAutoencoder,
    "latent-vq": LatentVQ,
    "vqmodel": VQModelAutoencoder,
}
