"""Orders to convert a published checkpoint, before the file is read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gensynth.config.yaml_text import parse_yaml
from gensynth.errors import InputError, RefusedError, UsageError
from gensynth.models.known import check_area, known
from gensynth.system import hub, outline
from gensynth.system.disk import check_writable

# How the names of a system's presets start.
FAMILIES = {
    "dico": "DiCo-",
    "dic": "DiC-",
    "dit": "DiT-",
    "sit": "SiT-",
    "mdt": "MDTv2-",
    "maskgit": "MaskGIT-",
    "llamagen": "VQ-",
}


def check(
    system: str,
    checkpoint: Path,
    out: Path,
    model: str | None,
    vae: str | None,
    size: int | None,
    changes: Sequence[str],
) -> dict[str, Any]:
    """The keywords that `changes` means, of an order that is not wrong already.

    Raises:
        UsageError: a name that does not exist, or options that exclude each other.
        InputError: there is no checkpoint.
        RefusedError: `out` holds something.
        OutputError: it cannot be written.
    """
    if system not in FAMILIES:
        raise UsageError(f"--from must be one of {', '.join(FAMILIES)}, got {system!r}.")
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise RefusedError(f"{out} exists and is not an empty folder; choose another --out.")
    check_writable(out)
    if changes and model is None:
        raise UsageError("--config changes keywords of a named size; give --model too.")
    if system == "llamagen" and (vae is not None or size is not None):
        raise UsageError("--from llamagen makes a tokenizer, which has no --vae and no --size.")
    if size is not None and size < 1:
        raise UsageError(f"--size must be at least 1, got {size}.")
    if size is not None:
        check_area(size, size)
    if system == "maskgit" and vae is None:
        raise _without_tokenizer()
    keywords = {} if model is None else _parsed(changes, model)
    if not checkpoint.is_file():
        raise InputError(f"there is no checkpoint file {checkpoint}.")
    return keywords


def check_vae(vae: str) -> None:
    """After the checkpoint was read: one that is refused needs no network.

    Raises:
        InputError: a hub id that cannot be fetched.
    """
    if not Path(vae).exists() and hub.is_id(vae):
        instead = "Give --vae FOLDER, a diffusers AutoencoderKL with safetensors."
        hub.check_copy(vae, f"there is no folder {vae!r}, and as a hub id it", instead)


def _without_tokenizer() -> UsageError:
    """What to do for a tokenizer. It is not fetched by itself, being a pickle."""
    address = outline.literal("gensynth.convert.tokens", "TOKENIZER")
    return UsageError(
        f"--from maskgit needs the tokenizer that the model was trained with: fetch {address}"
        f", run `gensynth convert --from llamagen --checkpoint {address.rpartition('/')[2]} "
        "--out vq_f16`, then `gensynth convert --from maskgit ... --vae vq_f16`."
    )


def _parsed(changes: Sequence[str], model: str) -> dict[str, Any]:
    parsed, keywords = {}, known(model).keywords
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise UsageError(f"--config must look like key=value, got {change!r}.")
        if key not in keywords:
            raise UsageError(f"{model} has no keyword {key!r}. Known: {', '.join(keywords)}.")
        parsed[key] = parse_yaml(text, f"--config {change}")
    return parsed
