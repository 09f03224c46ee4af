"""`gensynth ema`."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gensynth.errors import UsageError
from gensynth.system.disk import check_writable

if TYPE_CHECKING:
    from gensynth.training.averages.export import Averages


def register(app: typer.Typer) -> None:
    app.command("ema")(ema)


def ema(
    run: Path = typer.Argument(help="Output folder of a training run."),
    std: float = typer.Option(
        None, "--std", help="Width of a power-function average, 0.010 to 0.250 of the run."
    ),
    decay: float = typer.Option(None, "--decay", help="One of the decay rates the run keeps."),
    step: int = typer.Option(None, "--step", help="An earlier step. [default: the newest]"),
    out: Path = typer.Option(None, "--out", "-o", help="Folder. [default: RUN/ema/step-STEP-NAME]"),
) -> None:
    """Export another average of a run's weights, or list what there is.

    gensynth ema runs/dit --std 0.08

    Without --std or --decay it lists. --std reconstructs an average of any length from the
    snapshots that ema.stds makes a run keep.
    """
    if std is not None and decay is not None:
        raise UsageError("give --std or --decay, not both.")
    if std is None and decay is None and (step is not None or out is not None):
        raise UsageError("--step and --out need --std or --decay.")
    from gensynth.preflight.runs import check_run

    check_run(run)
    if std is not None or decay is not None:
        check_writable(out or run)
    from gensynth.training.averages.export import export_decay, export_std, open_averages

    averages = open_averages(run)
    if std is not None:
        exported = export_std(averages, std, step, out)
        print(f"std {std:.3f} at step {exported.step}, from {exported.used} snapshots")
        print(f"relative error of the averaging profile: {exported.error:.2%}")
    elif decay is not None:
        exported = export_decay(averages, decay, step, out)
        print(f"decay {decay} at step {exported.step}")
    else:
        _list(averages)
        return
    print(exported.folder)
    print(f"sample: gensynth sample --model {exported.folder}")


def _list(averages: "Averages") -> None:
    """Prints what `averages` offers, one option a line."""
    from gensynth.training.averages.export import reachable
    from gensynth.training.averages.snapshots import num_updates

    decays = averages.config.decays if averages.config else []
    for decay in decays:
        shown = " (the one in model/)" if decay == decays[0] else ""
        print(f"--decay {decay}: step {averages.step}{shown}")
    snapshots = averages.snapshots
    if snapshots:
        times = [num_updates(snapshot) for snapshot in snapshots]
        widths = reachable(times, [snapshot.std for snapshot in snapshots])
        first, last = snapshots[0].step, snapshots[-1].step
        print(f"--std {widths}: from {len(snapshots)} snapshots, steps {first} to {last}")
    elif not decays:
        print("nothing: the run was trained with ema=null")
    else:
        print("--std: no snapshots; ema.stds=[0.05,0.1] makes a run keep them")
