import pytest
import torch

from gensynth.seeding import StepRandom, derived_seed, picture_generator


def test_derived_seeds_never_change():
    # Runs that were started with an earlier version must resume with the same numbers.
    assert derived_seed(0, "order", 0) == 3991725939186754870
    assert derived_seed("x") != derived_seed("y")


def test_derived_seeds_are_distinct_and_fit_a_generator():
    seeds = {derived_seed(seed, kind, n) for seed in range(4) for kind in "ab" for n in range(250)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_picture_generator_depends_on_its_seed_only():
    torch.rand(3)
    first, second = (torch.randn(4, generator=picture_generator(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.randn(4, generator=picture_generator(6)))


def draws(random: StepRandom) -> list[torch.Tensor]:
    return [random.uniform(), random.normal(2, 3), random.integers(10), random.normal()]


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_the_parts_of_a_step_are_the_rows_of_the_whole(parts):
    whole = draws(StepRandom(1, 2, slice(0, 8), 8))
    size = 8 // parts
    split = [draws(StepRandom(1, 2, slice(n * size, n * size + size), 8)) for n in range(parts)]
    for expected, pieces in zip(whole, zip(*split, strict=True), strict=True):
        assert torch.equal(expected, torch.cat(pieces))


@pytest.mark.parametrize("other", [(1, 3), (2, 2), (12, 0)])
def test_steps_and_seeds_draw_unlike_numbers(other):
    rows = slice(0, 8)
    first, second = StepRandom(1, 2, rows, 8).normal(3), StepRandom(*other, rows, 8).normal(3)
    assert not torch.equal(first, second)


def test_ranges():
    random = StepRandom(0, 0, slice(0, 4096), 4096)
    integers, uniform, normal = random.integers(3), random.uniform(), random.normal()
    assert set(integers.tolist()) == {0, 1, 2}
    assert 0 <= uniform.min() < 0.01 < 0.99 < uniform.max() < 1
    assert abs(normal.mean()) < 0.1
    assert abs(normal.std() - 1) < 0.1


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    draws(StepRandom(0, 0, slice(0, 2), 2))
    torch.randn(2, generator=picture_generator(1))
    assert torch.equal(before, torch.get_rng_state())


def test_all_rows_begin_anew():
    part = StepRandom(0, 3, slice(2, 4), 6)
    part.uniform()  # what was drawn before does not matter
    everyone = part.all_rows()
    whole = StepRandom(0, 3, slice(0, 6), 6)
    assert torch.equal(everyone.uniform(2), whole.uniform(2))
    assert torch.equal(everyone.normal()[part.rows], whole.normal()[2:4])


def test_dropout_is_a_function_of_seed_step_and_rows():
    def dropped(seed: int = 0, step: int = 0, first: int = 0) -> torch.Tensor:
        with StepRandom(seed, step, slice(first, first + 2), 4).for_dropout():
            return torch.nn.functional.dropout(torch.ones(1000))

    state = torch.get_rng_state()
    one = dropped()
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(5)
    assert torch.equal(one, dropped())
    for other in (dropped(seed=1), dropped(step=1), dropped(first=2)):
        assert not torch.equal(one, other)
