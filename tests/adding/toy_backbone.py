"""A backbone from outside of the package."""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from gensynth.models import MODELS
from gensynth.models.backbone import Backbone


class Toy(ModelMixin, ConfigMixin, Backbone):
    """A convolution whose output is shifted by time and class."""

    size_multiple = 1

    @register_to_config
    def __init__(self, in_channels: int = 4, num_classes: int = 10, learn_sigma: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.classes = nn.Embedding(num_classes + 1, in_channels)

    def forward(self, sample, timestep, class_labels=None):
        if class_labels is None:
            class_labels = torch.full(sample.shape[:1], self.config.num_classes)
        shift = self.classes(class_labels) + timestep[:, None].to(sample)
        return self.conv(sample) + shift[:, :, None, None]


MODELS["Toy-S"] = (Toy, {})
