"""How the kernels of linear attention are launched.

A key is a kernel, the larger of the padded widths of keys and values, and the type: "state d64
16bit". `TOKENS` are taken at a time, `STEPS` times by one program where programs are independent.
"""

from gensynth.ops.launches import Launch

KERNELS = ("state", "state sum", "output", "query gradient", "gradient sum", "key gradient")
WIDTHS = (32, 64, 128, 256)
TYPES = ("16bit", "32bit")
SUMS = ("state sum", "gradient sum")


def launch(tokens: int, warps: int, stages: int = 2, steps: int | None = None) -> Launch:
    blocks = {"TOKENS": tokens} if steps is None else {"TOKENS": tokens, "STEPS": steps}
    return Launch(blocks, warps, stages)


LAUNCHES: dict[str, Launch] = {
    f"{kernel} d{width} {bits}": Launch({"LINES": 16}, num_warps=4, num_stages=1)
    for kernel in SUMS
    for width in WIDTHS
    for bits in TYPES
} | {
    "state d32 16bit": launch(128, 4),
    "state d64 16bit": launch(64, 4),
    "state d128 16bit": launch(32, 8, 3),
    "state d256 16bit": launch(64, 4),
    "output d32 16bit": launch(128, 4, steps=2),
    "output d64 16bit": launch(128, 8, steps=2),
    "output d128 16bit": launch(64, 8, steps=4),
    "output d256 16bit": launch(64, 8, steps=4),
    "query gradient d32 16bit": launch(32, 4),
    "query gradient d64 16bit": launch(32, 4),
    "query gradient d128 16bit": launch(16, 8),
    "query gradient d256 16bit": launch(32, 8, 1),
    "key gradient d32 16bit": launch(128, 4, steps=2),
    "key gradient d64 16bit": launch(64, 4, steps=4),
    "key gradient d128 16bit": launch(32, 8, steps=8),
    "key gradient d256 16bit": launch(16, 8, 1, steps=8),
    "state d32 32bit": launch(32, 4, 1),
    "state d64 32bit": launch(16, 4, 1),
    "state d128 32bit": launch(16, 4, 1),
    "state d256 32bit": launch(16, 8, 1),
    "output d32 32bit": launch(32, 4, 1, steps=4),
    "output d64 32bit": launch(16, 8, 1, steps=8),
    "output d128 32bit": launch(16, 8, 1, steps=8),
    "output d256 32bit": launch(16, 8, 1, steps=8),
    "query gradient d32 32bit": launch(32, 4, 1),
    "query gradient d64 32bit": launch(16, 8, 1),
    "query gradient d128 32bit": launch(16, 8, 1),
    "query gradient d256 32bit": launch(16, 8, 1),
    "key gradient d32 32bit": launch(32, 4, 1, steps=4),
    "key gradient d64 32bit": launch(16, 8, 1, steps=8),
    "key gradient d128 32bit": launch(16, 4, 1, steps=8),
    "key gradient d256 32bit": launch(16, 8, 1, steps=8),
}


def width_of(keys: int, values: int) -> int:
    """The width in the keys of `LAUNCHES` for padded widths of keys and values."""
    return max(32, keys, values)


def key(kernel: str, keys: int, values: int, itemsize: int) -> str:
    return f"{kernel} d{width_of(keys, values)} {8 * itemsize}bit"


def candidates(key: str) -> list[Launch]:
    """Launches of `key` worth measuring."""
    shipped = LAUNCHES[key]
    if key.startswith(SUMS):
        return [Launch({"LINES": 16}, warps, 1) for warps in (1, 2, 4, 8)]
    tokens = shipped.blocks["TOKENS"]
    return [
        Launch({**shipped.blocks, "TOKENS": size}, warps, stages)
        for size in sorted({max(16, tokens // 2), tokens, min(128, 2 * tokens)})
        for warps in (4, 8)
        for stages in (1, 2, 3)
    ]
