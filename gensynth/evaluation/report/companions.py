"""The sections of the page that show samples beside true and training pictures."""

from collections.abc import Iterator, Mapping

from PIL import Image

from gensynth.evaluation.measuring.features import Images
from gensynth.evaluation.measuring.measured import Measured
from gensynth.evaluation.measuring.neighbours import SPACES, HeldOut, training_neighbours
from gensynth.evaluation.measuring.rounding import number
from gensynth.evaluation.report.examples import in_random_order, pictures_of
from gensynth.evaluation.report.page_parts import paragraph, tile
from gensynth.evaluation.report.words import UNITS
from gensynth.metrics import copied

PAIRS = 24  # held-out pairs shown, and samples beside their neighbours
COPIES = 8  # of those, the ones with the smallest share of the distance to the second nearest


def companion_sections(measured: Measured) -> dict[str, list[str]]:
    """Title -> HTML of the sections that show samples beside true and training pictures."""
    companions = measured.companions
    if companions is None or companions.training is None:
        return {}
    found = {"Nearest training pictures": list(nearest_section(measured))}
    if "h1280" in companions.held_out:
        found = {"Held-out pairs": list(held_out_section(measured))} | found
    return found


def held_out_section(measured: Measured) -> Iterator[str]:
    companions, real = measured.companions, measured.real
    assert companions is not None and companions.training is not None and real is not None
    pairs = companions.held_out["h1280"]
    chosen = sorted(in_random_order(len(pairs))[:PAIRS])
    shown = [pairs[at] for at in chosen]
    samples = pictures_of(measured.samples, [measured.order[pair.position] for pair in shown])
    truths = pictures_of(real, [pair.truth for pair in shown])
    others = pictures_of(companions.training, [pair.other for pair in shown])
    of = "All" if len(shown) == len(pairs) else f"{len(shown)} of"
    yield paragraph(
        f"{of} {len(pairs):,} pairs, the same ones every time: the sample, the true picture, which "
        "no training picture shows, and the training picture of the same thing in another style "
        "that is the nearest to the sample. Distances of features.",
        "soft",
    )
    tiles = (
        trio(measured, pair, samples[measured.order[pair.position]], truths, others)
        for pair in shown
    )
    yield f'<div class="pairs">{"".join(tiles)}</div>'


def trio(
    measured: Measured,
    pair: HeldOut,
    sample: Image.Image,
    truths: Mapping[int, Image.Image],
    others: Mapping[int, Image.Image],
) -> str:
    """A sample, the truth and the nearest training picture of the same thing."""
    companions = measured.companions
    assert companions is not None and companions.prompts is not None
    assert companions.training is not None
    prompt = companions.prompts[pair.position]
    far = number(pair.to_truth), number(pair.to_other)
    shown = caption_of(companions.training, pair.other)
    return (
        f'<div class="pair">{tile(sample, f"sample of {prompt}", prompt)}'
        f"{tile(truths[pair.truth], f'the true picture of {prompt}', f'true: {far[0]}')}"
        f"{tile(others[pair.other], f'training picture: {shown}', shown, far[1])}</div>"
    )


def nearest_section(measured: Measured) -> Iterator[str]:
    """Samples beside the training pictures nearest to them, those first that may be copies."""
    companions = measured.companions
    assert companions is not None and companions.training is not None
    for space, word in SPACES.items():
        samples, training = companions.features[space]
        numbers, distances = training_neighbours(samples, training)
        share = distances[:, 0] / distances[:, 1].clamp(min=1e-12)
        first = share.argsort(stable=True)[:COPIES].tolist()
        others = [at for at in in_random_order(len(samples)) if at not in first]
        places = first + sorted(others[: PAIRS // 2 - COPIES])
        repeats = copied(training, samples)
        yield f"<h3>By {word} ({UNITS[word]})</h3>"
        yield paragraph(
            f"Each sample, then the training pictures nearest to it, with their distances. First "
            f"come the {len(first)} whose nearest one stands out most, then others at random. "
            f"{int(repeats.sum()):,} of {len(samples):,} samples are called copies: the nearest is "
            "less than a third as far away as the second nearest.",
            "soft",
        )
        drawn = pictures_of(measured.samples, [measured.order[at] for at in places])
        real = pictures_of(companions.training, [i for at in places for i in numbers[at].tolist()])
        rows = []
        for at in places:
            note = "copy" if repeats[at] else ""
            prompt = companions.prompts[at] if companions.prompts else f"#{measured.order[at]}"
            tiles = [tile(drawn[measured.order[at]], f"sample {prompt}", prompt, note)]
            for index, far in zip(numbers[at].tolist(), distances[at].tolist(), strict=True):
                words = caption_of(companions.training, index)
                tiles.append(tile(real[index], f"training picture: {words}", words, number(far)))
            rows.append(f'<div class="pair">{"".join(tiles)}</div>')
        yield f'<div class="pairs">{"".join(rows)}</div>'


def caption_of(images: Images, index: int) -> str:
    return images.texts[index] if images.texts else f"training picture {index}"
