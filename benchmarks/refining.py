"""Refinement in stages beside plain enlarging, held against drawings of the full size.

    python tools/build_emoji.py --size 512 --split test --out data/emoji512
    python benchmarks/refining.py --truth data/emoji512/test.parquet

Held-out emoji, drawn from their vector sources at 512x512, are made small (128x128, Lanczos), and
`emoji` makes them large again as `gensynth upscale` does, beside plain Lanczos. Then the same
captions are drawn at 128x128, and made large in both ways.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SMALL, LARGE = 128, 512
PLAIN, REFINED, FREE = "plain (Lanczos)", "refined in stages", "refined, colours=false"
DRAWN = "drawn, "  # before the name of what was not made of the true picture
STAGES = ("s16", "s24", "s40")  # of EfficientNet-Lite0, whose features tell edges and textures
SHOWN = 5  # lines of the sheet
NAME = "refining"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and writes `refining.json`, `.md` and `.png` with the results."""
    from gensynth.metrics.extractors.lite0 import Lite0Features
    from gensynth.pipelines.loading import load
    from gensynth_benchmarks.measuring import ROOT, circumstances, device_name, write_results

    options = parser().parse_args(arguments)
    torch.set_grad_enabled(False)
    pipeline, network = load("emoji"), Lite0Features(LARGE)
    found: dict[str, list[dict[str, float]]] = {}
    lines: list[list[Image.Image]] = []
    for number, (text, truth) in enumerate(pictures(options.truth, options.num)):
        small = truth.resize((SMALL, SMALL), Image.Resampling.LANCZOS)
        (own,) = pipeline.draw([text], [number])
        made = {
            PLAIN: plain(small),
            REFINED: pipeline.upscale(small, text, size=(LARGE, LARGE), seeds=[number])[0],
            FREE: pipeline.upscale(
                small,
                text,
                size=(LARGE, LARGE),
                seeds=[number],
                strategy_options={"colours": False},
            )[0],
            DRAWN + PLAIN: plain(own),
            DRAWN + REFINED: pipeline.upscale(own, text, size=(LARGE, LARGE), seeds=[number])[0],
        }
        for name, picture in made.items():
            figures = compared(pixels(picture), pixels(truth), network)
            kept = ("sharpness",) if name.startswith(DRAWN) else tuple(figures)
            found.setdefault(name, []).append({key: figures[key] for key in kept})
        lines.append([*made.values(), truth])
        print(f"{number + 1}/{options.num} {text}", file=sys.stderr)
    about = circumstances("cpu") | {"pictures": len(lines)}
    rows = {name: summary(figures) for name, figures in found.items()}
    out = options.out or ROOT / "benchmarks" / "results" / device_name("cpu")
    text = markdown(rows, about)
    write_results(out, NAME, {**about, "rows": rows}, text)
    sheet(lines[:SHOWN]).save(out / f"{NAME}.png", optimize=True)
    print(text)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="refining.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--truth", type=Path, required=True, help="Parquet of pictures at 512x512")
    options.add_argument("--num", type=int, default=24, help="pictures, evenly out of all")
    options.add_argument("--out", type=Path, help="folder [benchmarks/results/DEVICE]")
    return options


def pictures(path: Path, num: int) -> list[tuple[str, Image.Image]]:
    """Captions and pictures, evenly spaced in a file."""
    from gensynth.data.images import decode

    table = pyarrow.parquet.read_table(path, columns=["image", "text"])
    chosen = np.linspace(0, table.num_rows - 1, min(num, table.num_rows)).round().astype(int)
    rows = table.take(chosen).to_pylist()
    return [(row["text"], decode(row["image"]["bytes"]).convert("RGB")) for row in rows]


def plain(picture: Image.Image) -> Image.Image:
    return picture.resize((LARGE, LARGE), Image.Resampling.LANCZOS)


def pixels(picture: Image.Image) -> Tensor:
    """uint8 [1, 3, H, W]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]


def compared(made: Tensor, truth: Tensor, network: torch.nn.Module) -> dict[str, float]:
    """How far a picture is from the true one, uint8 [1, 3, H, W] both, and how sharp beside it."""
    one, other = made.float(), truth.float()
    error = (one - other).square().mean().clamp(min=1e-9)
    slopes = [gradients(picture) for picture in (one, other)]
    return {
        "psnr": float(10 * torch.log10(255**2 / error)),
        "edge_error": float(
            sum((a - b).abs().mean() for a, b in zip(*slopes, strict=True))  # grey levels
        ),
        "feature_distance": feature_distance(made, truth, network),
        "sharpness": energy(slopes[0]) / energy(slopes[1]),
    }


def gradients(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbours, to the right and down."""
    return picture.diff(dim=-1), picture.diff(dim=-2)


def energy(slopes: Sequence[Tensor]) -> float:
    return float(sum(slope.square().sum() for slope in slopes))


def feature_distance(one: Tensor, other: Tensor, network: torch.nn.Module) -> float:
    """Mean squared difference of features of unit length at each place, summed over stages.

    As LPIPS (arXiv 1801.03924) without learned weights, of another network.
    """
    first, second = (network.maps(network.preprocess(picture)) for picture in (one, other))
    distances = [
        (F.normalize(first[stage]) - F.normalize(second[stage])).square().sum(1).mean()
        for stage in STAGES
    ]
    return float(sum(distances))


def summary(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means, and their standard errors."""
    means = {key: statistics.mean(one[key] for one in figures) for key in figures[0]}
    errors = {
        f"{key}_error": statistics.stdev(one[key] for one in figures) / len(figures) ** 0.5
        for key in figures[0]
        if len(figures) > 1
    }
    return means | errors


def markdown(rows: Mapping[str, Mapping[str, float]], about: Mapping[str, object]) -> str:
    """A table; drawn pictures have no true one, but an edge is as sharp in one as in another."""
    from gensynth_benchmarks.measuring import markdown_table

    kinds = {"psnr": ("PSNR, dB", 1), "edge_error": ("error of edges, grey levels", 2)}
    kinds |= {"feature_distance": ("distance of features", 3), "sharpness": ("sharpness", 2)}

    def cell(row: Mapping[str, float], key: str) -> str:
        if key not in row:
            return ""
        said, digits = f"{row[key]:.{kinds[key][1]}f}", kinds[key][1]
        error = row.get(f"{key}_error")
        return said if error is None else f"{said} ± {error:.{digits}f}"

    names = ["picture", *(title for title, _ in kinds.values())]
    cells = [[name, *(cell(row, key) for key in kinds)] for name, row in rows.items()]
    said = (
        f"{about['device']}, {about['date']}, commit {about['commit']}, {about['pictures']} "
        f"held-out emoji: `{about['command']}`"
    )
    return f"{said}\n\n{markdown_table(names, cells)}"


def sheet(lines: Sequence[Sequence[Image.Image]], side: int = 256) -> Image.Image:
    """Pictures side by side, a line for each thing: a quarter of each, at its own pixels."""
    whole = Image.new("RGB", (side * len(lines[0]), side * len(lines)), "white")
    for row, line in enumerate(lines):
        for column, picture in enumerate(line):
            corner = (LARGE - side) // 2, LARGE // 8
            part = picture.crop((*corner, corner[0] + side, corner[1] + side))
            whole.paste(part, (side * column, side * row))
    return whole


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose files libraries would take for packages; see gpu.py
    main()
