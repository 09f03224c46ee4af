"""The feature spaces of DINOv2 (FD-DINOv2) and CLIP (CMMD), through transformers."""

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from gensynth.errors import InputError, UsageError, first_line
from gensynth.metrics.extractors.extractor import Extractor
from gensynth.metrics.extractors.weights import sha256_of
from gensynth.stored import MOST, TooLarge, at_most
from gensynth.system.hub import unreachable

# Feature space -> its model on the hub, and what must stand in that model's settings.
MODELS: dict[str, tuple[str, dict[str, int]]] = {
    "dinov2-vits14": ("facebook/dinov2-small", {"hidden_size": 384, "patch_size": 14}),
    "dinov2-vitb14": ("facebook/dinov2-base", {"hidden_size": 768, "patch_size": 14}),
    "dinov2-vitl14": ("facebook/dinov2-large", {"hidden_size": 1024, "patch_size": 14}),
    "dinov2-vitg14": ("facebook/dinov2-giant", {"hidden_size": 1536, "patch_size": 14}),
    "clip-vitl14-336": (
        "openai/clip-vit-large-patch14-336",
        {"hidden_size": 1024, "patch_size": 14, "image_size": 336, "projection_dim": 768},
    ),
}
# Means and standard deviations of the training images, in [0, 1].
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
DINOV2_SIDE = 224
POSITION_OFFSET = 0.1  # dinov2, models/vision_transformer.py, interpolate_offset
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")  # the second: CLIP's only one


class Dinov2Features(Extractor):
    """`cls`: the class token after the last norm (edm2, calculate_metrics.py, DINOv2Detector).

    Args:
        name: of the feature space.
        network: a `Dinov2Model`.
        weights_sha256: of its weights file.
    """

    def __init__(self, name: str, network: Any, weights_sha256: str):
        super().__init__(
            name,
            f"bicubic antialiased to {DINOV2_SIDE}, / 255, ImageNet mean and deviation; positions "
            "resized as torch.hub's code does",
            {"cls": network.config.hidden_size},
            weights_sha256,
            official=False,
        )
        self.network = network.eval().requires_grad_(False)
        embeddings = self.network.embeddings
        # With a table of the right size, transformers leaves it as it is.
        table = hub_positions(embeddings.position_embeddings, network.config.patch_size)
        embeddings.position_embeddings = nn.Parameter(table, requires_grad=False)

    def preprocess(self, images: Tensor) -> Tensor:
        return _standardised(images, DINOV2_SIDE, *IMAGENET)

    def features(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"cls": self.network(pixel_values=pixels).pooler_output}


class ClipFeatures(Extractor):
    """`embedding`: the projected image embedding, of length 1 (arXiv 2401.09603).

    Args:
        name: of the feature space.
        network: a `CLIPVisionModelWithProjection`.
        weights_sha256: of its weights file.
    """

    def __init__(self, name: str, network: Any, weights_sha256: str):
        side = network.config.image_size
        super().__init__(
            name,
            f"bicubic antialiased to {side} without a crop, / 255, CLIP mean and deviation",
            {"embedding": network.config.projection_dim},
            weights_sha256,
            official=False,
        )
        self.side = side
        self.network = network.eval().requires_grad_(False)

    def preprocess(self, images: Tensor) -> Tensor:
        return _standardised(images, self.side, *CLIP)

    def features(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"embedding": F.normalize(self.network(pixel_values=pixels).image_embeds, dim=1)}


def _standardised(
    images: Tensor, side: int, mean: tuple[float, ...], deviation: tuple[float, ...]
) -> Tensor:
    """uint8 -> float32 [B, 3, side, side]; what the filter overshoots is not cut."""
    pixels = F.interpolate(images.float(), (side, side), mode="bicubic", antialias=True) / 255
    mean_of, deviation_of = (pixels.new_tensor(v)[:, None, None] for v in (mean, deviation))
    return (pixels - mean_of) / deviation_of


def hub_positions(table: Tensor, patch: int) -> Tensor:
    """A position table [1, 1 + n * n, D] resized for 224 pixels as torch.hub's DINOv2 does.

    Its bicubic filter is told a scale a little too large, (16 + 0.1) / 37 for the published models,
    and puts every position at that scale; transformers aims at the size instead (dinov2,
    models/vision_transformer.py, interpolate_pos_encoding).
    """
    old, new = round((table.shape[1] - 1) ** 0.5), DINOV2_SIDE // patch
    if old == new:
        return table.detach()
    grid = table.detach()[:, 1:].unflatten(1, (old, old)).permute(0, 3, 1, 2)
    scale = (new + POSITION_OFFSET) / old
    grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    assert grid.shape[2:] == (new, new)
    return torch.cat([table.detach()[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def open_dinov2(name: str, weights: str | Path | None, download: bool) -> Dinov2Features:
    """The feature space of a DINOv2 without registers; arguments as of `load_transformer`."""
    return Dinov2Features(name, *_open(name, "Dinov2Model", weights, download))


def open_clip(name: str, weights: str | Path | None, download: bool) -> ClipFeatures:
    """The feature space of a CLIP; arguments as of `load_transformer`."""
    return ClipFeatures(name, *_open(name, "CLIPVisionModelWithProjection", weights, download))


def _open(name: str, kind: str, weights: str | Path | None, download: bool) -> tuple[Any, str]:
    hub_id, settings = MODELS[name]
    network, digest = load_transformer(kind, weights or hub_id, download=download)
    for key, expected in settings.items():
        found = getattr(network.config, key)
        if found != expected:
            raise UsageError(
                f"{weights or hub_id} is not {name}: its {key} is {found}, not {expected}."
            )
    return network, digest


def load_transformer(
    class_name: str, where: str | Path, *, download: bool = False, flag: str = "--weights"
) -> tuple[Any, str]:
    """A float32 network of transformers and the SHA-256 of its weights file.

    Args:
        class_name: of the model in transformers.
        where: a folder as `save_pretrained` leaves it, or a hub id.
        download: whether a hub id that is not in the local cache may be fetched.
        flag: the option that names the place, for messages.

    Raises:
        InputError: transformers is not installed, there is no such model, or it cannot be read.
        UsageError: it is a model of another kind.
    """
    if importlib.util.find_spec("transformers") is None:
        raise InputError("DINOv2 and CLIP features need transformers: pip install transformers")
    import transformers

    config, weights = _model_files(where, download, flag)
    network_class = getattr(transformers, class_name)
    kind = network_class.config_class.model_type
    # A whole CLIP contains its vision tower.
    kinds = {kind, kind.removesuffix("_vision_model")}
    try:
        found = json.loads(config.read_text(encoding="utf-8"))["model_type"]
        if found not in kinds:
            raise UsageError(f"{where} is a {found}, not a {' or '.join(sorted(kinds))}.")
        with _quiet(), at_most(MOST):
            network, info = network_class.from_pretrained(
                config.parent, dtype=torch.float32, weights_only=True, output_loading_info=True
            )
    except TooLarge as error:
        raise InputError(f"{config} asks for more than {MOST} tensors; fetch it again.") from error
    except (OSError, KeyError, RuntimeError, SafetensorError, json.JSONDecodeError) as error:
        raise InputError(f"cannot read {where}: {first_line(error)}") from error
    if info["missing_keys"]:
        raise InputError(f"{weights} lacks {', '.join(sorted(info['missing_keys'])[:3])}.")
    return network, sha256_of(weights)


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, transformers does not list what is left over, as the text tower of a CLIP is."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _model_files(where: str | Path, download: bool, flag: str) -> tuple[Path, Path]:
    """The settings and the weights of a model, side by side in one folder."""
    folder = Path(where)
    if folder.is_dir():
        for name in WEIGHTS_FILES:
            if (folder / "config.json").is_file() and (folder / name).is_file():
                return folder / "config.json", folder / name
        raise InputError(f"{folder} holds no config.json with a {' or '.join(WEIGHTS_FILES)}.")
    problem = unreachable(constants.ENDPOINT) if download else None  # the hub itself tries long
    local = not download or problem is not None
    for name in WEIGHTS_FILES:
        try:
            config, weights = (
                hf_hub_download(str(where), file, local_files_only=local)
                for file in ("config.json", name)
            )
            return Path(config), Path(weights)
        except EntryNotFoundError as error:
            missing: Exception = error  # this file; perhaps the other one is there
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            missing = error
            break
    # The hub's own message speaks of arguments that nobody gave.
    unfetched = not download and isinstance(missing, EntryNotFoundError)
    reason = "it has not been fetched" if unfetched else problem or first_line(missing)
    raise InputError(
        f"there is no folder {str(where)!r}, and as a hub id it is not at hand: "
        f"{reason}. Have it fetched with "
        f"--download, fetch it with `hf download {where}`, or give a folder with {flag} FOLDER."
    ) from missing
