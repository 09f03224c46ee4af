"""An evaluation by a protocol, how another one departs from it, and a protocol in words."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch

from gensynth.errors import UsageError
from gensynth.evaluation.drawn import AtHand, DrawnImages
from gensynth.evaluation.evaluate import evaluate
from gensynth.evaluation.measuring.features import Effort, Images
from gensynth.evaluation.measuring.measured import Measured
from gensynth.evaluation.protocols.protocols import HALF_UP, Protocol
from gensynth.evaluation.references.published import PUBLISHED
from gensynth.models import preset
from gensynth.pipelines.drawing import DrawingPipeline
from gensynth.settings import known_settings

# Kind and settings of the autoencoders that protocols name. Which weights one has cannot be told.
CODECS: dict[str, tuple[str, dict[str, Any]]] = {
    "stabilityai/sd-vae-ft-ema": (
        "KLAutoencoder",
        {"latent_channels": 4, "scaling_factor": 0.18215},
    ),
    "FoundationVision/LlamaGen, vq_ds16_c2i.pt": (
        "VQAutoencoder",
        {"codebook_size": 16384, "codebook_dim": 8},
    ),
}
# Of the models that say the noise: ADM's, openai/guided-diffusion, get_named_beta_schedule.
LINEAR_BETAS: dict[str, Any] = {
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "num_train_timesteps": 1000,
    "trained_betas": None,
}
UNKNOWN_HASH = "the reference file's hash is not known"
UNKNOWN_DRAWING = "it is not recorded how the samples were drawn"


def evaluate_protocol(
    protocol: Protocol,
    model: str | AtHand,
    num: int | None = None,
    *,
    reference: str | None = None,
    weights: Path | None = None,
    download: bool = False,
    batch_size: int = 16,
    effort: Effort | None = None,
) -> tuple[Measured, dict[str, Any]] | None:
    """What was measured and its report, with the protocol in it; see `add_protocol`.

    None in all processes but the main one.

    Args:
        model: name, folder or hub id, as for `gensynth.load`, or one that is in memory.
        num: number of samples; None for the protocol's.
        reference: where its reference is, if not in the usual place.
        weights, download: of the extractor, see `evaluate`.
        batch_size: pictures that the model draws together.

    Raises:
        UsageError: a model that cannot draw with these settings.
        InputError: the model, the weights or the reference are missing.
    """
    samples = drawn_by(protocol, model, num, batch_size)
    found = evaluate(
        samples,
        reference or protocol.reference,
        extractor=protocol.extractor,
        weights=weights,
        download=download,
        seed=protocol.seed,
        effort=effort,
    )
    if found is not None:
        add_protocol(protocol, samples, found[1])
    return found


def drawn_by(
    protocol: Protocol, model: str | AtHand, num: int | None = None, batch_size: int = 16
) -> DrawnImages:
    """The samples of a model that a protocol asks for, or another number of them.

    Raises:
        UsageError: a model that cannot draw with these settings.
    """
    return DrawnImages(
        model,
        protocol.count if num is None else num,
        protocol.seed,
        protocol.labels,
        batch_size,
        protocol.settings,
    )


def add_protocol(protocol: Protocol, samples: Images, report: dict[str, Any]) -> None:
    """Writes into a report which protocol it follows, as a label, and what departs from it.

    Numbers under different labels are not comparable.
    """
    found = departures(protocol, samples, report)
    report["protocol"] = label(protocol, found)
    report["protocol_details"] = {
        "name": protocol.name,
        "departures": found,
        "unverified": list(protocol.unverified),
        "published": dict(protocol.published),
        "source": protocol.source,
    }
    if found:
        report["warnings"].append(
            f"this is not {protocol.name}, and not to be compared with its numbers: "
            f"{'; '.join(found)}"
        )
    report["warnings"] += [
        f"not verified of {protocol.name}: {text}" for text in protocol.unverified
    ]


def label(protocol: Protocol, found: list[str]) -> str:
    """The name of the protocol, with the departures from it if there are any."""
    return f"{protocol.name} (departs: {'; '.join(found)})" if found else protocol.name


def departures(protocol: Protocol, samples: Images, report: dict[str, Any]) -> list[str]:
    """How an evaluation departs from a protocol, a few words each; empty if it follows it."""
    drawing = _drawing(protocol, samples) if isinstance(samples, DrawnImages) else [UNKNOWN_DRAWING]
    return [*drawing, *_measuring(protocol, report), *protocol.unmet]


def _measuring(protocol: Protocol, report: dict[str, Any]) -> Iterator[str]:
    """Departures in the number of samples, the feature space and the reference."""
    count, extractor, reference = (
        report["samples"]["count"],
        report["extractor"],
        report["reference"],
    )
    if count != protocol.count:
        yield f"{count:,} samples"
    if extractor["name"] != protocol.extractor:
        yield f"extractor {extractor['name']}"
    elif not extractor["official"]:
        yield "other weights of the extractor"
    yield from _reference(protocol, reference)


def _reference(protocol: Protocol, reference: dict[str, Any]) -> Iterator[str]:
    """Whether the reference is the published one; what it is called says nothing."""
    # The hash decides wherever it is known; a name can be given to any file.
    expected = PUBLISHED[protocol.reference].sha256
    if expected is not None and reference["sha256"] == expected:
        return
    if protocol.reference not in (reference["name"], reference["published"]):
        yield f"reference {reference['name']}"
    elif expected is not None or reference["published"] != protocol.reference:
        yield f"another file of the reference {protocol.reference}"
    elif not reference["verified"]:
        yield UNKNOWN_HASH


def _drawing(protocol: Protocol, samples: DrawnImages) -> Iterator[str]:
    """Departures in how the samples were drawn."""
    resolved, found = samples.resolved, samples.resolved.settings.to_json()
    pipeline = cast(DrawingPipeline, samples.pipeline)
    wanted = protocol.settings.to_json()
    if samples.label_rule != protocol.labels:
        yield f"{samples.label_rule} labels"
    if samples.seed != protocol.seed:
        yield f"seed {samples.seed}"
    apart = {"size", "scheduler", "scheduler_options", "guide"}  # in words of their own
    for name in known_settings():
        if name not in apart:
            given = {name: resolved.settings.get(name)}
            yield from _unlike(given, {name: protocol.settings.get(name)})
    if resolved.settings.guide is not None:
        yield f"guide {found['guide']}"
    if found["size"] != wanted["size"]:
        yield f"size {resolved.size[0]}x{resolved.size[1]}"
    if found["scheduler"] != wanted["scheduler"]:
        yield f"scheduler {found['scheduler']}"
    else:
        betas = LINEAR_BETAS if protocol.prediction == "epsilon" else {}
        options = {**wanted["scheduler_options"], **betas}
        yield from _unlike(resolved.sampler.scheduler.config, options)
    yield from _unlike(pipeline.config, _pipeline_settings(protocol))
    yield from _model(protocol, pipeline)
    kind, settings = CODECS[protocol.autoencoder]
    if type(pipeline.autoencoder).__name__ != kind:
        yield f"autoencoder {type(pipeline.autoencoder).__name__}"
    else:
        yield from _unlike(pipeline.autoencoder.config, settings)
    if protocol.pixels != HALF_UP:  # the rounding that gensynth draws with
        yield f"pixels {HALF_UP}"


def _pipeline_settings(protocol: Protocol) -> dict[str, Any]:
    """Settings that belong to the pipeline itself and cannot be given to its call."""
    settings: dict[str, Any] = {"prediction": protocol.prediction, "path": "linear"}
    settings["ddpm_prediction"] = "epsilon"
    if protocol.settings.guidance == 1:  # then nothing about guidance changes a picture
        return settings
    settings["guided_channels"] = protocol.guided_channels
    settings["guidance_schedule"] = protocol.guidance_schedule
    if protocol.guidance_schedule != "constant":
        settings["guidance_power"] = protocol.guidance_power
    return settings


def _model(protocol: Protocol, pipeline: DrawingPipeline) -> Iterator[str]:
    """Departures of the backbone; its weights are what is measured."""
    kind, keywords = preset(protocol.model)
    model = pipeline.model
    if not isinstance(model, kind):
        yield f"model {type(model).__name__}"
        return
    other = list(_unlike(model.config, keywords))
    if other:
        yield f"model with {', '.join(other)}"
    if model.dtype != torch.float32:  # half precision draws other pictures
        yield f"model in {str(model.dtype).removeprefix('torch.')}"


def _unlike(found: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    """Name and value of every setting that is not as expected."""
    for name, value in expected.items():
        if found.get(name) != value:
            yield f"{name} {found.get(name)}"


def check_alone(protocol: Protocol, given: dict[str, Any]) -> None:
    """Refuses flags that contradict the protocol.

    Args:
        given: flag -> what the user gave; None where nothing was given.

    Raises:
        UsageError: a flag that the protocol fixes.
    """
    flags = [flag for flag, value in given.items() if value is not None]
    if flags:
        raise UsageError(
            f"--protocol {protocol.name} fixes {', '.join(flags)}; leave out the one or the other."
        )


def describe(protocol: Protocol) -> str:
    """The protocol in lines for a terminal."""
    return "\n".join(_lines(protocol))


def _lines(protocol: Protocol) -> Iterator[str]:
    settings = protocol.settings
    yield protocol.name
    numbers = ", ".join(f"{key} {value:g}" for key, value in protocol.published.items())
    yield f"  published: {numbers}"
    yield f"  source: {protocol.source}"
    yield f"  model: {protocol.model} at {settings.size} pixels, autoencoder {protocol.autoencoder}"
    options = ", ".join(
        f"{key}={value}" for key, value in (settings.scheduler_options or {}).items()
    )
    yield f"  sampler: {settings.scheduler} ({options}), {settings.steps} steps"
    yield f"  guidance: {_guidance(protocol)}"
    yield f"  samples: {protocol.count:,}, {protocol.labels} labels, seeds from {protocol.seed}"
    yield f"  pixels: {protocol.pixels}"
    yield f"  measured: {protocol.extractor} against {protocol.reference}"
    for title, texts in (
        ("unmet", protocol.unmet),
        ("unverified", protocol.unverified),
        ("note", protocol.notes),
    ):
        yield from (f"  {title}: {text}" for text in texts)


def _guidance(protocol: Protocol) -> str:
    scale, interval = protocol.settings.guidance, protocol.settings.guidance_interval
    if scale == 1:
        return "none"
    count = protocol.guided_channels
    text = f"{scale:g} in {'all' if count is None else f'the first {count}'} channels"
    if protocol.guidance_schedule != "constant":
        text += f", {protocol.guidance_schedule} with power {protocol.guidance_power:g}"
    if interval is not None:
        low, high = interval
        text += f", at noise levels from {low:g} to {high:g}"
    return text
