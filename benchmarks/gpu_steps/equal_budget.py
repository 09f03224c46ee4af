"""Six backbones at 35 M parameters, 210 seconds of training each on CIFAR-10; then regularizers.

The same recipe (configs/cifar10/equal_budget.yaml), the same order of the data and the same time;
only the model differs. A short run measures the speed, and the run takes as many steps as fit into
the time at that speed, so that compiling does not count. Then 10,000 pictures are drawn with the
average of the weights (Euler, 50 steps, guidance 1.5, in bfloat16) and compared with the test set.

The best two are trained again with a regularizer. Dispersive Loss spreads the states after about a
quarter of the blocks, as its authors do. LayerSync pulls such an early block towards one at twice
the depth, as its authors do in transformers; in the U-shaped models both have to be of one level,
and these are the first and the fourth block of the lowest, where the whole picture is seen.

Losses are without the regularizers' terms. MDTv2's is the sum over its two passes, of all tokens
and of some, so that it is about twice the others'.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure

from gensynth.config import Experiment
from gensynth.data.sources import open_source
from gensynth.experiments.build import build_condition, build_model
from gensynth.training.loop import train
from gensynth_benchmarks.gpu_steps.common import Bench, fresh_memory
from gensynth_benchmarks.gpu_steps.training_runs import (
    CIFAR10,
    distance,
    drawing,
    experiment,
    facts,
    plan,
    real_images,
    write_grid,
)
from gensynth_benchmarks.ledger import Row
from gensynth_benchmarks.machine import peak_gib
from gensynth_benchmarks.measuring import Table, number, share

CONFIG = "cifar10/equal_budget.yaml"
BUDGET_SECONDS = 210.0
OTHER_SECONDS = 120.0  # compiling, the measurement of speed, pictures and their features
SAMPLES = 10_000
# The published S sizes with a depth that makes up for the parameters a kind has of its own.
MODELS = {
    "DiT": "{name: DiT-S/2, depth: 13}",
    "DiCo": "{name: DiCo-S, depth: [5, 4, 5, 4, 4]}",
    "DiC": "{name: DiC-S, depth: [6, 6, 6, 6, 6]}",
    "MDTv2": "{name: MDTv2-S/2, depth: 11, decode_layer: 3}",
    "DiT-linear": "{name: DiT-S/2, depth: 11, mixer: linear}",
    "DiT-local": "{name: DiT-S/2, depth: 13, mixer: local, window: 8}",
}
NANO = {
    "DiT": "{name: DiT-nano/2}",
    "DiCo": "{name: DiCo-nano}",
    "DiC": "{name: DiC-nano}",
    "MDTv2": "{name: MDTv2-nano/2}",
    "DiT-linear": "{name: DiT-nano/2, mixer: linear}",
    "DiT-local": "{name: DiT-nano/2, mixer: local, window: 8}",
}
# The block that Dispersive Loss reads, and the later one that LayerSync's earlier one follows.
BLOCKS = {
    "DiT": ("blocks.3", ("blocks.3", "blocks.7")),
    "DiCo": ("levels.1.1", ("levels.2.0", "levels.2.3")),
    "DiC": ("levels.1.1", ("levels.2.0", "levels.2.3")),
    "MDTv2": ("encoder_in.2", ("encoder_in.2", "encoder_out.2")),
}
REGULARIZERS = ("dispersive", "layersync")
PLOT = "equal_budget.png"


def run(bench: Bench) -> None:
    """The six backbones, then the best two with each regularizer; the plot of all there is."""
    real_images(bench, CIFAR10)  # without data no row could be measured
    for model in MODELS:
        measure(bench, model, "")
    plain = [row for row in best_first(bench.ledger.rows) if row["regularizer"] == ""]
    if all(bench.ledger.find(model=model, regularizer="") for model in MODELS):
        for row in plain[:2]:
            for regularizer in REGULARIZERS:
                measure(bench, row["model"], regularizer)
    if plain:
        plot(best_first(bench.ledger.rows), bench.out / PLOT)


def measure(bench: Bench, model: str, regularizer: str) -> None:
    needs = 0.0 if bench.miniature else BUDGET_SECONDS + OTHER_SECONDS
    work = partial(row, bench, model, regularizer)
    bench.ledger.measure(work, needs, model=model, regularizer=regularizer)


def row(bench: Bench, model: str, regularizer: str) -> Row:
    """Trains one model for the budget, and measures what it draws."""
    name = f"{model}_{regularizer}" if regularizer else model
    folder = bench.work / "equal_budget" / name
    make = partial(recipe, bench, model, regularizer)
    fresh_memory(bench.device)
    planned = plan(folder, make, BUDGET_SECONDS, bench.miniature)
    whole = make(f"output='{folder / 'run'}'", f"training.steps={planned['steps']}")
    finished = train(whole)
    peak = peak_gib(bench.device)
    pipeline = drawing(bench, finished / "model")
    return {
        "parameters": parameters(whole),
        **planned,
        **facts(finished, whole, len(open_source(whole.data).rows)),
        "peak_gib": peak,
        **distance(bench, CIFAR10, pipeline, SAMPLES),
        "grid": write_grid(bench, pipeline, f"equal_budget_{name}.png"),
    }


def recipe(bench: Bench, model: str, regularizer: str, *overrides: str) -> Experiment:
    """The experiment of one model, with a regularizer if one is named."""
    models = NANO if bench.miniature else MODELS
    return experiment(
        bench,
        CIFAR10,
        CONFIG,
        f"model={models[model]}",
        f"regularizers=[{term(model, regularizer, bench.miniature)}]",
        "checkpoint.every=1000000",  # only the last
        *overrides,
    )


def term(model: str, regularizer: str, miniature: bool) -> str:
    """The YAML of a regularizer; nothing for none."""
    block, (first, second) = BLOCKS[model.partition("-")[0]]
    size = 2 if miniature else 64
    return {
        "": "",
        "dispersive": f"{{name: dispersive, block: {block}, group_size: {size}}}",
        "layersync": f"{{name: layersync, pairs: [[{first}, {second}]]}}",
    }[regularizer]


def parameters(experiment: Experiment) -> int:
    with torch.device("meta"):
        model = build_model(experiment, build_condition(experiment, [*"0123456789"]))
    return sum(parameter.numel() for parameter in model.parameters())


def best_first(rows: Sequence[Row]) -> list[Row]:
    return sorted((row for row in rows if "distance" in row), key=lambda row: row["distance"])


def title(row: Row) -> str:
    return f"{row['model']} + {row['regularizer']}" if row["regularizer"] else row["model"]


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draws all curves of the loss, and the distances with their standard errors, as a PNG."""
    figure = Figure(figsize=(12, 4.5), dpi=100, layout="constrained")
    losses, distances = figure.subplots(1, 2)
    for row in rows:
        seconds = [step * row["seconds"] / row["steps"] for step, _ in row["curve"]]
        style = "--" if row["regularizer"] else "-"
        losses.plot(seconds, [loss for _, loss in row["curve"]], style, label=title(row))
    losses.set(xlabel="seconds", ylabel="loss (MDTv2: of two passes)", yscale="log")
    losses.yaxis.set_minor_formatter("{x:g}")
    losses.legend(loc="upper right")
    errors = [row["standard_error"] or 0.0 for row in rows]
    names = [title(row) for row in rows]
    distances.barh(names, [row["distance"] for row in rows], xerr=errors, color="#69b", capsize=2)
    if rows[0]["floor"] is not None:
        distances.axvline(rows[0]["floor"], color="#a31", linestyle="--", label="real images")
        distances.legend(loc="lower right")
    distances.invert_yaxis()
    distances.set(xlabel=f"{rows[0]['metric']}, {rows[0]['samples']:,} pictures")
    for axes in (losses, distances):
        axes.grid(alpha=0.3, which="both")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def tables(rows: Sequence[Row], about: Row) -> list[Table]:
    """The best first; what failed last."""
    failed = [row for row in rows if "failed" in row]
    lines = [
        [
            title(row),
            number(row["parameters"] / 1e6, 1),
            number(row["steps"], 0),
            number(row["epochs"], 1),
            number(row["images_per_second"], 0),
            share(row["data_wait"]),
            number(row["seconds"], 0),
            number(row["loss"], 4),
            f"{row['distance']:.2f} ± {row['standard_error'] or 0.0:.2f}",
            number(row["floor"]),
        ]
        for row in best_first(rows)
    ]
    lines += [[title(row), row["failed"], *[""] * 8] for row in failed]
    columns = ["model", "M parameters", "steps", "epochs", "images/s", "waiting for data"]
    columns += ["seconds", "loss", "FD(lite0-64)", "real images"]
    return [Table(f"CIFAR-10, {BUDGET_SECONDS:.0f} seconds of training each", columns, lines)]


def verdicts(rows: Sequence[Row]) -> list[str]:
    """Which model is best and how far ahead, and what each regularizer changed. No targets."""
    plain = [row for row in best_first(rows) if not row["regularizer"]]
    missing = [name for name in MODELS if name not in {row["model"] for row in plain}]
    lines = [f"not measured: {', '.join(missing)}"] if missing else []
    if len(plain) > 1:
        lines.append(f"best: {compared(plain[0], plain[1])}")
    for row in rows:
        base = next((other for other in plain if other["model"] == row["model"]), None)
        if row["regularizer"] and "distance" in row and base is not None:
            lines.append(compared(row, base))
    return lines


def compared(row: Row, other: Row) -> str:
    """How much lower a distance is than another, and whether that is more than chance."""
    gain = other["distance"] - row["distance"]
    error = sum((each["standard_error"] or 0.0) ** 2 for each in (row, other)) ** 0.5
    sure = "more" if abs(gain) > 2 * error else "NOT more"
    return (
        f"{title(row)} {row['distance']:.2f}, {title(other)} {other['distance']:.2f}: lower by "
        f"{gain:.2f}, {sure} than two standard errors ({2 * error:.2f})"
    )
