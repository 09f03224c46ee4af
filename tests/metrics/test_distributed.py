"""Any number of processes gives the same numbers. torchrun runs this file in two processes:

test_distributed.py FOLDER writes what process N found to FOLDER/N.json.
"""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn
from torchmetrics import Metric

from gensynth.metrics import (
    CMMD,
    DensityCoverage,
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    PrecisionRecall,
)

DIM, NUM_REAL, NUM_GENERATED = 5, 83, 70


def images(real: bool) -> torch.Tensor:
    """uint8 [N, 1, 3, 3]."""
    shape = (NUM_REAL if real else NUM_GENERATED, 1, 3, 3)
    generator = torch.Generator().manual_seed(int(real))
    return torch.randint(0, 256 - 40 * real, shape, generator=generator, dtype=torch.uint8)


class Pixels(nn.Module):
    """A feature space of some pixels."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.flatten(1)[:, :DIM].float() / 255


def fresh() -> dict[str, Metric]:
    pixels = Pixels()
    return {
        "frechet": FrechetDistance(DIM, extractor=pixels),
        "kernel": KernelDistance(DIM, subsets=5, subset_size=30, extractor=pixels),
        "cmmd": CMMD(DIM, extractor=pixels),
        "score": InceptionScore(DIM, extractor=pixels),
        "manifold": PrecisionRecall(DIM, extractor=pixels),
        "density": DensityCoverage(DIM, extractor=pixels),
    }


def fed(indices: dict[bool, torch.Tensor]) -> dict[str, Metric]:
    """Metrics that saw the images with these numbers, in batches of seven."""
    metrics = fresh()
    for real, chosen in indices.items():
        for index in chosen.split(7) if len(chosen) else ():
            for metric in metrics.values():
                metric.update(images(real)[index], real=real, index=index)
    return metrics


def share(rank: int, world: int) -> dict[bool, torch.Tensor]:
    """What one of several processes works on; of the real images the first one has the most."""
    start = 0 if rank == 0 else NUM_REAL - (world - rank)
    stop = NUM_REAL - (world - rank - 1)
    return {
        True: torch.arange(start, stop),
        False: torch.arange(rank, NUM_GENERATED, world).flip(0),
    }


def results(metric: Metric) -> list[float]:
    value = metric.compute()
    return [float(one) for one in (value if isinstance(value, tuple) else (value,))]


def numbers(metrics: dict[str, Metric]) -> dict[str, float]:
    """Every result under a name of its own."""
    found = {}
    for name, metric in metrics.items():
        found |= {f"{name}.{part}": one for part, one in enumerate(results(metric))}
    estimate = asdict(metrics["frechet"].estimate())
    found |= {f"frechet.{name}": value for name, value in estimate.items()}
    return found


def main() -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    metrics = fed(share(rank, 2))
    found = {"shared": numbers(metrics), "again": numbers(metrics)}
    everything = share(0, 1) if rank == 1 else {True: torch.arange(0), False: torch.arange(0)}
    found["one has nothing"] = numbers(fed(everything))
    Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def alone() -> dict[str, float]:
    found = numbers(fed(share(0, 1)))
    assert len(found) == 10 + 7 and all(abs(value) > 1e-9 for value in found.values())
    return found


@pytest.mark.parametrize("world", [2, 4])
def test_merged_by_hand(alone, world):
    """As a run that goes on from the states of others."""
    parts = [fed(share(rank, world)) for rank in range(world)]
    for name, metric in parts[0].items():
        for part in parts[1:]:
            metric.merge_state(part[name])
    assert numbers(parts[0]) == pytest.approx(alone, rel=1e-9)


def test_two_processes(alone, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, __file__, str(tmp_path)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        for case, found in json.loads((tmp_path / f"{rank}.json").read_text()).items():
            assert found == pytest.approx(alone, rel=1e-9), (rank, case)


def test_numbers_without_an_index():
    """Images are counted on by themselves, and a set can be forgotten."""
    indexed, counted = fed(share(0, 1)), fresh()
    for _ in range(2):
        for name, metric in counted.items():
            metric.reset()
            for real in (False, True):
                for batch in images(real).split(11):
                    metric.update(batch, real=real)
            pairs = zip(results(metric), results(indexed[name]), strict=True)
            assert all(found == pytest.approx(one, rel=1e-9) for found, one in pairs)


def test_no_images_yet():
    for name, metric in fresh().items():
        with pytest.raises(ValueError, match="two images" if name == "frechet" else "no .* images"):
            metric.update(images(True), real=True)
            metric.compute()


if __name__ == "__main__":
    main()
