"""An option for every setting of drawing, made from `gensynth.settings`."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import typer

from gensynth.pipelines.pretrained.options import HELP
from gensynth.settings import Setting, Settings, known_settings, option_of

Command = Callable[..., Any]
# Of every command that draws with a model; `Wanted.read` reads what is given.
LORA = typer.Option(
    [],
    "--lora",
    metavar="FOLDER[:SCALE]",
    help="Adapter of the model, or the run that trained it, and how much it counts. "
    "May be given more than once. [default scale: 1]",
)
VARIANT = typer.Option(
    None,
    "--variant",
    help='Of a model\'s weights, such as "fp16". [default: the plain or only one]',
)
LOAD = typer.Option([], "--load", metavar="KEY=VALUE", help=HELP)
PROMPTS = typer.Option(
    None,
    "--prompt",
    metavar="TEXT",
    help="What to show, in words; repeatable. For models of prompts; of others a class's name.",
)
PROMPT_FILE = typer.Option(
    None,
    "--prompts",
    metavar="FILE",
    help="Prompts in turn: the lines of a .txt, or the column prompt, text or caption of a .csv, "
    ".jsonl or .parquet.",
)
PLACE = "settings"  # the parameter of a command where the options are to stand


def drawing_options(command: Command, without: tuple[str, ...] = (), before: str = "") -> Command:
    """The command with an option for each setting in the place of its parameter `settings`.

    Args:
        without: settings that the command has no option for.
        before: put before the help of each.
    """
    known = {name: about for name, about in known_settings().items() if name not in without}

    @functools.wraps(command)
    def with_settings(**given: Any) -> Any:
        values = {name: given.pop(name) for name in known}
        read = {
            name: known[name].read(value)
            for name, value in values.items()
            if value is not None and value != []
        }
        return command(**given, settings=Settings.of(**read))

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name == PLACE:
            parameters += [_option(name, about, before) for name, about in known.items()]
        else:
            parameters.append(parameter)
    # typer reads the signature and the annotations, and must not look behind them.
    del vars(with_settings)["__wrapped__"]
    vars(with_settings)["__signature__"] = inspect.Signature(parameters)
    with_settings.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_settings


def _option(name: str, about: Setting, before: str) -> inspect.Parameter:
    repeated = about.kind == list[str]
    option = typer.Option(
        [] if repeated else None,
        option_of(name),
        metavar=about.metavar,
        help=before + about.help,
    )
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, kind, default=option, annotation=about.kind)
