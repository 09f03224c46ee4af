"""Halton-MaskGIT's tokenizer and how its published tables were drawn."""

from pathlib import Path
from typing import Any

from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from gensynth.autoencoders import open_autoencoder
from gensynth.convert.matching import match
from gensynth.samplers.registry import create_scheduler

# What it was trained with (README of valeoai/Halton-MaskGIT).
TOKENIZER = "https://huggingface.co/FoundationVision/LlamaGen/resolve/main/vq_ds16_c2i.pt"
PATCH = 16  # pixels of a side of that tokenizer's tokens
FILES = (".pt", ".pth", ".safetensors")  # how the name of LlamaGen's own file may end
# launch/eval_test_to_img.sh. The README's example for single pictures has a last temperature of
# 1.2, no warmup, a roll and a guidance of 3 instead.
HALTON: dict[str, Any] = {"temperature": 1.0, "last_temperature": 1.0, "warmup_steps": 1}
STEPS = 32
# The README's column CFG, which counts from 0; other sizes have the largest published one's.
GUIDANCE = {"MaskGIT-T": 2.5, "MaskGIT-S": 2.0, "MaskGIT-B": 1.7, "MaskGIT-L": 1.5}


def open_tokenizer(given: str) -> ModelMixin:
    """The tokenizer of a folder, a hub id, or a file as LlamaGen publishes them.

    Raises:
        GensynthError: it is missing, damaged or something else.
    """
    path = Path(given)
    if path.is_file() or path.suffix in FILES:
        return match("llamagen", path).filled().requires_grad_(False)
    return open_autoencoder(given, "vq")


def drawn_tokens(name: str) -> tuple[SchedulerMixin, dict[str, Any]]:
    """The decoder and the settings with which a size's published tables were drawn."""
    guidance = GUIDANCE.get(name, GUIDANCE["MaskGIT-L"])
    settings = {"prediction": "tokens", "steps": STEPS, "guidance": guidance}
    return create_scheduler("HaltonDecoder", "tokens", HALTON), settings
