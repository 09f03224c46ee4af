"""One step at batch 1 from 256 to 8192 pixels: which backbone is ahead from where on; decoding.

Table D. A step is one forward pass without guidance, weights and latents random, in bfloat16;
"gensynth" and "compiled" as in `models`, with CUDA graphs up to 1024 pixels. Decoding is that of
Stable Diffusion's autoencoder, in one piece or in diffusers' tiles, which overlap by a quarter.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations

from gensynth_benchmarks.gpu_steps.backbones import (
    COMPILED,
    OURS,
    build,
    floor,
    inputs,
    running,
)
from gensynth_benchmarks.gpu_steps.common import Bench, fresh_memory, timed
from gensynth_benchmarks.gpu_steps.decoding import DECODER, DECODING, decoding_row
from gensynth_benchmarks.gpu_steps.models import COMPILING, floors
from gensynth_benchmarks.ledger import Row
from gensynth_benchmarks.machine import peak_gib
from gensynth_benchmarks.measuring import Table, crossing, number, share

STEP = "step"
SIZES = (256, 512, 1024, 2048, 4096, 8192)
MODELS = ("DiCo-XL", "DiC-XL", "DiT-XL/2", "DiT-XL/2 linear", "DiT-XL/2 local")
PEER = "DiT-XL/2"  # also under torch.compile alone
MOST_PIXELS_OF_GRAPHS = 1024
IMAGES, TILES = (1024, 2048, 4096, 8192, 16384), (512, 1024, 2048)
FIRST_DECODED = 4096
LARGEST_PIECE = 4096  # decoded without tiles: above, attention alone would take seconds
MINIATURE_SIZES, MINIATURE_IMAGES, MINIATURE_TILES = (64, 128), (128,), (64,)
OPERATIONS_PER_PIXEL = 9.5e6  # of the decoder
SECONDS = 1.5


def plan(miniature: bool) -> Iterator[tuple[str, str, int, int, str]]:
    """What, model, pixels, tile and path of every row, the most telling first."""
    sizes = MINIATURE_SIZES if miniature else SIZES
    images = MINIATURE_IMAGES if miniature else IMAGES
    tiles = MINIATURE_TILES if miniature else TILES
    middle = [size for size in sizes if size in (2048, 4096)]
    for size in [*middle, *(size for size in sizes if size not in middle)]:
        yield from ((STEP, name, size, 0, OURS) for name in MODELS)
        yield STEP, PEER, size, 0, COMPILED
        if [size] == middle[:1]:
            yield from decodings([FIRST_DECODED], tiles)
    yield from decodings([image for image in images if image != FIRST_DECODED], tiles)


def decodings(
    images: Sequence[int], tiles: Sequence[int]
) -> Iterator[tuple[str, str, int, int, str]]:
    """Decoding of images by tiles, or in one piece (tile 0)."""
    for image in images:
        yield from ((DECODING, DECODER, image, tile, "eager") for tile in tiles if tile < image)
        if image <= LARGEST_PIECE:
            yield DECODING, DECODER, image, 0, "eager"


def run(bench: Bench) -> None:
    """Measures the rows that the ledger lacks."""
    for what, name, pixels, tile, path in plan(bench.miniature):
        if what == STEP:
            work = partial(step_row, bench, name, pixels, path)
            least = floor(name, pixels, 1, bench.best, bench.device, bench.miniature)
            seconds = COMPILING + 20 * least / 1000
        else:
            work = partial(decoding_row, bench, pixels, tile=tile)
            operations = OPERATIONS_PER_PIXEL * pixels**2
            seconds = 60 + 20 * operations / bench.best.flops_per_second
        bench.ledger.measure(
            work,
            needs=0 if bench.miniature else seconds,
            kernels=path == OURS,
            what=what,
            model=name,
            pixels=pixels,
            tile=tile,
            path=path,
        )


def step_row(bench: Bench, name: str, pixels: int, path: str) -> Row:
    """One forward pass of one picture."""
    fresh_memory(bench.device)
    model = build(name, pixels, path, bench.device, bench.miniature)
    given = inputs(model, pixels, 1)
    fresh_memory(bench.device)  # the weights were larger before they were rounded
    graphs = pixels <= MOST_PIXELS_OF_GRAPHS
    with running(name, model, path, graphs, bench.miniature) as call:
        seconds = 0 if bench.miniature else SECONDS
        row = timed(partial(call, *given), bench.device, seconds)
    least = floor(name, pixels, 1, bench.best, bench.device, bench.miniature)
    return row | floors(least, row) | {"peak_gib": peak_gib(bench.device)}


def tables(rows: Sequence[Row], about: Row) -> list[Table]:
    """Steps by size, where they cross, and decoding by tile."""
    columns = ["model", "pixels", "path", "ms", "spread", "floor ms", "share", "peak GiB"]
    steps = [step_cells(row) for row in rows if row["what"] == STEP]
    shown = [Table("One step, batch 1", columns, steps)]
    names = ["ahead", "behind", "from pixels on"]
    shown.append(Table("Where one passes the other", names, list(crossings(rows)), names=2))
    columns = ["pixels", "tile", "ms", "spread", "peak GiB"]
    decoded = [decoding_cells(row) for row in rows if row["what"] == DECODING]
    return [*shown, Table("Decoding", columns, decoded)]


def step_cells(row: Row) -> list[str]:
    return [
        row["model"],
        str(row["pixels"]),
        row["path"],
        row.get("failed") or number(row["milliseconds"]),
        share(row.get("spread")),
        number(row.get("floor_milliseconds")),
        share(row.get("share_of_floor")),
        number(row.get("peak_gib"), 1),
    ]


def decoding_cells(row: Row) -> list[str]:
    return [
        str(row["pixels"]),
        str(row["tile"] or "one piece"),
        row.get("failed") or number(row["milliseconds"], 1),
        share(row.get("spread")),
        number(row.get("peak_gib"), 1),
    ]


def crossings(rows: Sequence[Row]) -> Iterator[list[str]]:
    """For each two backbones the one that is ahead at the largest size, and from where on."""
    times = {name: curve(rows, name) for name in MODELS}
    for pair in combinations(MODELS, 2):
        sizes = sorted(set(times[pair[0]]) & set(times[pair[1]]))
        if len(sizes) < 2:
            continue
        for ours, theirs in (pair, pair[::-1]):
            at = crossing(
                sizes, [times[ours][size] for size in sizes], [times[theirs][s] for s in sizes]
            )
            if at is not None:
                everywhere = " (all measured)" if at == sizes[0] else ""
                yield [ours, theirs, f"{at:.0f}{everywhere}"]


def curve(rows: Sequence[Row], name: str) -> dict[int, float]:
    """Milliseconds of a step by pixels, with our operators."""
    return {
        row["pixels"]: row["milliseconds"]
        for row in rows
        if (row["what"], row["model"], row["path"]) == (STEP, name, OURS) and "failed" not in row
    }


def verdicts(rows: Sequence[Row]) -> list[str]:
    """What became of the question where others pass softmax attention; there is no target."""
    found = {(ahead, behind): at for ahead, behind, at in crossings(rows)}
    said = []
    for name in MODELS:
        if name == PEER:
            continue
        if (name, PEER) in found:
            said.append(f"{name} passes {PEER} from {found[name, PEER]} pixels on")
        elif (PEER, name) in found:
            said.append(f"{name} does not pass {PEER} up to the largest size measured")
        else:
            said.append(f"{name} beside {PEER}: not measured")
    return said
