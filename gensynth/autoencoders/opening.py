"""Pretrained codecs by name, folder, run or hub id; safetensors only."""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError

from gensynth.autoencoders.dc import DCAutoencoder
from gensynth.autoencoders.kl import KLAutoencoder
from gensynth.autoencoders.latent_vq import LatentVQ
from gensynth.autoencoders.taesd import TaesdAutoencoder
from gensynth.autoencoders.tiny import TinyAutoencoder, is_published, read_published
from gensynth.autoencoders.vq import VQAutoencoder
from gensynth.autoencoders.vqmodel import VQModelAutoencoder
from gensynth.errors import CorruptError, InputError, UsageError, first_line
from gensynth.files import DAMAGED
from gensynth.pretrained import CODECS
from gensynth.stored import check_finite, check_fit, choose_variant, variants

# Kind -> `_class_name` of a config.json -> our class.
CLASSES: dict[str, dict[str, type[ModelMixin]]] = {
    "kl": {
        "AutoencoderKL": KLAutoencoder,
        "AutoencoderDC": DCAutoencoder,
        "AutoencoderTiny": TaesdAutoencoder,
        "KLAutoencoder": KLAutoencoder,
        "DCAutoencoder": DCAutoencoder,
        "TaesdAutoencoder": TaesdAutoencoder,
        "TinyAutoencoder": TinyAutoencoder,
    },
    "vq": {
        "VQAutoencoder": VQAutoencoder,
        "LatentVQ": LatentVQ,
        "VQModel": VQModelAutoencoder,
        "VQModelAutoencoder": VQModelAutoencoder,
    },
}
KNOWN = {
    "kl": "AutoencoderKL, AutoencoderDC or AutoencoderTiny",
    "vq": "VQModel or the run that trained a tokenizer",
}
# Where a codec is: the folder itself; the model of a tokenizer's run, or of its pipeline; the
# codec of another pipeline, or of a run.
PLACES = ("", "model/model", "model", "autoencoder", "model/autoencoder")


def open_autoencoder(path: str, kind: str) -> Any:
    """The frozen codec of a local folder or a hub id, in float32, from safetensors only.

    Args:
        path: a name in `CODECS`, a folder or hub id in diffusers' format, a finished run of a
            tokenizer, a finished model or run whose codec is meant, or a folder of TAESD's
            encoder.safetensors and decoder.safetensors.
        kind: "kl" (continuous latents) or "vq" (tokens).

    Raises:
        InputError: there is no codec, or it cannot be fetched.
        CorruptError: its weights are damaged or not those of its configuration.
        UsageError: it is of another kind, or a class that is not known here.
    """
    if kind not in CLASSES:
        raise UsageError(f"only codecs of kind {' and '.join(CLASSES)} are opened, got {kind!r}.")
    path = str(CODECS.get(path, path))
    place, settings = _find(path, kind)
    if settings is None:
        _check_kind(path, TinyAutoencoder.__name__, kind)
        codec: Any = read_published(Path(place))
    else:
        name = str(settings.get("_class_name"))
        _check_kind(place, name, kind)
        _check_settings(place, settings)
        codec = _load(CLASSES[kind][name], place, kind)
    return codec.eval().requires_grad_(False)


def _find(path: str, kind: str) -> tuple[str, dict[str, Any] | None]:
    """Folder or hub id of the codec, and its settings; None for weights of TAESD as published."""
    folder = Path(path)
    if not folder.is_dir():
        return path, _settings(path, kind)
    places = [folder / place for place in PLACES if (folder / place / "config.json").is_file()]
    if not places and is_published(folder):
        return path, None
    if not places:
        raise InputError(
            f"there is no autoencoder in the folder {path!r}, and no finished run or model with "
            f"one: no config.json. {_advice(kind)}"
        )
    found = [(str(place), _settings(str(place), kind)) for place in places]
    # A pipeline's model/ is its backbone, which is passed over for the codec beside it.
    known = [kind, *CLASSES]
    ranked = (entry for own in known for entry in found if _class(entry[1]) in CLASSES[own])
    return next(ranked, found[0])


def _class(settings: dict[str, Any]) -> str:
    return str(settings.get("_class_name"))


def _settings(path: str, kind: str) -> dict[str, Any]:
    try:
        settings = KLAutoencoder.load_config(path)
    except (OSError, ValueError) as error:
        if Path(path).is_dir():
            raise CorruptError(
                f"the config.json of the autoencoder {path!r} cannot be read: "
                f"{first_line(error)}. {_advice(kind)}"
            ) from error
        raise InputError(
            f"there is no autoencoder at {path!r}, and as a hub id it cannot be fetched: "
            f"{first_line(error)}. {_advice(kind)}"
        ) from error
    if not isinstance(settings, dict):
        raise CorruptError(f"the config.json of the autoencoder {path!r} holds no settings.")
    return settings


def _check_kind(path: str, name: str, kind: str) -> None:
    if name in CLASSES[kind]:
        return
    for other, classes in CLASSES.items():
        if name in classes:
            raise UsageError(f"{path!r} is of class {name}; it needs autoencoder.kind {other}.")
    raise UsageError(f"{path!r} is of class {name}; autoencoder.kind {kind} takes {KNOWN[kind]}.")


def _check_settings(path: str, settings: dict[str, Any]) -> None:
    if _class(settings) == LatentVQ.__name__ and not isinstance(settings.get("base"), dict):
        raise CorruptError(
            f"the tokenizer {path!r} has lost the codec of its latents: its config.json names no "
            f"base. {_advice('vq')}"
        )
    if settings.get("in_channels", 3) != 3 or settings.get("out_channels", 3) != 3:
        raise UsageError(f"the autoencoder {path!r} is not one of RGB images; take one that is.")
    if settings.get("latents_mean") is not None or settings.get("latents_std") is not None:
        raise UsageError(
            f"the autoencoder {path!r} scales its channels one by one (latents_mean, latents_std), "
            "which kind kl does not; take one with a scaling_factor."
        )


def _load(codec_class: type[ModelMixin], path: str, kind: str) -> Any:
    variant = _checked_variant(codec_class, Path(path), kind) if Path(path).is_dir() else None
    try:
        codec, report = codec_class.from_pretrained(
            path,
            variant=variant,
            use_safetensors=True,  # never a pickle, which could run code
            torch_dtype=torch.float32,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except OSError as error:
        if _tells_of_damage(error):
            raise CorruptError(
                f"the weights of the autoencoder {path!r} are damaged: {first_line(error)}. "
                f"{_advice(kind)}"
            ) from error
        raise InputError(
            f"the weights of the autoencoder {path!r} cannot be fetched or read: "
            f"{first_line(error)}. {_advice(kind)}"
        ) from error
    except (SafetensorError, *DAMAGED) as error:
        raise CorruptError(
            f"the autoencoder {path!r} is damaged: {first_line(error)}. {_advice(kind)}"
        ) from error
    # diffusers leaves a missing tensor at its random start and only logs it.
    if report["missing_keys"]:
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise CorruptError(f"the autoencoder {path!r} lacks weights: {some}. {_advice(kind)}")
    check_finite(codec, path)
    return codec


def _checked_variant(codec_class: type[ModelMixin], folder: Path, kind: str) -> str | None:
    """Which variant of the weights to load, after a look at their shapes.

    Raises:
        CorruptError: the weights are damaged, or the configuration asks for others.
    """
    variant = choose_variant([folder], None)[folder]
    if not variants(folder):
        return None  # loading says what is missing
    try:
        # Published autoencoders may have older names, which diffusers translates.
        check_fit(codec_class, folder, variant, names=False)
    except CorruptError as error:
        raise CorruptError(f"the autoencoder is damaged: {error} {_advice(kind)}") from error
    return variant


def _tells_of_damage(error: BaseException | None) -> bool:
    """Whether diffusers raised `error` because a file is not one of safetensors, or cut off."""
    while error is not None and not isinstance(error, SafetensorError):
        error = error.__context__
    return error is not None


def _advice(kind: str) -> str:
    what = f"Give the folder or hub id of a diffusers {KNOWN[kind]}, with safetensors"
    if kind == "vq":  # most often a run that comes first
        what += "; or train it first: gensynth train --config fashion_mnist/vq_nano"
    else:
        what += f", or the name of one that comes with gensynth: {', '.join(CODECS)}"
    return f"{what} (autoencoder.path=FOLDER; --vae FOLDER of gensynth convert)."
