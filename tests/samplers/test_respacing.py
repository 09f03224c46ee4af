"""The timesteps of a respaced chain are those of the published function, for every count.

The hashes were made with the published one: facebookresearch/DiT@ed81ce2229, diffusion/respace.py.
"""

import hashlib
from itertools import product

import numpy as np
import pytest

from gensynth.errors import UsageError
from gensynth.samplers.registry import create_scheduler
from gensynth.samplers.respaced import respaced

EVEN = "8a4534be724ace8f12eecd094fa6263667e3d19fd338f667e3be8099d85db11a"
STRIDES = "3f0fe554f962473dc895d8c101480ee78375bc61182df94d808a4ca78073f3f7"
SECTIONS = "da5917dada81d877ffc1358d57317e465606b2d50b08493a48c081cd8cba1780"


def fingerprint(spacings, total: int, timesteps=respaced) -> str:
    """sha256 of a line for each spacing: the timesteps with commas between, or "refused"."""
    lines = []
    for spacing in spacings:
        try:
            lines.append(f"{spacing}: {','.join(map(str, timesteps(spacing, total)))}\n")
        except UsageError:
            lines.append(f"{spacing}: refused\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def visited(scheduler, steps: int) -> list[int]:
    scheduler.set_timesteps(steps)
    return scheduler.timesteps.flip(0).tolist()


EVERY_COUNT = [str(count) for count in range(1, 1001)]
EVERY_STRIDE = [f"ddim{count}" for count in range(1, 1001)]


def test_every_count_every_stride_and_sections():
    assert fingerprint(EVERY_COUNT, 1000) == EVEN
    assert fingerprint(EVERY_STRIDE, 1000) == STRIDES
    some = [",".join(map(str, counts)) for counts in product((1, 2, 7, 10, 33, 34), repeat=3)]
    assert fingerprint(some, 100) == SECTIONS  # 34 + 33 + 33 timesteps: some are refused


@pytest.mark.parametrize("name", ["DDPMScheduler", "RespacedDDIMScheduler"])
def test_schedulers_take_the_published_steps(name):
    scheduler = create_scheduler(name, "epsilon")
    assert fingerprint(EVERY_COUNT, 1000, lambda text, _: visited(scheduler, int(text))) == EVEN


def test_leading_ddim_is_the_published_stride():
    scheduler = create_scheduler(
        "RespacedDDIMScheduler", "epsilon", {"timestep_spacing": "leading"}
    )

    def leading(text, _):
        return visited(scheduler, int(text.removeprefix("ddim")))

    assert fingerprint(EVERY_STRIDE, 1000, leading) == STRIDES


def test_examples():
    assert respaced(1, 1000) == [0]
    assert respaced("4", 10) == respaced([4], 10) == respaced(4, 10) == [0, 3, 6, 9]
    assert respaced([2, 0, 3], 9) == [0, 2, 6, 7, 8]
    assert respaced("1,1", 5) == [0, 3]  # the first section has what is left over
    assert respaced("ddim4", 10) == [0, 3, 6, 9]
    assert respaced("ddim47", 47) == list(range(47))
    whole = respaced("10,20,30", 1000)
    assert len(whole) == 60 and (whole[0], whole[10], whole[-1]) == (0, 334, 999)
    # Halves are rounded to even numbers, and sums of strides are not multiples of them.
    assert respaced(3, 6) == [0, 2, 5]
    numpy = np.linspace(0, 999, 21).round().astype(int).tolist()
    assert [a - b for a, b in zip(respaced(21, 1000), numpy, strict=True) if a != b] == [-1]


@pytest.mark.parametrize(
    ("spacing", "total", "words"),
    [
        (1001, 1000, "section 1 of 1 has 1000 timesteps, from which 1001 steps"),
        ("10,400", 600, "section 2 of 2 has 300 timesteps, from which 400 steps"),
        ("0,0", 10, "no steps"),
        ("ddim47", 1000, "no whole stride makes 47 steps of 1000 timesteps. Nearest: 46 or 48"),
        ("ddim0", 1000, "no whole stride makes 0 steps of 1000 timesteps. Nearest: 2;"),
        ("ddim1001", 1000, "no whole stride makes 1001 steps of 1000 timesteps. Nearest: 1000;"),
    ],
)
def test_refusals_say_what_is_possible(spacing, total, words):
    with pytest.raises(UsageError, match=words):
        respaced(spacing, total)
    if "Nearest" in words:
        nearest = words.split("Nearest: ")[1].rstrip(";").split(" or ")
        assert [len(respaced(f"ddim{count}", total)) for count in nearest] == list(
            map(int, nearest)
        )
