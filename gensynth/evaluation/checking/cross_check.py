"""Our numbers beside those of torch-fidelity: its extractor and its formulas on the same images."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from gensynth.errors import InputError, UsageError
from gensynth.evaluation.measuring.features import Effort, Images
from gensynth.evaluation.measuring.measure import kept_rows
from gensynth.evaluation.measuring.measured import Measured
from gensynth.evaluation.measuring.measures import SUBSETS
from gensynth.metrics.extractors.extractor import exact_float32
from gensynth.metrics.extractors.inception_features import PUBLISHED
from gensynth.metrics.extractors.weights import find_weights

PEERS = ("torch-fidelity",)
SEED = 2020  # torch-fidelity's own
LAYERS = {"2048": "pool", "logits_unbiased": "logits"}  # its names -> ours
Features = dict[str, Tensor]


@dataclass(frozen=True)
class Row:
    """One number as computed here and by the peer."""

    key: str
    name: str
    ours: float
    theirs: float

    @property
    def difference(self) -> float:
        """Difference relative to the larger of the two."""
        largest = max(abs(self.ours), abs(self.theirs))  # neither of the two is the truth
        return abs(self.ours - self.theirs) / largest if largest else 0.0


def cross_check(
    measured: Measured,
    weights: Path | None = None,
    effort: Effort | None = None,
    peer: str = PEERS[0],
) -> list[Row]:
    """Recomputes with torch-fidelity the numbers of an evaluation that it knows too.

    Images are read and their features computed anew; of a reference that is a file of statistics
    only those are compared.

    Args:
        weights: as of the evaluation.

    Raises:
        UsageError: another peer, or another feature space than inception-2015.
        InputError: torch-fidelity is not installed, or the weights file is missing.
    """
    check_available(peer, measured.extractor.name)
    effort, network = effort or Effort(), their_network(weights).to(measured.extractor.device)
    generated = features_of(measured.samples, measured.order, network, effort)
    real = None
    if measured.real is not None:
        real = features_of(measured.real, range(measured.real.length), network, effort)
    theirs = their_numbers(generated, real, measured)
    return [
        Row(score.key, score.name, score.value, theirs[score.key])
        for score in measured.scores
        if score.key in theirs
    ]


def check_available(peer: str, extractor: str) -> None:
    """Refuses a cross-check that is not possible; called before the evaluation.

    Raises:
        UsageError: another peer, or another feature space than inception-2015.
        InputError: torch-fidelity is not installed, or broken.
    """
    if peer not in PEERS:
        raise UsageError(f"there is no cross-check with {peer!r}; known: {', '.join(PEERS)}.")
    if extractor != "inception-2015":
        raise UsageError(
            f"torch-fidelity has no {extractor}; cross-check --extractor inception-2015."
        )
    their_class()


def their_class() -> Any:
    """
    Raises:
        InputError: torch-fidelity, or torchvision, which it imports, is missing or broken.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError, OSError) as error:
        raise InputError(
            f"torch-fidelity cannot be imported: {error}. pip install 'gensynth[fidelity]', with a "
            "torchvision that belongs to the installed torch."
        ) from error
    return FeatureExtractorInceptionV3


def their_network(weights: Path | None) -> nn.Module:
    """torch-fidelity's Inception with the weights of inception-2015.

    Raises:
        InputError: torch-fidelity is not installed, or the weights file is missing.
    """
    path, _ = find_weights(PUBLISHED, weights)
    state = torch.load(path, map_location="cpu", weights_only=True)
    # torch-fidelity unpickles what it is given, code and all: so it is given nothing but tensors.
    with tempfile.TemporaryDirectory() as folder:
        tensors = Path(folder, "weights.pth")
        torch.save(state, tensors)
        with torch.random.fork_rng(devices=[]):  # it draws weights before it loads these
            network = their_class()("inception", list(LAYERS), str(tensors))
    return network.eval().to(memory_format=torch.channels_last)


@torch.inference_mode()
def features_of(
    images: Images, order: Sequence[int], network: nn.Module, effort: Effort
) -> Features:
    """torch-fidelity's pool [N, 2048] and logits [N, 1008] without bias, on the CPU."""
    parts: list[tuple[Tensor, ...]] = []
    device = next(network.parameters()).device
    for _, batch in images.batches(order, effort.batch_size, effort.workers):
        with exact_float32():
            found = network(batch.to(device).expand(-1, 3, -1, -1))  # grey counts as RGB
        parts.append(tuple(features.cpu() for features in found))
        effort.tick(len(batch))
    whole = (torch.cat(features) for features in zip(*parts, strict=True))
    return dict(zip(LAYERS.values(), whole, strict=True))


def their_numbers(
    generated: Features, real: Features | None, measured: Measured
) -> dict[str, float]:
    """The numbers torch-fidelity computes from its features, by our keys."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    pool, found = generated["pool"], {}
    details = {score.key: score.details for score in measured.scores}
    # In its units and with its defaults, so that only the implementation differs.
    statistics = real_statistics(real, measured)
    if statistics is not None:
        numbers = fid_statistics_to_metric(
            widened(fid_features_to_statistics(pool)), widened(statistics), verbose=False
        )
        found["fid"] = numbers["frechet_inception_distance"]
    if "is" in details:
        numbers = isc_features_to_metric(generated["logits"], details["is"]["splits"], True, SEED)
        found["is"] = numbers["inception_score_mean"]
    if real is None:
        return found
    kept = real["pool"][kept_rows(len(real["pool"]))]  # as ours
    if "kid" in details:
        subsets = {"kid_subsets": SUBSETS, "kid_subset_size": details["kid"]["subset_size"]}
        numbers = kid_features_to_metric(pool, kept, **subsets, verbose=False)
        found["kid"] = numbers["kernel_inception_distance_mean"]
    if "precision" in details:
        neighbours = details["precision"]["k"]
        numbers = prc_features_to_metric(pool, kept, prc_neighborhood=neighbours, verbose=False)
        found["precision"], found["recall"] = numbers["precision"], numbers["recall"]
    return found


def real_statistics(real: Features | None, measured: Measured) -> dict[str, np.ndarray] | None:
    """Mean and covariance of the reference, under torch-fidelity's names; None if it has neither.

    From its features where the reference is images; a file of statistics has its own, even if
    it holds some of the images too.
    """
    from torch_fidelity.metric_fid import fid_features_to_statistics

    reference, images = measured.reference, measured.real
    # The images may be a part of what the statistics are of, as in ADM's reference batches.
    whole = images is not None and reference.meta.get("fingerprint") == images.fingerprint
    if real is not None and whole:
        return fid_features_to_statistics(real["pool"])
    pool = reference.statistics.get("pool")
    if pool is None:
        return None
    return {"mu": pool.mean.cpu().numpy(), "sigma": pool.covariance.cpu().numpy()}


def widened(statistics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """In float64: torch-fidelity refuses means of two precisions."""
    return {name: array.astype(np.float64) for name, array in statistics.items()}


def print_rows(rows: Sequence[Row], console: Console | None = None) -> None:
    """Prints both side by side."""
    table = Table()
    for column in ("number", "gensynth", "torch-fidelity", "relative difference"):
        table.add_column(column, justify="left" if column == "number" else "right")
    for row in rows:
        table.add_row(row.name, f"{row.ours:.7g}", f"{row.theirs:.7g}", f"{row.difference:.1e}")
    (console or Console(width=100, highlight=False)).print(table)
