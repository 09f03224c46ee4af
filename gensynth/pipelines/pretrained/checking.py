"""Settings that a family of pretrained pipelines does not have; nothing heavy is imported."""

from gensynth.errors import UsageError, did_you_mean
from gensynth.models.known import check_area, impossible_size
from gensynth.pipelines.pretrained.families import (
    Config,
    Family,
    guided_inside,
    most_side,
    size_multiple,
    takes_guidance,
)
from gensynth.settings import Settings

# Settings of the house's own samplers, with what to give instead.
FOREIGN = {
    "guide": "leave it out; guidance leads away from the negative prompt",
    "guidance_interval": "leave it out; guidance acts in every step",
    "timestep_respacing": "give steps",
    "strategy": "leave it out; it draws any size directly",
    "strategy_options": "leave them out; it draws any size directly",
}
MOST_GUIDANCE = 1000


def check_settings(family: Family, network: Config, settings: Settings) -> None:
    """Refuses what a pipeline cannot be told.

    Args:
        network: the configuration of its network.

    Raises:
        UsageError: with what to do.
    """
    for name, instead in FOREIGN.items():
        if settings.get(name) is not None:
            raise UsageError(f"{family.title} cannot be told {name}; {instead}.")
    if settings.further:
        name = next(iter(settings.further))
        raise UsageError(f"{family.title} cannot be told {name}; leave it out.")
    _check_guidance(family, network, settings)


def _check_guidance(family: Family, network: Config, settings: Settings) -> None:
    guidance, negative = settings.guidance, settings.negative
    inside = guided_inside(network)
    if not takes_guidance(family, network) and guidance not in (None, 1):
        raise UsageError(
            f"this {family.title} has learnt to do without guidance; leave it out, or give 1."
        )
    if guidance is not None and guidance >= MOST_GUIDANCE:
        raise UsageError(f"{family.title} takes a guidance below {MOST_GUIDANCE}, got {guidance}.")
    least, none = (0, "") if inside else (1, " (1 is none)")
    if guidance is not None and not guidance >= least:  # also refuses NaN
        raise UsageError(
            f"{family.title} takes a guidance from {least} upwards{none}, got {guidance}."
        )
    if negative is None:
        return
    if inside or not family.negatives:
        raise UsageError(
            f"this {family.title} has its guidance inside and leads away from no prompt; leave the "
            "negative one out."
        )
    if guidance == 1:
        raise UsageError(
            "a negative prompt has no effect with guidance 1; leave one of the two out."
        )


def check_scheduler(family: Family, name: str | None, own: str | None) -> None:
    """Refuses the name of a scheduler that a family cannot be drawn with.

    Args:
        own: the name of the pipeline's.

    Raises:
        UsageError: the message lists those that fit.
    """
    fitting = list(dict.fromkeys(filter(None, [own, *family.schedulers])))
    if name is not None and name not in fitting:
        raise UsageError(
            f"scheduler {name!r} does not fit {family.title}.{did_you_mean(name, fitting)} "
            f"Fitting: {', '.join(fitting)}."
        )


def checked_size(
    family: Family, vae: Config, network: Config, size: tuple[int, int]
) -> tuple[int, int]:
    """Height and width in pixels.

    Raises:
        UsageError: no multiple of what the networks need, or larger than they know positions for;
            the nearest that fits is named.
    """
    height, width = size
    multiple = size_multiple(family, vae, network)
    if height < multiple or width < multiple or height % multiple or width % multiple:
        raise impossible_size(height, width, multiple)
    check_area(height, width)
    most = most_side(family, vae, network)
    if most is not None and max(size) > most:
        raise UsageError(
            f"size {height}x{width} is not possible: the network knows positions for {most} pixels "
            f"of a side. Nearest: {min(height, most)}x{min(width, most)}."
        )
    return height, width
