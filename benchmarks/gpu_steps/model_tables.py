"""What the rows of `models` say: tables, and what became of the targets."""

from collections.abc import Sequence

from gensynth_benchmarks.gpu_steps.backbones import BACKBONES, COMPILED, EAGER, OURS, PUBLISHED
from gensynth_benchmarks.gpu_steps.common import verdict
from gensynth_benchmarks.gpu_steps.decoding import DECODER, DECODING
from gensynth_benchmarks.ledger import Row
from gensynth_benchmarks.measuring import Table, number, share

FORWARD, SAMPLER = "forward", "sampler"
SIZES = ((256, 64), (512, 64), (2048, 8))  # pixels and batch of the targets
# Pictures a second expected of a forward pass of 64 (8 at 2048 pixels): calculated from operations
# and passes over memory before anything had been measured.
PREDICTED = {
    256: {
        ("DiT-XL/2", COMPILED): 1900,
        ("DiCo-XL", EAGER): 1400,
        ("DiCo-XL", COMPILED): 1870,
        ("DiCo-XL", OURS): 2430,
        ("DiC-XL", COMPILED): 1740,
        ("DiC-XL", OURS): 1970,
    },
    512: {
        ("DiT-XL/2", COMPILED): 405,
        ("DiCo-XL", EAGER): 354,
        ("DiCo-XL", COMPILED): 467,
        ("DiCo-XL", OURS): 609,
        ("DiC-XL", COMPILED): 436,
        ("DiC-XL", OURS): 492,
    },
    2048: {
        ("DiT-XL/2", COMPILED): 10,
        ("DiCo-XL", EAGER): 22,
        ("DiCo-XL", COMPILED): 29,
        ("DiCo-XL", OURS): 38,
        ("DiC-XL", COMPILED): 27,
        ("DiC-XL", OURS): 31,
    },
}
# Of DiCo-XL over compiled DiT-XL/2; of the published code, in float32, eager.
TARGETS = {256: 1.25, 512: 1.45, 2048: 3.5}
AS_PUBLISHED = {(256, "DiCo-XL"): 2.7, (512, "DiCo-XL"): 3.1, (256, "DiC-XL"): 5.0}
LEAST_SHARE = 0.7  # of the floor: DiCo-XL at 256 pixels, batch 64


def found(rows: Sequence[Row], what: str, model: str, pixels: int, batch: int, path: str) -> Row:
    """A row that was measured; an empty one if it was not, or failed."""
    key = {"what": what, "model": model, "pixels": pixels, "batch": batch, "path": path}
    row = next((row for row in rows if key.items() <= row.items()), {})
    return {} if "failed" in row else row


def tables(rows: Sequence[Row], about: Row) -> list[Table]:
    """Forward passes with their floors, and samplers with and without decoding."""
    columns = ["model", "pixels", "batch", "path", "images/s", "predicted", "ms", "spread"]
    columns += ["floor ms", "share", "launches", "peak GiB", "from eager"]
    forwards = [forward_cells(row, rows) for row in rows if row["what"] == FORWARD]
    shown = [Table("Forward passes", columns, forwards, names=1)]
    columns = ["model", "pixels", "batch", "path", "steps", "images/s", "with decoding", "share"]
    samplers = [sampler_cells(row, rows) for row in rows if row["what"] == SAMPLER]
    return [*shown, Table("Guided samplers", [*columns, "peak GiB"], samplers, names=1)]


def forward_cells(row: Row, rows: Sequence[Row]) -> list[str]:
    predicted = PREDICTED.get(row["pixels"], {}).get((row["model"], row["path"]))
    at_target = (row["pixels"], row["batch"]) in SIZES
    return [
        row["model"],
        str(row["pixels"]),
        str(row["batch"]),
        row["path"],
        row.get("failed") or number(row["images_per_second"], 1),
        number(predicted, 0) if at_target else "",
        number(row.get("milliseconds")),
        share(row.get("spread")),
        number(row.get("floor_milliseconds")),
        share(row.get("share_of_floor")),
        number(row.get("launches"), 0),
        number(row.get("peak_gib"), 1),
        "" if "failed" in row else f"{row['difference_from_eager']:.0e}",
    ]


def sampler_cells(row: Row, rows: Sequence[Row]) -> list[str]:
    decoded = found(rows, DECODING, DECODER, row["pixels"], row["batch"], EAGER)
    both = None
    if "failed" not in row and decoded and BACKBONES[row["model"]].prediction != "tokens":
        both = 1000 * row["batch"] / (row["milliseconds"] + decoded["milliseconds"])
    return [
        row["model"],
        str(row["pixels"]),
        str(row["batch"]),
        row["path"],
        str(row.get("steps", "")),
        row.get("failed") or number(row["images_per_second"]),
        number(both),
        share(row.get("share_of_floor")),
        number(row.get("peak_gib"), 1),
    ]


def verdicts(rows: Sequence[Row]) -> list[str]:
    """The targets, and the published ratios in the setting they were published for."""

    def ratio(ours: Row, theirs: Row) -> float | None:
        if not ours or not theirs:
            return None
        return ours["images_per_second"] / theirs["images_per_second"]

    said = []
    for pixels, batch in SIZES:
        dico, dit = (
            found(rows, FORWARD, name, pixels, batch, path)
            for name, path in (("DiCo-XL", OURS), ("DiT-XL/2", COMPILED))
        )
        what = f"DiCo-XL over compiled DiT-XL/2 at {pixels}, batch {batch}"
        said.append(verdict(what, ratio(dico, dit), TARGETS[pixels]))
    ours = found(rows, FORWARD, "DiCo-XL", 256, 64, OURS)
    said.append(
        verdict("DiCo-XL's share of its floor at 256", ours.get("share_of_floor"), LEAST_SHARE)
    )
    said += [never_slower(rows)]
    for (pixels, name), claimed in AS_PUBLISHED.items():
        pair = [found(rows, FORWARD, n, pixels, 64, PUBLISHED) for n in (name, "DiT-XL/2")]
        here = number(ratio(*pair), 2) or "not measured"
        said.append(f"{name} over DiT-XL/2 at {pixels}, float32 eager: {here}; published {claimed}")
    return said


def never_slower(rows: Sequence[Row]) -> str:
    """Whether ours is at least as fast as the better of eager and compiled, everywhere."""
    worst: tuple[float, str] | None = None
    count = 0
    for row in rows:
        if row["path"] != OURS or "failed" in row:
            continue
        key = [row[k] for k in ("what", "model", "pixels", "batch")]
        others = [found(rows, *key, path) for path in (EAGER, COMPILED)]
        rates = [other["images_per_second"] for other in others if other]
        if len(rates) == 2:
            count += 1
            gain = row["images_per_second"] / max(rates)
            here = gain, " ".join(map(str, key))
            worst = here if worst is None else min(worst, here)
    what = f"ours over the better of eager and compiled, the worst of {count}"
    if worst is None:
        return verdict(what, None, 1.0)
    return f"{verdict(what, worst[0], 1.0)} ({worst[1]})"
