"""What Table A measures: shapes in use, most telling first, and their gates."""

from collections.abc import Iterator

from gensynth_benchmarks.kernel_cases import (
    Case,
    convolution_case,
    depthwise_case,
    forward_case,
    linear_case,
    local_case,
    modulation_case,
    norm_case,
    token_case,
)


def cases(device: str, quick: bool) -> Iterator[Case]:
    """The rows, most telling first; with `quick` one tiny case of each kind."""
    if quick:
        yield linear_case(device, 1, 2, 64, 16, "forward")
        yield linear_case(device, 1, 2, 64, 16, "forward and backward")
        yield local_case(device, 16, 3, "forward", text=8, heads=1, dim=16, flexible=False)
        yield depthwise_case(device, 1, 32, 8, "forward")
        yield norm_case(device, 1, 32, 8)
        yield modulation_case(device, 1, 16, 32)
        yield token_case(device, 1, 4, 16)
        yield convolution_case(device, 1, 32, 8)
        tiny = {"hidden_size": 8, "depth": [1] * 5}
        yield forward_case(device, "DiCo-nano", 1, 8, backend="eager", keywords=tiny)
        return
    yield linear_case(device, 2, 10, 65536, 64, "forward", {"floor": 0.7, "best peer": 2.0})
    yield local_case(
        device, 256, 16, "forward", gates={"row-major flex": 2.5, "full softmax": 14.0}
    )
    gates = {"floor": 0.6, "eager": 2.5, "compiled": 1.8}
    yield depthwise_case(device, 64, 832, 32, "forward", gates=gates)
    yield forward_case(device, "DiCo-XL", 64, 32, {"compiled": 1.2})
    yield linear_case(device, 2, 10, 2**20, 64, "forward", {"floor": 0.7})
    for name in ("DiT-XL/2", "DiC-XL"):
        yield forward_case(device, name, 64, 32)
    for channels, side in ((416, 32), (832, 16), (1664, 8), (832, 32)):
        yield convolution_case(device, 64, channels, side)
    yield local_case(device, 512, 16, "forward")
    yield linear_case(device, 2, 10, 16384, 64, "forward", {"floor": 0.7, "best peer": 2.0})
    yield linear_case(device, 2, 20, 16384, 64, "forward", {"floor": 0.7, "best peer": 2.0})
    yield linear_case(device, 2, 10, 16384, 64, "forward and backward")
    yield depthwise_case(device, 64, 832, 32, "forward and backward")
    yield norm_case(device, 64, 384, 32)
    yield norm_case(device, 1, 128, 1024)
    yield modulation_case(device, 64, 256, 1152)
    yield token_case(device, 64, 256, 16385)
    for batch, channels, side in ((64, 416, 32), (64, 1664, 8), (8, 832, 64), (1, 832, 256)):
        yield depthwise_case(device, batch, channels, side, "forward", gates={"floor": 0.6})
    yield depthwise_case(device, 64, 832, 32, "forward", approximate="tanh")
    for window in (8, 32):
        yield local_case(device, 256, window, "forward")
    yield local_case(device, 128, 16, "forward")
    yield local_case(device, 128, 16, "forward and backward")
    for dim in (40, 80, 160):
        yield linear_case(device, 2, 8, 16384, dim, "forward")
