"""What commands left behind, as names and values that JSON keeps."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Results = dict[str, Any]
EXIF_DESCRIPTION = 0x010E  # where a WebP keeps its recipe
OF_THE_CLOCK = ("images_per_second", "data_wait")  # in the log of a training


def pixels_of(image: Image.Image) -> str:
    """Mode, size and a hash of the decoded pixels."""
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    return f"{image.mode} {image.width}x{image.height} {digest}"


def array_of(array: np.ndarray) -> str:
    """Kind, shape and a hash of the numbers."""
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return f"{array.dtype} {array.shape} {digest}"


def recipe_of(image: Image.Image) -> Results | None:
    """The recipe inside of a picture, without the version that drew it."""
    text = image.info.get("gensynth") or image.getexif().get(EXIF_DESCRIPTION)
    return {k: v for k, v in json.loads(text).items() if k != "gensynth"} if text else None


def pictures(files: Iterable[Path]) -> Results:
    """Pixels of each file, and its recipe; an overview has none."""
    found: Results = {}
    for number, file in enumerate(files):
        with Image.open(file) as image:
            found[f"{number} pixels"] = pixels_of(image)
            recipe = recipe_of(image)
        if recipe is not None:
            found[f"{number} recipe"] = recipe
    return found


def pictures_in(folder: Path) -> Results:
    """All that `gensynth sample` or `gensynth edit` drew into a folder."""
    found = pictures(f for f in sorted(folder.iterdir()) if f.suffix in (".png", ".webp"))
    for file in sorted(folder.glob("*.npz")):
        with np.load(file) as arrays:
            found |= {f"{file.stem} {name}": array_of(array) for name, array in arrays.items()}
    return found


def training(folder: Path) -> Results:
    """Each step of a run's log, a hash of the weights at the end, evaluations and grids."""
    found: Results = {}
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        values = {k: v for k, v in json.loads(line).items() if k not in OF_THE_CLOCK}
        found[f"step {values.pop('step')}"] = values
    found["weights"] = weights_of(folder / "model")
    for file in folder.glob("evaluations.jsonl"):
        found["evaluation"] = json.loads(file.read_text(encoding="utf-8"))["value"]
    return found | pictures(sorted(folder.glob("samples/*.png")))


def weights_of(folder: Path) -> str:
    """A hash of all tensors below a folder, by file and name."""
    from safetensors import safe_open

    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        with safe_open(file, "np") as tensors:
            for name in sorted(tensors.keys()):
                content = array_of(tensors.get_tensor(name))
                digest.update(f"{file.relative_to(folder).as_posix()} {name} {content}\n".encode())
    return digest.hexdigest()


def scores(report: Path) -> Results:
    """The numbers of a `metrics.json`."""
    content = json.loads(report.read_text(encoding="utf-8"))
    found = {score["key"]: score for score in content["scores"]}
    return found | {key: content[key] for key in ("headline", "floor_of", "warnings")}
