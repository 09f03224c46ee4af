"""Feature spaces that hold pictures and texts: a picture lies near what describes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gensynth.errors import InputError, first_line
from gensynth.metrics.extractors.extractor import Extractor, exact_float32
from gensynth.metrics.extractors.vision_transformers import load_transformer
from gensynth.ops.precision import without_autocast

TEXTS_AT_A_TIME = 256


class PairScorer(Extractor):
    """An extractor with a feature `embedding` [B, D] that texts have too; all of length 1."""

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """The embeddings float32 [len(texts), D] of texts, on the CPU, of length 1."""
        parts = []
        for first in range(0, len(texts), TEXTS_AT_A_TIME):
            some = list(texts[first : first + TEXTS_AT_A_TIME])
            with exact_float32(), without_autocast(self._device_probe()):
                parts.append(F.normalize(self.texts(some), dim=1).cpu())
        return torch.cat(parts)

    def _device_probe(self) -> Tensor:
        return torch.empty(0, device=self.device)

    def texts(self, texts: list[str]) -> Tensor:
        """Embeddings [B, D] of any length, on the device of the network."""
        raise NotImplementedError


class ClipPairs(PairScorer):
    """A whole CLIP, with its own tokenizer and its own way to prepare pictures.

    `embedding`: the projected embedding. Longer texts are cut where the model's end, with its last
    token kept. (torchmetrics cuts that off too, and then looks for it.)

    Args:
        name: what to call it.
        network: a `CLIPModel`.
        processor, tokenizer: of transformers, of the same folder.
        weights_sha256: of its weights file.
    """

    def __init__(
        self, name: str, network: Any, processor: Any, tokenizer: Any, weights_sha256: str
    ):
        super().__init__(
            name,
            f"as {processor.size} and {processor.crop_size} of its preprocessor_config.json say",
            {"embedding": network.config.projection_dim},
            weights_sha256,
            official=False,
        )
        self.network = network.eval().requires_grad_(False)
        self.processor, self.tokenizer = processor, tokenizer

    def preprocess(self, images: Tensor) -> Tensor:
        pixels = self.processor(images=list(images.cpu()), return_tensors="pt")["pixel_values"]
        return pixels.to(images.device)

    def features(self, pixels: Tensor) -> dict[str, Tensor]:
        found = self.network.vision_model(pixel_values=pixels).pooler_output
        return {"embedding": F.normalize(self.network.visual_projection(found), dim=1)}

    def texts(self, texts: list[str]) -> Tensor:
        longest = self.network.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            texts, return_tensors="pt", padding=True, truncation=True, max_length=longest
        ).to(self.device)
        found = self.network.text_model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output
        return self.network.text_projection(found)


def open_clip_pairs(where: str | Path, *, download: bool = False) -> ClipPairs:
    """The CLIP in a folder as transformers saves it, or of a hub id.

    Args:
        download: whether a hub id that is not in the local cache may be fetched.

    Raises:
        InputError: there is no such model, or a file of it is missing or cannot be read.
        UsageError: it is a model of another kind.
    """
    network, digest = load_transformer("CLIPModel", where, download=download, flag="--clip")
    # The one that needs no torchvision: the same pixels with and without it.
    from transformers import AutoTokenizer, CLIPImageProcessorPil

    try:
        processor = CLIPImageProcessorPil.from_pretrained(where, local_files_only=not download)
        tokenizer = AutoTokenizer.from_pretrained(
            where, local_files_only=not download, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"{where} lacks what a CLIP score takes beside the weights (preprocessor_config.json, "
            f"tokenizer files): {first_line(error)} Save the processor there too: "
            "CLIPProcessor.save_pretrained."
        ) from error
    return ClipPairs(str(where), network, processor, tokenizer, digest)
