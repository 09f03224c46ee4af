"""`gensynth evaluate`."""

import json
from pathlib import Path
from typing import Any

import typer

from gensynth.cli.options import LOAD, LORA, VARIANT, drawing_options
from gensynth.evaluation.request import Request
from gensynth.settings import Settings
from gensynth.system.disk import check_writable
from gensynth.system.temporary import remove_leftovers


def register(app: typer.Typer) -> None:
    about = "With --model: "
    # --size is of the real images here.
    app.command("evaluate")(drawing_options(evaluate, without=("size",), before=about))


def evaluate(
    samples: str = typer.Argument(
        None, help="Folder of pictures, .npz with arr_0, .tar, .parquet; or give --model."
    ),
    reference: str = typer.Option(
        None,
        "--reference",
        help="Real images likewise, or fashion_mnist:test, or a file of statistics.",
    ),
    model: str = typer.Option(
        None, "--model", help="Draw the samples with this model; no picture is stored."
    ),
    variant: str = VARIANT,
    lora: list[str] = LORA,
    load: list[str] = LOAD,
    num: int = typer.Option(
        None,
        "--num",
        "-n",
        help="Samples to use. [default: all; with --model 50,000, or one for each prompt]",
    ),
    seed: int = typer.Option(
        None, "--seed", help="Of the first picture, or of which are used. [default: 0]"
    ),
    labels: str = typer.Option(
        None, "--labels", help="With --model: balanced or random. [default: balanced]"
    ),
    settings: Settings = Settings(),
    protocol: str = typer.Option(
        None, "--protocol", help="All of it as for a published number; 'list' names them."
    ),
    extractor: str = typer.Option(
        None,
        "--extractor",
        help="Feature space. [default: lite0-64; inception-2015 with --weights]",
    ),
    weights: Path = typer.Option(None, "--weights", help="File or folder of its weights."),
    download: bool = typer.Option(False, "--download", help="Fetch weights that are missing."),
    metrics: str = typer.Option(
        None,
        "--metrics",
        help="Some, with commas between: frechet, is, precision-recall, density-coverage, kid, "
        "cmmd, retrieval, clip-score, copies, held-out. [default: all that fit]",
    ),
    floor: str = typer.Option(
        None, "--floor", help="Other real images, whose score stands beside the samples'."
    ),
    prompts: str = typer.Option(
        None,
        "--prompts",
        help="What the samples were drawn for, or what is drawn: a .txt, .csv, .jsonl or .parquet, "
        "or pictures with captions. [default with a model of texts: the captions of the reference]",
    ),
    trained_on: str = typer.Option(
        None,
        "--trained-on",
        help="Pictures the model was trained on: copies of them are looked for and shown.",
    ),
    clip: str = typer.Option(
        None, "--clip", help="Folder or hub id of a CLIP: the CLIP score of samples and prompts."
    ),
    size: int = typer.Option(
        None, "--size", help="Bring the real images, not the samples, to squares of this size."
    ),
    fit: str = typer.Option("crop", "--fit", help="How --size does it: crop or pad."),
    class_level: int = typer.Option(
        None,
        "--class-level",
        help="Level of folders that are the classes; 0 for none. [default: the first]",
    ),
    batch_size: int = typer.Option(
        None, "--batch-size", "-b", help="Images taken together. [default: 64; 16 where drawn]"
    ),
    workers: int = typer.Option(0, "--workers", help="Processes that decode, for each process."),
    out: Path = typer.Option(
        None, "--out", "-o", help="Folder for metrics.json and report.html, or a .json file."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
    keep: bool = typer.Option(False, "--keep-features", help="With --model: keep them for a week."),
    cross_check: str = typer.Option(
        None, "--cross-check", metavar="torch-fidelity", help="Print its numbers beside ours."
    ),
    selfcheck: bool = typer.Option(
        False,
        "--selfcheck",
        help="Test this installation instead: measure published samples, which you put into the "
        "folder SAMPLES, and compare with the published numbers. Says which files it looks for.",
    ),
) -> None:
    """Measure how far samples are from real images: FID and others.

    gensynth evaluate drawn --reference fashion_mnist:test

    gensynth evaluate --model runs/demo --num 980 --reference emoji:train --out report

    gensynth evaluate --model emoji --reference emoji:test --trained-on emoji:train --out out

    With the weights of the FID Inception (pytorch-fid's file): FID, sFID, Inception Score,
    precision and recall as published, --weights FILE --reference VIRTUAL_imagenet256_labeled.npz

    gensynth evaluate --protocol dit-xl2-256-cfg1.5 --model dit --weights FILE --out report

    torchrun --nproc-per-node 2 -m gensynth evaluate ... shares the work; the numbers stay the same
    (torchrun takes --num for an option of its own; -n is the same). A stopped command continues
    where it was.
    """
    if protocol == "list":
        list_protocols()
        return
    request = Request(
        samples=samples,
        model=model,
        variant=variant,
        reference=reference,
        num=num,
        seed=seed,
        labels=labels,
        drawing=settings,
        protocol=protocol,
        extractor=extractor,
        weights=weights,
        download=download,
        metrics=metrics,
        floor=floor,
        prompts=prompts,
        trained_on=trained_on,
        clip=clip,
        size=size,
        fit=fit,
        class_level=class_level,
        batch_size=batch_size,
        workers=workers,
        lora=tuple(lora),
        load=tuple(load),
        cross_check=cross_check,
        selfcheck=selfcheck,
    )
    request.check()
    if out is not None:
        check_writable(out.parent if out.suffix == ".json" else out)
    remove_leftovers()
    from gensynth.evaluation.measuring.features import remove_unused
    from gensynth.progress import progress_bar

    with progress_bar() as bar:
        task = bar.add_task("evaluating", total=None)

        effort = request.effort(
            tick=lambda count: bar.advance(task, count),
            expect=lambda more: bar.update(task, total=(bar.tasks[0].total or 0) + more),
            say=lambda text: bar.console.print(text, highlight=False, markup=False, soft_wrap=True),
        )
        if selfcheck:
            check_installation(request, effort)
            return
        found = request.run(effort)
    if found is None:  # not the main process
        return
    measured, report = found
    publish(measured, report, out, as_json)
    if cross_check is not None:
        from rich.console import Console

        from gensynth.evaluation.checking.cross_check import cross_check as compare
        from gensynth.evaluation.checking.cross_check import print_rows

        console = Console(stderr=as_json)  # which leaves stdout to the JSON
        print_rows(compare(measured, weights, peer=cross_check), console)
    if model is not None and not keep:
        for files in (measured.files, *measured.further):
            files.remove()
    remove_unused()


def list_protocols() -> None:
    """Prints every protocol in words."""
    from gensynth.evaluation.protocols.protocols import PROTOCOLS
    from gensynth.evaluation.protocols.runs import describe

    for protocol in PROTOCOLS.values():
        print(describe(protocol))


def check_installation(request: Request, effort: Any) -> None:
    """Prints published numbers beside those computed here."""
    from gensynth.evaluation.checking.selfcheck import selfcheck

    assert request.samples is not None
    selfcheck(Path(request.samples), request.weights, download=request.download, effort=effort)


def publish(measured: Any, report: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """Prints a report and writes what `--out` asks for."""
    from gensynth.evaluation.report.page import write_page
    from gensynth.evaluation.report.report import METRICS_FILE, print_report, write_report

    if as_json:
        print(json.dumps(report, indent=1))
    else:
        print_report(report)
    if out is None:
        return
    if out.suffix == ".json":
        write_report(report, out)
        return
    write_report(report, out / METRICS_FILE)
    write_page(measured, report, out / "report.html")
    if not as_json:
        print(f"{out / METRICS_FILE}\n{out / 'report.html'}")
