"""Pictures that a model of masked tokens draws anew in part: masks, larger canvases, variations.

The image becomes tokens, those of the part are masked, and the model decides them as it does when
it draws a whole picture (MaskGIT, arXiv 2202.04200). Only the part's own pixels are
then taken over into the image.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gensynth.conditions import Item
from gensynth.data.images import to_pil
from gensynth.errors import UsageError
from gensynth.pipelines.contract import Composed, OnStep, Progress, Resolved
from gensynth.pipelines.editing.canvas import Canvas, make_canvas
from gensynth.pipelines.model_call import guided_model
from gensynth.samplers.contract import Step
from gensynth.samplers.masking import decided_counts
from gensynth.samplers.token_decoders import HaltonDecoder
from gensynth.seeding import picture_generator, whole_seed
from gensynth.settings import Settings, is_number, is_pair, is_whole


@dataclass(frozen=True)
class Edit:
    """What to redraw of an image.

    A result has the size of the image, or of the new canvas, and is RGB if the image or the model
    is in colour, else L. With a mask or a new canvas every kept pixel is the image's, bit for bit;
    transparency counts as laid over white and 16 bits as scaled to 8. Without either the result is
    a variation: everything has been through the tokens, so no pixel need be the same.

    Args:
        image: of any mode and size. The model sees it resized to about its own area; one trained
            on padded images sees those from half its size to its size with black around them.
        label: class of the redrawn part, by number or name; None for no class, without guidance.
        mask: white (128 and above, or painted on a transparent layer) where to redraw; of the
            image's size.
        strength: share in (0, 1] of the masked tokens that are redrawn, spread over them in Halton
            order. The others come back as the tokenizer renders them. None: 1, or 0.5 of a
            variation, of which a part has to stay.
        outpaint: height and width in pixels of a larger canvas, whose new area is redrawn.
        anchor: where the image lies on it, a key of `canvas.ANCHORS`: "center", "top-left", ...
        edge: how many pixels inside the mask are blended with the image, 0 for a hard edge; None:
            a quarter of a token's side, at least 1.
        settings: as in a call of the pipeline; the size is the canvas's. There are never more
            steps than redrawn tokens.
    """

    image: Image.Image
    label: int | str | None = None
    mask: Image.Image | None = None
    strength: float | None = None
    outpaint: tuple[int, int] | None = None
    anchor: str = "center"
    edge: int | None = None
    settings: Settings = field(default_factory=Settings)


def canvas_size(outpaint: Any) -> tuple[int, int] | None:
    """Height and width in pixels of a larger canvas; one number for a square.

    Raises:
        UsageError: something else than whole numbers.
    """
    if outpaint is None:
        return None
    sides = (outpaint, outpaint) if is_whole(outpaint) else outpaint
    if not is_pair(sides, is_whole):
        raise UsageError(
            f"outpaint must be a whole number of pixels, or height and width, got {outpaint!r}."
        )
    return int(sides[0]), int(sides[1])


class Plan(NamedTuple):
    """An edit that a pipeline can draw.

    Attributes:
        canvas: the picture.
        tokens: int64 [h, w], the redrawn ones masked.
        num_masked: how many.
        item: of the pipeline's condition; None for no condition.
        resolved: the settings for the work canvas.
        edge: how many pixels are blended.
        strength: share of the masked tokens that are redrawn.
    """

    canvas: Canvas
    tokens: Tensor
    num_masked: int
    item: Item
    resolved: Resolved
    edge: int
    strength: float


def edit(
    pipeline: Composed,
    wanted: Edit,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> list[Image.Image]:
    """One result for each seed, which depends on the edit and that seed only.

    Raises:
        UsageError: a pipeline without tokens, or a value that does not fit; it says what to do.
    """
    return draw(pipeline, make_plan(pipeline, wanted), seeds, on_step)


@torch.no_grad()
def make_plan(pipeline: Composed, wanted: Edit) -> Plan:
    """The tokens and settings of an edit.

    Raises:
        UsageError: as `edit`.
    """
    if pipeline.config.get("prediction") != "tokens":
        raise UsageError(
            "editing needs a model that draws tokens, such as maskgit-fashion; this one is a "
            "tokenizer or a diffusion model."
        )
    for name, given in (("image", wanted.image), ("mask", wanted.mask)):
        if not isinstance(given, Image.Image) and (given is not None or name == "image"):
            raise UsageError(
                f"the {name} must be a PIL image, got {type(given).__name__}; "
                "PIL.Image.open(path) or PIL.Image.fromarray(array) gives one."
            )
    strength = _strength(wanted)
    codec = pipeline.autoencoder
    canvas = make_canvas(
        wanted.image,
        wanted.mask,
        wanted.outpaint,
        wanted.anchor,
        codec.channels == 3,
        pipeline.config.size,
        pipeline.model.size_multiple * codec.patch,
        pipeline.config.fit == "pad",
    )
    masked = masked_tokens(canvas.redrawn_tokens(codec.latent_shape(*canvas.work)), strength)
    num_masked = int(masked.sum())
    resolved = _resolved(pipeline, wanted, canvas.work, num_masked)
    pixels = canvas.work_pixels(codec.channels)[None].to(pipeline.model.device)
    tokens = codec.encode(pixels)[0]  # int64 [h, w]
    tokens = tokens.masked_fill(masked.to(tokens.device), pipeline.model.mask_token)
    item = None if wanted.label is None else pipeline.condition.item(wanted.label)
    edge = _edge(wanted, canvas, codec.patch)
    return Plan(canvas, tokens, num_masked, item, resolved, edge, strength)


def _strength(wanted: Edit) -> float:
    variation = wanted.mask is None and wanted.outpaint is None
    strength = (0.5 if variation else 1.0) if wanted.strength is None else wanted.strength
    if not is_number(strength) or not 0 < strength <= 1:
        raise UsageError(f"strength must be above 0 and at most 1, got {strength!r}.")
    if variation and strength == 1:
        raise UsageError(
            "with strength 1 nothing of the picture would be left; that is gensynth sample, or "
            "give a strength below 1."
        )
    return strength


def masked_tokens(redrawn: Tensor, strength: float) -> Tensor:
    """The first share `strength` of the true places of `redrawn` [h, w] in Halton order, bool."""
    places = HaltonDecoder().places(redrawn, torch.zeros(1, dtype=torch.long))[0]
    # In floats 0.28 * 25 is a little more than 7.
    count = math.ceil(round(strength * len(places), 6))
    chosen = torch.zeros(redrawn.numel(), dtype=torch.bool)
    chosen[places[: max(1, count)]] = True
    return chosen.view_as(redrawn)


def _resolved(pipeline: Composed, wanted: Edit, work: tuple[int, int], num_masked: int) -> Resolved:
    given = wanted.settings
    if wanted.label is None and given.guide is None:
        if given.guidance not in (None, 1):
            raise UsageError(
                "guidance leads from no class to a class; give a label too, or guidance 1."
            )
        given = given.but(guidance=1.0)  # whatever the model's own is
    steps = pipeline.config.steps if given.steps is None else given.steps
    resolved = pipeline.resolve(given.but(steps=min(steps, num_masked), size=work))
    if resolved.sampler.scheduler.config.get("as_published"):
        raise UsageError(
            "a ConfidenceDecoder as published draws known tokens again, so that nothing would be "
            "kept; give scheduler HaltonDecoder."
        )
    return resolved


def _edge(wanted: Edit, canvas: Canvas, patch: int) -> int:
    if wanted.edge is None:
        return max(1, round(canvas.pixels_of_a_token(patch) / 4))
    if not is_whole(wanted.edge) or wanted.edge < 0:
        raise UsageError(f"edge must be a whole number of pixels from 0, got {wanted.edge!r}.")
    if canvas.redrawn.all():
        raise UsageError("an edge is blended around a mask or new area, and there is neither.")
    return wanted.edge


@torch.inference_mode()
def draw(
    pipeline: Composed,
    plan: Plan,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> list[Image.Image]:
    """One result for each seed. `on_step` gets previews of the work canvas.

    Raises:
        UsageError: no seeds, or one out of range.
    """
    decode = pipeline.autoencoder.decode
    for step in states(pipeline, plan, seeds):
        if on_step is not None:
            on_step(Progress.of(step, decode))
    decoded = decode(step.sample).cpu()
    return [plan.canvas.finished(to_pil(pixels), plan.edge) for pixels in decoded]


def states(pipeline: Composed, plan: Plan, seeds: Sequence[int]) -> Iterator[Step]:
    """Every step of the decoding, with its tokens [B, h, w]."""
    if not seeds:
        raise UsageError("there are no seeds; give at least one.")
    generators = [picture_generator(whole_seed(seed)) for seed in seeds]
    condition, device = pipeline.condition, pipeline.model.device
    if plan.item is None:
        none = condition.none(device) or {}
        told = {name: tensor.expand(len(seeds), *tensor.shape[1:]) for name, tensor in none.items()}
    else:
        told = condition.encode([plan.item] * len(seeds), device)
    predict, told = guided_model(pipeline, plan.resolved, told)
    tokens = plan.tokens.expand(len(seeds), -1, -1)  # [B, h, w]
    return plan.resolved.sampler.walk(predict, tokens, plan.resolved.steps, told, generators)


@torch.inference_mode()
def structures(pipeline: Composed, plan: Plan, seeds: Sequence[int]) -> np.ndarray:
    """What each seed makes of the redrawn part when half of its tokens are decided: uint8 [B, D].

    The rest is as it would be drawn then.
    """
    counts = decided_counts(
        plan.resolved.sampler.scheduler.config.schedule, plan.resolved.steps, plan.num_masked
    )
    half = next(step for step, count in enumerate(counts) if 2 * count >= plan.num_masked)
    step = next(islice(states(pipeline, plan, seeds), half, None))
    masked = plan.tokens == pipeline.model.mask_token
    patch = pipeline.autoencoder.patch
    pixels = masked.repeat_interleave(patch, 0).repeat_interleave(patch, 1)
    drawn = pipeline.autoencoder.decode(step.estimate())  # uint8 [B, C, H, W]
    return drawn[:, :, pixels].flatten(1).cpu().numpy()  # only what seeds can change


def most_different(features: np.ndarray, num: int) -> list[int]:
    """Which `num` rows of `features` [K, D] lie far from each other.

    The first row, then each time the one whose nearest chosen row is farthest (the lower number
    among equals).

    Raises:
        UsageError: more than K.
    """
    if not 1 <= num <= len(features):
        raise UsageError(f"choose from 1 to {len(features)} of {len(features)}, got {num}.")
    rows = features.astype(np.float32)  # differences of uint8 would wrap around
    chosen, nearest = [0], np.full(len(rows), np.inf)
    while len(chosen) < num:
        distance = np.square(rows - rows[chosen[-1]]).sum(axis=1)
        nearest = np.minimum(nearest, distance)
        nearest[chosen] = -1  # also where all are equal
        chosen.append(int(nearest.argmax()))
    return chosen
