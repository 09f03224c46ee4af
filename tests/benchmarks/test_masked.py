"""The benchmark of masked tokens runs, and its clock tells the model from the rest."""

import dataclasses

import pytest
import torch

from gensynth.cli import main
from gensynth_benchmarks import masked as bench
from gensynth_benchmarks.published_samplers import (
    PUBLISHED,
    PublishedConfidence,
    PublishedHalton,
    PublishedSampler,
)

SMALL = dataclasses.replace(bench.NANO, batch=2)


class Clock:
    """A second hand that the test moves, and a millisecond at each look, whatever the load is."""

    def __init__(self):
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def perf_counter(self) -> float:
        self.now += 0.001
        return self.now


class Sleeper(PublishedSampler):
    """Sleeps in each step, and remembers what it saw."""

    clock: Clock

    def step(self, output):
        self.index += 1
        self.shape = output.shape
        self.clock.sleep(0.1)


def test_the_clock_tells_the_model_from_the_rest(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(bench, "time", clock)
    pipeline = bench.token_pipeline(SMALL, "HaltonDecoder", "cpu")
    pipeline.model.blocks[0].register_forward_hook(lambda *_: clock.sleep(0.1))
    peer = Sleeper(2, 64, 3, 0.5, "cpu")
    peer.clock = clock
    whole, transformer, published = bench.decode(pipeline, SMALL, 3, "cpu", peer)
    assert 0.3 <= transformer < whole
    assert whole - transformer < 0.1  # the sleeps of neither side
    assert 0.3 <= published < 0.4
    assert peer.index == 3 and peer.shape == (4, 64, 513)  # both halves of guidance
    assert not pipeline.model._forward_hooks and not pipeline.model._forward_pre_hooks


@pytest.mark.parametrize("decoder", bench.DECODERS)
def test_splits_and_their_table(decoder, capsys):
    row = bench.split_step(SMALL, decoder, 4, "cpu", 0.01)
    assert row.tokens == "64 of 512" and row.transformer > row.bookkeeping > 0
    assert row.share == row.bookkeeping / (row.transformer + row.bookkeeping)
    assert row.published > 0 and 0 < row.published_share < 1
    bench.print_splits([row], "cpu")
    printed = capsys.readouterr().out
    assert f"{row.share:.1%}" in printed and decoder.removesuffix("Decoder") in printed


def test_whole_pictures_of_tokens():
    row = bench.masked("ConfidenceDecoder", 2, "cpu", 0.01)
    assert (row.steps, row.batch) == (2, bench.BATCH) and row.images_per_second > 0


def test_speeds_beside_the_first_row(capsys):
    rows = [
        bench.Speed("DiCo-nano", "Euler", 50, 16, 2.0, 0.5),
        bench.Speed("MaskGIT-nano", "HaltonDecoder", 8, 16, 25.0, 0.4),
    ]
    bench.print_speeds(rows, "cpu")
    printed = capsys.readouterr().out
    assert "25.00" in printed and "12.5x" in printed and "1.0x" in printed


@pytest.mark.parametrize("sampler", PUBLISHED.values())
def test_published_samplers_decide_every_token(sampler):
    # One token is certain at each place: with labels alone it would be another.
    certain = torch.randint(20, (3, 36), generator=torch.Generator().manual_seed(0))
    conditional = 100 * torch.nn.functional.one_hot(certain, 21).float()
    unconditional = 290 * torch.nn.functional.one_hot((certain + 1) % 20, 21).float()
    given = torch.cat([conditional + unconditional, unconditional])
    decoding = sampler(3, 36, 5, 3.0, "cpu")
    decoding.code.fill_(-1)
    decided = []
    for _ in range(5):
        decoding.step(given)
        decided.append((decoding.code >= 0).sum(dim=1).tolist())
    assert [set(counts) for counts in decided] == [{n} for n in decoding.counts[1:]]
    if sampler is PublishedHalton:  # guided alike in every step
        assert torch.equal(decoding.code, certain)
    else:
        assert sampler is PublishedConfidence and not decoding.masked_tokens.any()


def test_the_command(monkeypatch, capsys):
    monkeypatch.setattr(bench, "STEPS", ())
    monkeypatch.setattr(bench, "DIFFUSION_STEPS", 1)
    monkeypatch.setattr(bench, "SPLIT_SIZES", ())  # one process: each takes seconds to start
    with pytest.raises(SystemExit) as ended:
        main(["bench", "masked", "--seconds", "0.01"])
    assert not ended.value.code
    printed = capsys.readouterr().out
    for word in ("DiCo-nano", "images/s", "bookkeeping", "published", "threads"):
        assert word in printed
