"""Whether the offline distance sees what goes wrong with pictures, step by step.

Real images (CIFAR-10's test set) are blurred, made noisy, or taken from fewer classes, and measured
against other real images (its training set). The floor is what they score as they are.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import ImageFilter
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gensynth.data.files.image_set import ImageSet, open_images
from gensynth.data.images import to_pil, to_tensor
from gensynth.errors import UsageError
from gensynth.metrics import Statistics, frechet_distance
from gensynth.metrics.extractors import Extractor, open_extractor
from gensynth_benchmarks.measuring import circumstances, markdown_table, write_results

SPACE = "lite0-64"
HEADLINE = "s112"
BATCH = 100
LADDERS: dict[str, tuple[float, ...]] = {
    "blur": (0.3, 0.5, 0.75, 1, 1.5, 2.5),
    "noise": (2, 4, 8, 16, 32, 64),
    "classes": (9, 8, 7, 5, 3, 2),
}
TITLES = {
    "blur": "blur, sigma in pixels",
    "noise": "noise, sigma in levels",
    "classes": "classes that are left, of 10",
}


@dataclass(frozen=True)
class Rung:
    """One set of degraded images: how far each feature is from real images, by its name."""

    ladder: str
    amount: float
    distances: dict[str, float]


@dataclass(frozen=True)
class Ladders:
    """
    Attributes:
        floor: distances of images that are not degraded, as many as in each rung.
    """

    num: int
    floor: dict[str, float]
    rungs: list[Rung]

    def of(self, ladder: str) -> list[Rung]:
        return [rung for rung in self.rungs if rung.ladder == ladder]

    def rises(self, ladder: str, feature: str) -> bool:
        """Whether the distance grows from the floor on with every rung."""
        values = [self.floor[feature]] + [rung.distances[feature] for rung in self.of(ladder)]
        return all(low < high for low, high in pairwise(values))


def main(
    data: Path, out: Path, num: int = 2000, ladders: dict[str, tuple[float, ...]] = LADDERS
) -> Ladders:
    """Measures all rungs, prints a table and writes it, with a plot, to `out`.

    Takes 3 CPU minutes for 2,000 images.

    Args:
        data: folder with the train.parquet and test.parquet of CIFAR-10, or images with labels like
            them.
    """
    extractor = open_extractor(SPACE)
    real = open_images(str(data / "train.parquet"))
    test = open_images(str(data / "test.parquet"))
    found = measured(real, test, extractor, num, ladders)
    table = show(found)
    out.mkdir(parents=True, exist_ok=True)
    plot(found, out / "evaluation_ladder.png")
    content = {**circumstances("cpu"), "space": SPACE, **asdict(found)}
    write_results(out, "evaluation_ladder", content, table)
    return found


def measured(
    real: ImageSet,
    test: ImageSet,
    extractor: Extractor,
    num: int,
    ladders: dict[str, tuple[float, ...]],
) -> Ladders:
    """Distances of `num` images of each rung to `num` real ones, as many of each class."""
    classes = sorted({label_of(real, index) for index in range(real.length)})
    reference = described(images_of(real, classes, num), extractor)
    references = {name: Statistics.of(rows).with_root() for name, rows in reference.items()}
    whole = images_of(test, classes, num)

    def distances(images: Tensor) -> dict[str, float]:
        found = {}
        for name, rows in described(images, extractor).items():
            one, other = references[name], Statistics.of(rows)
            found[name] = frechet_distance(
                one.mean, one.covariance, other.mean, other.covariance, root1=one.root
            )
        return found

    rungs = []
    for ladder, amounts in ladders.items():
        for amount in amounts:
            if ladder == "classes":
                images = images_of(test, classes[: int(amount)], num)
            else:
                images = DEGRADE[ladder](whole, amount)
            rungs.append(Rung(ladder, amount, distances(images)))
    return Ladders(len(whole), distances(whole), rungs)


def label_of(images: ImageSet, index: int) -> int:
    """
    Raises:
        UsageError: images without labels.
    """
    if images.labels is None:
        raise UsageError(f"{images.name} has no labels; the ladder takes classes away.")
    return images.labels(index)


def images_of(images: ImageSet, classes: list[int], num: int) -> Tensor:
    """uint8 [num, C, H, W], the first of each class in equal numbers, without repeating one."""
    left = {label: num // len(classes) for label in classes}
    chosen = []
    for index in range(images.length):
        label = label_of(images, index)
        if left.get(label, 0) > 0:
            left[label] -= 1
            chosen.append(index)
    return torch.cat([batch for _, batch in images.batches(chosen, BATCH)])


def described(images: Tensor, extractor: Extractor) -> dict[str, Tensor]:
    """Features [N, D] of images [N, C, H, W], by their names."""
    parts = [extractor(batch) for batch in images.split(BATCH)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Images [N, C, H, W] under Pillow's Gaussian blur."""
    kernel = ImageFilter.GaussianBlur(sigma)
    return torch.stack([to_tensor(to_pil(image).filter(kernel)) for image in images])


def noisy(images: Tensor, sigma: float) -> Tensor:
    """Images [N, C, H, W] with Gaussian noise on every level, the same for every sigma."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + sigma * noise).round().clamp(0, 255).to(torch.uint8)


DEGRADE: dict[str, Callable[[Tensor, float], Tensor]] = {"blur": blurred, "noise": noisy}


def show(found: Ladders) -> str:
    """Prints the table; returns it as Markdown, with whether each ladder rises."""
    names = list(found.floor)
    columns = ["ladder", "amount", *(f"FD({SPACE} {name})" for name in names)]
    rows = [["none", "", *(f"{value:.1f}" for value in found.floor.values())]]
    for rung in found.rungs:
        times = (
            f"{rung.distances[name]:.1f} ({rung.distances[name] / found.floor[name]:.1f}x)"
            for name in names
        )
        rows.append([rung.ladder, f"{rung.amount:g}", *times])
    table = Table(title=f"{found.num} images against as many others; (x): times the floor")
    for column in columns:
        table.add_column(column, justify="left" if column == "ladder" else "right")
    for row in rows:
        table.add_row(*row)
    console = Console(width=120)
    console.print(table)
    sentences = list(verdicts(found))
    for sentence in sentences:
        console.print(sentence, markup=False)
    return (
        markdown_table(columns, rows) + "\n" + "\n".join(f"- {text}" for text in sentences) + "\n"
    )


def verdicts(found: Ladders) -> Iterator[str]:
    """For each ladder, which distances rise with every rung and which do not."""
    for ladder in dict.fromkeys(rung.ladder for rung in found.rungs):
        rises = {name: found.rises(ladder, name) for name in found.floor}
        for word, wanted in (("rises", True), ("does not rise", False)):
            names = ", ".join(name for name in rises if rises[name] is wanted)
            if names:
                yield f"{ladder}: {word} with every rung in {names}"


def plot(found: Ladders, path: Path) -> None:
    """Distances as multiples of the floor, a panel for each ladder, as a PNG."""
    ladders = list(dict.fromkeys(rung.ladder for rung in found.rungs))
    figure = Figure(figsize=(4 * len(ladders), 3.6), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(ladders), sharey=True, squeeze=False)[0]
    for axes, ladder in zip(panels, ladders, strict=True):
        rungs = found.of(ladder)
        places = range(len(rungs) + 1)
        for name in found.floor:
            values = [rung.distances[name] / found.floor[name] for rung in rungs]
            width = 2.5 if name == HEADLINE else 1.2
            axes.plot(places, [1.0, *values], marker="o", markersize=4, linewidth=width, label=name)
        axes.axhline(1, color="#888", linewidth=1, linestyle="--", label="floor")
        axes.set_xticks(places, ["none", *(f"{rung.amount:g}" for rung in rungs)])
        axes.set(xlabel=TITLES[ladder], yscale="log")
        axes.grid(alpha=0.3, which="both")
    panels[0].set_ylabel(f"FD({SPACE}), multiples of the floor")
    panels[0].legend(title="stage")
    figure.savefig(path)
