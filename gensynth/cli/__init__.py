"""`gensynth VERB ...`: one file a command, none of which imports torch before it is needed."""

import os
import signal
import sys
import tempfile
import time
import traceback
from types import FrameType, TracebackType
from typing import Any

import typer
from typer.core import TyperGroup

from gensynth import __version__
from gensynth.cli.output import CLOSED, finish_output, show_everything
from gensynth.errors import GensynthError, Stopped
from gensynth.plugins import load_plugins
from gensynth.system.disk import about_disk

GOES_ON = ("evaluate", "reference")  # commands that keep what was done when they are interrupted
ENDING = (signal.SIGTERM, signal.SIGHUP)  # what ends a command in order
WHOLE = 1000  # characters of a sentence that is not cut off
PATIENCE = 10  # seconds in which the main process can say what all processes have to say


class Commands(TyperGroup):
    """Commands that end with a line when they are interrupted; typer then exits with 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            kept = ctx.invoked_subcommand in GOES_ON
            words = "; what was done is kept: the same command goes on" if kept else "."
            if main_process():
                print(f"interrupted{words}", file=sys.stderr)
            raise
        except BrokenPipeError as error:  # typer would say that with 1, our code for bugs
            finish_output()  # ends here if it is stdout that nobody reads
            raise typer.Exit(CLOSED) from error

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Lists the commands with their whole first sentences, which click would cut off."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, one.get_short_help_str(WHOLE)) for name, one in commands if one is not None]
            )


app = typer.Typer(
    cls=Commands,
    help="Efficient image synthesis: train, sample, evaluate, serve.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Any command takes --debug for the full traceback of an error.",
)


def _show_version(value: bool) -> None:
    if value:
        print(f"gensynth {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    pass


def register_commands() -> None:
    """Puts every command into `app`, with what plugins bring among their options.

    Raises:
        InputError: a plugin that is not there.
    """
    load_plugins()
    from gensynth.cli import (
        classes,
        config,
        convert,
        demo,
        doctor,
        ema,
        encode,
        lora,
        models,
        ops,
        train,
    )
    from gensynth.cli.drawing import edit, sample, serve, upscale
    from gensynth.cli.measuring import bench, compare, evaluate, reference

    for module in (
        train,
        encode,
        sample,
        edit,
        upscale,
        evaluate,
        reference,
        compare,
        serve,
        models,
        classes,
        convert,
        ema,
        lora,
        config,
        bench,
        ops,
        doctor,
        demo,
    ):
        module.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits with the codes of `gensynth.errors`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments or "GENSYNTH_DEBUG" in os.environ
    if not debug:
        sys.excepthook = report_bug
    show_everything()
    ending = [n for n in ENDING if signal.getsignal(n) is signal.SIG_DFL]  # not below nohup
    for number in ending:
        signal.signal(number, _end)
    try:
        _run([argument for argument in arguments if argument != "--debug"])
    except GensynthError as error:
        if debug:
            raise
        if not main_process():
            time.sleep(PATIENCE)  # torchrun ends this process if the main one has failed as well
        stopped = isinstance(error, Stopped)
        print(error if stopped else f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    finally:
        for number in ending:
            if signal.getsignal(number) is _end:
                signal.signal(number, signal.SIG_DFL)
        finish_output()


def _run(arguments: list[str]) -> None:
    """Runs the command, and exits."""
    try:
        register_commands()
        # Calling `app` itself would put typer's own hook for tracebacks in the place of ours.
        typer.main.get_command(app).main(arguments, prog_name="gensynth")
    except OSError as error:
        finish_output()  # says so and ends if it is standard output
        said = about_disk(error)
        if said is None:
            raise
        raise said from error


def _end(number: int, _frame: FrameType | None) -> None:
    """Ends the program in order, so that temporary files go; `train` and `serve` have their own."""
    if main_process():
        print("terminated.", file=sys.stderr)
    sys.exit(128 + number)


def main_process() -> bool:
    """Whether this is the only process or the first one of torchrun's."""
    return os.environ.get("RANK", "0") == "0"


def train_command() -> None:
    """The command of `train.py`: `--config FILE [key=value ...]`."""
    main(["train", *sys.argv[1:]])


def report_bug(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """One line for an unexpected error; the traceback goes into a file."""
    log = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed below
        "w",
        prefix="gensynth-",
        suffix=".log",
        delete=False,
        encoding="utf-8",
        errors="replace",
    )
    with log:
        log.write("".join(traceback.format_exception(kind, error, trace)))
    print(
        f"error: unexpected {kind.__name__}: {error}. The traceback is in {log.name}; "
        "please report it, or run again with --debug.",
        file=sys.stderr,
    )
