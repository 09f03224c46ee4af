"""Strategies for large pictures: their arithmetic, what they keep, and what they refuse."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gensynth.errors import UsageError
from gensynth.pipelines.highres.contract import ladder, one_by_one
from gensynth.pipelines.highres.strategies import STRATEGIES, strategy_of
from gensynth.pipelines.highres.tiled import in_windows, starts
from gensynth.settings import Settings

LABELS, SEEDS = [3, 5], [1, 2]


def drawn(pipeline, labels=LABELS, seeds=SEEDS, **settings) -> np.ndarray:
    pictures = pipeline(labels, seeds, **settings)
    return np.stack([np.asarray(picture, dtype=np.float32) for picture in pictures])


class Memory(dict):
    """Finished stages in a dictionary."""

    def get(self, seed, stage):
        return super().get((seed, stage))

    def put(self, seed, stage, latents):
        self[seed, stage] = latents


@pytest.mark.parametrize(
    ("size", "factor", "sizes"),
    [
        ((128, 128), 2, [(128, 128)]),
        ((64, 64), 2, [(64, 64)]),
        ((512, 512), 2, [(128, 128), (256, 256), (512, 512)]),
        ((512, 512), 4, [(128, 128), (512, 512)]),
        ((136, 136), 2, [(128, 128), (136, 136)]),
        # of the area of 128x128, in the shape of the whole
        ((256, 1024), 2, [(64, 256), (128, 512), (256, 1024)]),
        ((1000, 200), 4, [(288, 56), (1000, 200)]),
    ],
)
def test_sizes_of_stages(size, factor, sizes):
    assert ladder(128, size, 8, factor) == sizes


def test_direct_is_what_is_done_without_a_name(tiny_pipeline):
    assert (drawn(tiny_pipeline, size=48) == drawn(tiny_pipeline, size=48, strategy="direct")).all()


def test_stages_in_steps_and_sizes(tiny_pipeline):
    seen = []

    def on_step(progress):
        seen.append((progress.step, progress.steps, progress.preview().shape[-1]))

    tiny_pipeline([3], [1], size=96, strategy="progressive", on_step=on_step, steps=3)
    sizes = [32] * 3 + [56] * 6 + [96] * 6  # 32 * sqrt(3), to a multiple of 8
    assert seen == [(number, 15, size) for number, size in enumerate(sizes, 1)]


def test_a_picture_does_not_depend_on_its_batch(tiny_pipeline):
    how = {"size": 64, "strategy": "progressive"}
    together = drawn(tiny_pipeline, **how)
    for number in range(2):
        alone = drawn(tiny_pipeline, LABELS[number : number + 1], SEEDS[number : number + 1], **how)
        assert np.abs(alone[0] - together[number]).max() <= 1
    assert np.abs(together[0] - together[1]).max() > 20


def test_colours_are_those_of_the_stage_before(tiny_pipeline):
    how = {"size": 64, "strategy": "progressive"}
    small = drawn(tiny_pipeline)

    def coarse(pictures, places):
        return F.avg_pool2d(torch.from_numpy(pictures), places).numpy()

    def apart(**options):
        large = drawn(tiny_pipeline, **how, strategy_options=options)
        return np.abs(coarse(large, 16) - coarse(small, 8)).mean()

    assert apart() < 0.5 * apart(colours=False)


def test_a_finished_stage_is_not_drawn_again(tiny_pipeline):
    settings = Settings(size=64, strategy="progressive", steps=3)
    whole, stages, steps = Memory(), Memory(), []
    expected = tiny_pipeline.draw(LABELS, SEEDS, settings, kept=whole)
    assert sorted(whole) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert whole[1, 0].shape == (4, 16, 16) and whole[1, 1].shape == (4, 32, 32)
    stages |= {key: value for key, value in whole.items() if key[1] == 0}
    told = tiny_pipeline.draw(LABELS, SEEDS, settings, lambda p: steps.append(p.step), stages)
    assert steps == [3, *range(4, 10)]
    assert [one.tobytes() for one in told] == [one.tobytes() for one in expected]
    steps.clear()
    again = tiny_pipeline.draw(LABELS, SEEDS, settings, lambda p: steps.append(p.step), whole)
    assert steps == [3, 9] and again[0].tobytes() == expected[0].tobytes()


def test_one_picture_after_another():
    def predict(sample, time, conditions):
        assert len(sample) == len(time) == len(conditions["k"]) == 1
        return sample * time[:, None] + conditions["k"][:, None]

    sample, time, told = torch.randn(3, 5), torch.rand(3), {"k": torch.randn(3)}
    expected = sample * time[:, None] + told["k"][:, None]
    assert torch.equal(one_by_one(predict)(sample, time, told), expected)


@pytest.mark.parametrize(
    ("length", "side", "apart", "found"),
    [
        (16, 16, 8, [0]),
        (8, 16, 8, [0]),
        (32, 16, 8, [0, 8, 16]),
        (33, 16, 16, [0, 8, 17]),
        (36, 16, 8, [0, 8, 12, 20]),
    ],
)
def test_where_windows_begin(length, side, apart, found):
    assert starts(length, side, apart) == found
    assert all(b - a <= side for a, b in itertools.pairwise(found))


def test_what_is_the_same_in_every_window_stays():
    sample = torch.randn(2, 4, 20, 36)
    asked = []

    def predict(sample, time, conditions):
        asked.append(tuple(sample.shape[-2:]))
        return torch.cat([2 * sample, sample**2], dim=1)

    told = in_windows(predict, 16, 8)(sample, torch.zeros(2), {})
    torch.testing.assert_close(told, predict(sample, None, None))
    assert asked[:-1] == [(16, 16)] * 8


def test_the_middle_of_a_window_counts_most():
    """Two windows that disagree: from one to the other without a step."""
    numbers = iter([0.0, 1.0])

    def predict(sample, time, conditions):
        return torch.full_like(sample, next(numbers))

    row = in_windows(predict, 16, 8)(torch.zeros(1, 1, 16, 24), torch.zeros(1), {})[0, 0, 3]
    assert (row[:8] == 0).all() and (row[16:] == 1).all()
    assert (row.diff() >= 0).all() and row.diff().max() < 0.2


def test_one_window_is_the_whole_picture(tiny_pipeline):
    whole = drawn(tiny_pipeline)
    assert (drawn(tiny_pipeline, strategy="tiled") == whole).all()
    large = drawn(tiny_pipeline, size=(32, 64), strategy="tiled")
    assert large.shape == (2, 32, 64)
    wide = {"window": 64}
    assert (
        drawn(tiny_pipeline, size=64, strategy="tiled", strategy_options=wide)
        == drawn(tiny_pipeline, size=64)
    ).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strategy": "progresive"}, "Did you mean 'progressive'"),
        ({"strategy": "progressive", "strategy_options": {"strenght": 1}}, "'strength'"),
        ({"strategy": "direct", "strategy_options": {"strength": 1}}, "It has none"),
        ({"strategy_options": {"strength": 1}}, "the strategy direct has no option"),
        ({"strategy": "progressive", "strategy_options": {"strength": 0}}, "above 0"),
        ({"strategy": "progressive", "strategy_options": {"strength": "much"}}, "strength='much'"),
        ({"strategy": "progressive", "strategy_options": {"upsample": "noise"}}, "or latents"),
        ({"strategy": "progressive", "scheduler": "FlowODEScheduler"}, "FlowODEScheduler does not"),
        ({"strategy": "tiled", "strategy_options": {"window": 20}}, "the nearest is 16"),
        ({"strategy": "tiled", "strategy_options": {"overlap": 1}}, "below 1"),
    ],
)
def test_refused(tiny_pipeline, settings, words):
    with pytest.raises(UsageError) as refused:
        tiny_pipeline.resolve(Settings(**settings))
    assert words in str(refused.value)


@pytest.mark.parametrize("name", ["progressive", "tiled"])
def test_tokens_take_no_noise_and_no_average(make_pipeline, name):
    pipeline = make_pipeline("tokens")
    with pytest.raises(UsageError, match="draws tokens"):
        pipeline.resolve(Settings(strategy=name))
    pipeline.resolve(Settings(strategy="direct"))  # what it advises


def test_strategies_are_listed_where_they_are_chosen():
    from gensynth.settings import known_settings

    assert all(name in known_settings()["strategy"].help for name in STRATEGIES)
    assert type(strategy_of(Settings())).__name__ == "Direct"


def test_settings_come_back_from_json():
    settings = Settings(strategy="progressive", strategy_options={"strength": 0.4})
    assert Settings.from_json(settings.to_json()) == settings
