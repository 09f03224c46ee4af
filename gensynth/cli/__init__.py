"""`gensynth VERB ...`: one file a command, none of which imports torch before it is needed."""

import os
import sys
import tempfile
import traceback
from types import TracebackType

import typer

from gensynth import __version__
from gensynth.errors import GensynthError, Stopped

app = typer.Typer(
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


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits with the codes of `gensynth.errors`."""
    from gensynth.cli import (
        bench,
        compare,
        config,
        convert,
        demo,
        doctor,
        edit,
        ema,
        encode,
        evaluate,
        models,
        ops,
        reference,
        sample,
        serve,
        train,
    )

    for module in (
        train,
        encode,
        sample,
        edit,
        evaluate,
        reference,
        compare,
        serve,
        models,
        convert,
        ema,
        config,
        bench,
        ops,
        doctor,
        demo,
    ):
        module.register(app)
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments or "GENSYNTH_DEBUG" in os.environ
    if not debug:
        sys.excepthook = report_bug
    try:
        # Calling `app` itself would put typer's own hook for tracebacks in the place of ours.
        command = typer.main.get_command(app)
        command.main([a for a in arguments if a != "--debug"], prog_name="gensynth")  # exits
    except GensynthError as error:
        if debug:
            raise
        stopped = isinstance(error, Stopped)
        print(error if stopped else f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def train_command() -> None:
    """The command of `train.py`: `--config FILE [key=value ...]`."""
    main(["train", *sys.argv[1:]])


def report_bug(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """One line for an error nobody foresaw; the traceback goes into a file."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="gensynth-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        log.write("".join(traceback.format_exception(kind, error, trace)))
    print(
        f"error: unexpected {kind.__name__}: {error}. The traceback is in {log.name}; "
        "please report it, or run again with --debug.",
        file=sys.stderr,
    )
