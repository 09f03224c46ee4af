"""`gensynth ops tune`: the fastest launch of every kernel on the GPU at hand."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from gensynth.errors import UsageError
from gensynth.ops import OPERATORS, use
from gensynth.ops.launches import Launch, find, save_tuned, trying
from gensynth.ops.operators import Operator

# The time is that of the whole call, of which a kernel is a part. A launch replaces the shipped one
# if the call is faster by more than measurements differ.
WORTH = 0.99
LARGEST_DIFFERENCE = 1e-2  # of results, relative: launches may differ in rounding


def tune(names: Sequence[str] | None = None) -> Iterator[str]:
    """Measures all candidates of these operators; a sentence a launch, and one on the file.

    Raises:
        UsageError: no GPU, or no operator of that name.
    """
    if unknown := set(names or ()) - set(OPERATORS):
        raise UsageError(f"no operator {sorted(unknown)[0]!r}; known: {', '.join(OPERATORS)}.")
    if not torch.cuda.is_available():
        raise UsageError("tuning measures kernels on a CUDA GPU, and torch finds none here.")
    from triton.testing import do_bench

    def milliseconds(work: Callable[[], object]) -> float:
        return do_bench(work, return_mode="median")

    fastest: dict[str, dict[str, Launch]] = {}
    for name in names or OPERATORS:
        fastest[name] = {}
        for key, launch, sentence in best_launches(
            OPERATORS[name], torch.device("cuda"), True, milliseconds
        ):
            fastest[name][key] = launch
            yield sentence
    kept = {name: OPERATORS[name].tuned() for name in OPERATORS if name not in fastest}
    yield f"written to {save_tuned({**kept, **fastest})}"


def best_launches(
    operator: Operator,
    device: torch.device,
    full: bool,
    milliseconds: Callable[[Callable[[], object]], float],
) -> Iterator[tuple[str, Launch, str]]:
    """The key, its fastest launch and a sentence, for every launch of an operator.

    Args:
        full: whether to measure at the sizes of use instead of tiny ones.
        milliseconds: the time of a function.
    """
    specimens = {key: specimen for specimen in operator.specimens() for key in specimen.keys}
    shipped = operator.launches()
    for key in shipped:
        specimen = specimens[key]
        inputs = specimen.inputs(device, full)
        start = find(operator.name, shipped, key)
        candidates = [start, *(c for c in operator.candidates(key) if c != start)]
        with use("triton"):
            expected = specimen.call(*inputs)
            times = {
                index: timed(
                    operator.name,
                    key,
                    launch,
                    partial(specimen.call, *inputs),
                    expected,
                    milliseconds,
                )
                for index, launch in enumerate(candidates)
            }
        index = min(times, key=lambda i: times[i])
        # the shipped launch, candidate 0, unless another one is clearly faster
        if times[index] > WORTH * times[0]:
            index = 0
        best = candidates[index]
        yield (
            key,
            best,
            f"{operator.name}, {key}: {times[index]:.3f} ms ({times[0]:.3f} before), "
            f"{len(times)} launches, {best.keywords()}",
        )


def timed(
    operator: str,
    key: str,
    launch: Launch,
    call: Callable[[], Sequence[torch.Tensor]],
    expected: Sequence[torch.Tensor],
    milliseconds: Callable[[Callable[[], object]], float],
) -> float:
    """The time of a call with one launch.

    Infinite if the GPU has not the registers or memory, or if the result is another.
    """
    from triton.runtime.errors import OutOfResources

    with trying(operator, key, launch):
        try:
            return milliseconds(call) if alike(call(), expected) else float("inf")
        except OutOfResources:
            return float("inf")


def alike(results: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    """Whether results are the same but for rounding."""
    return all(
        bool((a.float() - b.float()).norm() <= LARGEST_DIFFERENCE * b.float().norm())
        for a, b in zip(results, expected, strict=True)
    )
