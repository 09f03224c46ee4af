"""Strategies by name. Another is a file beside this one and a line here."""

from dataclasses import fields

from gensynth.errors import UsageError, did_you_mean
from gensynth.pipelines.highres.contract import Strategy
from gensynth.pipelines.highres.direct import Direct
from gensynth.pipelines.highres.progressive import Progressive
from gensynth.pipelines.highres.tiled import Tiled
from gensynth.settings import Settings

STRATEGIES: dict[str, type[Direct] | type[Progressive] | type[Tiled]] = {
    "direct": Direct,
    "progressive": Progressive,
    "tiled": Tiled,
}


def strategy_of(settings: Settings) -> Strategy:
    """The strategy of a call; direct if none is named.

    Raises:
        UsageError: no such strategy, an option that it does not have, or a value out of range.
    """
    name = settings.strategy or "direct"
    kind = STRATEGIES.get(name)
    if kind is None:
        raise UsageError(
            f"there is no strategy {name!r}.{did_you_mean(name, STRATEGIES)} Known: "
            f"{', '.join(STRATEGIES)}."
        )
    options = dict(settings.strategy_options or {})
    known = [field.name for field in fields(kind)]
    for option in options:
        if option not in known:
            raise UsageError(
                f"the strategy {name} has no option {option!r}.{did_you_mean(option, known)} "
                + (f"Known: {', '.join(known)}." if known else "It has none.")
            )
    try:
        return kind(**options)
    except TypeError as error:  # a comparison with what is no number
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise UsageError(f"the strategy {name} cannot take {given}.") from error
