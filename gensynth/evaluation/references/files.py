"""Files of statistics in the layouts of other projects, and in ours.

| file | holds |
|---|---|
| .npz of ADM (openai/guided-diffusion, evaluations) | mu, sigma, mu_s, sigma_s, images arr_0 |
| .npz of EDM, pytorch-fid, clean-fid, MAR | mu, sigma |
| .npz of clean-fid for KID, of dgm-eval | features feats or reps [N, D] |
| .pkl of EDM2 | fid and fd_dinov2, each with mu and sigma; num_images |
| .pt of Halton-MaskGIT | mu, cov |

Ours is ADM's with more: `n` images, `sqrt_sigma` (a root R of sigma, R R^T = sigma), features
`feat_ref` [N, D], and `gs_meta` (JSON). Features other than ADM's two go by their name, as in
`mu_s112`.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gensynth.data.files.npz import array_names, read_array
from gensynth.errors import InputError, OutputError, UsageError
from gensynth.evaluation.references.safe_pickle import read_pickle, read_tensors
from gensynth.files import replace_file
from gensynth.metrics.moments import Statistics

# ADM's endings for its two features; those of another feature end in "_" and its name.
ENDINGS = {"pool": "", "spatial": "_s"}
NAMES = {ending.removeprefix("_"): feature for feature, ending in ENDINGS.items()}
# What files that do not say so are of, by the width: Inception, or DINOv2 ViT-L/14.
WIDTHS = {"": {2048: "pool", 1024: "cls"}, "s": {2023: "spatial"}}
FEATURE_ARRAYS = ("feats", "reps")
META = "gs_meta"
NEGATIVE = 1e-6  # of the trace: eigenvalues below are no rounding of float32


@dataclass
class Stored:
    """What a file says.

    Attributes:
        statistics: by the name of the feature.
        features: float arrays [N, D], likewise.
        meta: what else is known; in files of ours among it `count` and `extractor`.
    """

    statistics: dict[str, Statistics] = field(default_factory=dict)
    features: dict[str, np.ndarray] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)


def holds_statistics(path: Path) -> bool:
    """Whether a file is one of these by its name and, if it is an .npz, its arrays.

    Raises:
        InputError: an .npz that cannot be read.
    """
    if path.suffix.lower() != ".npz":
        return path.suffix.lower() in READERS
    return path.is_file() and not {META, "mu", *FEATURE_ARRAYS}.isdisjoint(array_names(path))


def read_stored(path: Path) -> Stored:
    """The statistics and features in a file of any of these layouts. No code in it is run.

    Raises:
        InputError: the file is missing, damaged or of another layout, or its numbers are no
            statistics: other shapes, NaN, or no covariance matrix.
        RefusedError: a pickle that needs more than numbers and arrays.
    """
    if not path.is_file():
        raise InputError(f"there is no reference file {path}.")
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(f"{path} is no file of statistics; those end in {', '.join(READERS)}.")
    stored = read(path)
    if not stored.statistics and not stored.features:
        raise InputError(f"{path} holds neither mu and sigma nor features.")
    return stored


def write_stored(path: Path, stored: Stored) -> None:
    """Writes our layout, float64 and not compressed; the file is whole or absent.

    Raises:
        OutputError: the disk is full or the folder not writable.
    """
    arrays: dict[str, Any] = {}
    for feature, statistics in stored.statistics.items():
        ending = ENDINGS.get(feature, f"_{feature}")
        arrays[f"mu{ending}"] = statistics.mean.cpu()
        arrays[f"sigma{ending}"] = statistics.covariance.cpu()
        if statistics.root is not None:
            arrays[f"sqrt_sigma{ending}"] = statistics.root.cpu()
        if statistics.count is not None:
            arrays["n"] = statistics.count
    for feature, rows in stored.features.items():
        arrays[f"feat_ref{ENDINGS.get(feature, f'_{feature}')}"] = rows
    arrays[META] = np.frombuffer(json.dumps(stored.meta).encode(), np.uint8)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, stream.getvalue())
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write {path}: {reason}. Choose another place.") from error


def _npz(path: Path) -> Stored:
    names = array_names(path)
    ours = META in names
    stored = Stored(meta=_meta(path) if ours else {})
    count = _whole(path, "n", read_array(path, "n")) if ours and "n" in names else None
    for name in names:
        kind, ending = _parts(name)
        if not ours and ending not in WIDTHS:  # of a feature space that is not known here
            continue
        if kind == "mu":
            keys = [name, *(f"{other}{name[2:]}" for other in ("sigma", "sqrt_sigma"))]
            if keys[1] not in names:
                raise InputError(f"{path} has {name} but no {keys[1]}.")
            arrays = [read_array(path, key) for key in keys if key in names]
            feature = _feature(path, name, ending, arrays[0], ours)
            stored.statistics[feature] = _statistics(path, keys, arrays, count)
        elif kind == "features":
            rows = read_array(path, name)
            stored.features[_feature(path, name, ending, rows, ours)] = _rows(path, name, rows)
    # clean-fid and dgm-eval store features alone, of which the moments follow.
    if not ours:
        for feature in stored.features.keys() - stored.statistics.keys():
            stored.statistics[feature] = Statistics.of(stored.features[feature])
    return stored


def _parts(name: str) -> tuple[str, str]:
    """What an array is, and the end of its name that says of which feature."""
    if name in FEATURE_ARRAYS:
        return "features", ""
    for prefix, kind in (("mu", "mu"), ("feat_ref", "features")):
        if name == prefix or name.startswith(f"{prefix}_"):
            return kind, name.removeprefix(prefix).removeprefix("_")
    return "other", ""


def _feature(path: Path, name: str, ending: str, values: np.ndarray, ours: bool) -> str:
    """Which feature an array is of: files of others say it by its width."""
    if ours:
        return NAMES.get(ending, ending)
    known, width = WIDTHS[ending], values.shape[-1] if values.ndim else 1
    if width not in known:
        widths = " or ".join(f"{one} ({feature})" for one, feature in known.items())
        raise InputError(f"{path}: {name} has {width} values for each image, known is {widths}.")
    return known[width]


def _statistics(
    path: Path, names: list[str], arrays: list[np.ndarray], count: int | None
) -> Statistics:
    for name, array in zip(names, arrays, strict=False):
        if array.dtype.kind not in "fiu":
            raise InputError(f"{path}: {name} holds values of type {array.dtype}, not numbers.")
    parts: list[Any] = [*arrays, None]
    mean, covariance, root = parts[:3]
    try:
        statistics = Statistics(mean, covariance, count, root, (names[0], names[1], names[2]))
    except UsageError as error:
        raise InputError(f"{path}: {error}") from error
    shift = NEGATIVE * float(statistics.covariance.trace())
    shifted = statistics.covariance + shift * torch.eye(len(statistics.mean))
    # Cholesky fails where an eigenvalue is below -shift; a stored root proves there is none.
    if root is None and shift > 0 and bool(torch.linalg.cholesky_ex(shifted).info):
        raise InputError(f"{path}: {names[1]} is no covariance matrix: an eigenvalue is negative.")
    return statistics


def _rows(path: Path, name: str, rows: np.ndarray) -> np.ndarray:
    if rows.ndim != 2 or len(rows) < 2 or rows.dtype.kind != "f" or not np.isfinite(rows).all():
        raise InputError(
            f"{path}: {name} must be features of two images or more, finite floats [N, D]; it is "
            f"{rows.dtype} {list(rows.shape)}."
        )
    return rows


def _meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(read_array(path, META).tobytes())
    except ValueError as error:
        raise InputError(f"{path}: {META} is damaged: {error}. Make the file again.") from error
    if not isinstance(meta, dict):
        raise InputError(f"{path}: {META} is damaged. Make the file again.")
    return meta


def _whole(path: Path, name: str, value: Any) -> int:
    if np.asarray(value).dtype.kind not in "iu" or np.ndim(value):
        raise InputError(f"{path}: {name} must be a number of images, it is {value}.")
    return int(value)


def _edm2(path: Path) -> Stored:
    content = read_pickle(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} is a pickle of {type(content).__name__}, not of statistics.")
    stored = Stored()
    if "num_images" in content:
        stored.meta["count"] = _whole(path, "num_images", content["num_images"])
    for name in ("fid", "fd_dinov2"):
        if isinstance(content.get(name), Mapping):
            _add_moments(stored, path, content[name], "sigma")
    return stored


def _halton(path: Path) -> Stored:
    content, stored = read_tensors(path), Stored()
    if isinstance(content, Mapping):
        _add_moments(stored, path, content, "cov")
    return stored


def _add_moments(stored: Stored, path: Path, entry: Mapping[str, Any], sigma: str) -> None:
    """Adds the statistics in `entry["mu"]` and `entry[sigma]`, if they are there."""
    if "mu" not in entry or sigma not in entry:
        return
    arrays = []
    for name in ("mu", sigma):
        value = entry[name]
        if isinstance(value, Tensor):
            value = value.detach().double().numpy()
        if not isinstance(value, np.ndarray):
            raise InputError(f"{path}: {name} is a {type(value).__name__}, not an array.")
        arrays.append(value)
    feature = _feature(path, "mu", "", arrays[0], ours=False)
    names = ["mu", sigma, "root"]
    stored.statistics[feature] = _statistics(path, names, arrays, stored.meta.get("count"))


READERS = {".npz": _npz, ".pkl": _edm2, ".pt": _halton, ".pth": _halton}
