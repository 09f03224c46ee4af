"""A tokenizer by itself: images -> tokens -> images."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image
from torch import Tensor

from gensynth.conditions import Nothing
from gensynth.data.images import fit, to_pil, to_tensor
from gensynth.errors import UsageError
from gensynth.pipelines.saving import SavedPipeline


class TokenizerPipeline(SavedPipeline):
    """What a tokenizer's training leaves: `autoencoder.path` of the runs that use it.

    Args:
        model: the tokenizer.
        size: height and width in pixels the tokenizer was trained at.
        fit: how images are brought to it, "crop" or "pad".
    """

    def __init__(self, model: ModelMixin, size: int = 32, fit: str = "crop"):
        super().__init__()
        self.register_modules(model=model)
        self.register_to_config(size=size, fit=fit)
        self.condition = Nothing()

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """Each image at the trained size, after encoding and decoding."""
        mode = "L" if self.model.channels == 1 else "RGB"
        fitted = [fit(image.convert(mode), self.config.size, self.config.fit) for image in images]
        pixels = torch.stack([to_tensor(image) for image in fitted]).to(self.model.device)
        return [to_pil(decoded) for decoded in self.model.decode(self.model.encode(pixels))]

    def showcase(self, num: int, images: Tensor, on_step: Callable[..., None]) -> list[Image.Image]:
        """Images uint8 [B, C, H, W], each before its reconstruction; at most `num` pictures."""
        originals = images[: (num + 1) // 2].to(self.model.device)  # each gives two pictures
        with torch.inference_mode():
            again = self.model.decode(self.model.encode(originals))
        pairs = zip(originals, again, strict=True)
        return [to_pil(image) for pair in pairs for image in pair][:num]

    def resolve(self, settings: Any = None) -> Any:
        """Refuses: a tokenizer draws nothing.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "this is a tokenizer, which draws nothing by itself; train a model on its tokens with "
            "autoencoder.kind=vq and this folder as autoencoder.path."
        )
