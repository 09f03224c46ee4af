"""`gensynth bench`."""

import enum
from pathlib import Path

import typer

from gensynth.errors import InputError, UsageError
from gensynth.system import outline
from gensynth.system.disk import check_writable


class What(enum.StrEnum):
    training = "training"
    models = "models"
    masked = "masked"
    ops = "ops"
    compile = "compile"
    evaluation = "evaluation"
    linearize = "linearize"
    highres = "highres"


class Device(enum.StrEnum):
    cpu = "cpu"
    cuda = "cuda"


def register(app: typer.Typer) -> None:
    app.command("bench")(bench)


def bench(
    what: What = typer.Argument(What.training, help="What to measure; see above."),
    seconds: float = typer.Option(
        10.0, "--seconds", min=0.01, help="How long each single measurement may take."
    ),
    device: Device = typer.Option(
        None, "--device", help="For ops: which table; the GPU's if there is one."
    ),
    out: Path = typer.Option(
        None,
        "--out",
        help="For ops, evaluation, linearize, highres: a folder; benchmarks/results/DEVICE.",
    ),
    part: list[str] = typer.Option(
        [], "--part", help="For evaluation: ladder, memory, frechet or speed; repeatable."
    ),
    data: Path = typer.Option(
        None, "--data", help="For the ladder: folder with CIFAR-10's train and test Parquet files."
    ),
    minutes: float = typer.Option(
        7.5,
        "--minutes",
        min=0,
        help="For linearize, highres, and ops on a GPU: start no row after this; again to go on.",
    ),
) -> None:
    """Measure on this machine and print tables.

    training: images a second of training and sampling. models: how the time of each backbone grows
    with the image, and the memory of each token mixer on 65,536 tokens. masked: images a second of
    masked tokens beside diffusion, and what a decoding step spends beside the transformer. ops:
    the operators beside their peers on a GPU; on a CPU exact counts, and from where on linear and
    local attention are ahead (3 to 5 minutes, half of them for compiling kernels for two GPUs).
    compile: the kernels compiled for GPUs, without one. evaluation: how distances react to blur
    and noise, their memory, and their speed beside others. linearize: blocks of FLUX and
    self-attentions of SDXL, linear beside full attention, on a CPU (a few minutes for the smaller
    sizes; --minutes 80 for all). highres: steps of backbones from 256 to 2048 pixels, and decoding
    of large pictures, on a CPU.
    """
    check(what, part, data)
    if out is not None:
        check_writable(out)
    if what is What.ops:
        from gensynth_benchmarks.operators import main as run_operators

        run_operators(device and device.value, out, seconds, minutes)
        return
    if what is What.compile:
        from gensynth_benchmarks.compile_report import main as run_report

        run_report()
        return
    if what is What.linearize:
        from gensynth_benchmarks.linearize import main as run_linearize

        run_linearize(out, seconds, minutes)
        return
    if what is What.highres:
        from gensynth_benchmarks.highres import main as run_highres

        run_highres(out, seconds, minutes)
        return
    if what is What.evaluation:
        from gensynth_benchmarks.evaluation import PARTS
        from gensynth_benchmarks.evaluation import main as run_evaluation

        run_evaluation(seconds, out, part or PARTS, data)
        return
    if what is What.training:
        from gensynth_benchmarks.foundation import main as run
    elif what is What.models:
        from gensynth_benchmarks.models import main as run
    else:
        from gensynth_benchmarks.masked import main as run
    run(seconds)


def check(what: What, parts: list[str], data: Path | None) -> None:
    """
    Raises:
        UsageError: a part of the benchmark of evaluation that does not exist.
        InputError: there is no folder with its data.
    """
    known = outline.literal("gensynth_benchmarks.evaluation", "PARTS")
    for part in parts if what is What.evaluation else ():
        if part not in known:
            raise UsageError(f"no part {part!r}; known: {', '.join(known)}.")
    if data is not None and not data.is_dir():
        raise InputError(f"there is no folder {data}; --data is one with CIFAR-10's Parquet files.")
