"""The HTML of the box that shows a running job."""

from pathlib import Path

import pytest

from gensynth.sampling.generate import plan
from gensynth_serve.pages.live import LiveBox
from gensynth_serve.queue.jobs import Done, Failed, Job, Made, Preview, Queued, Stopped
from gensynth_serve.queue.order import Order


def job(num: int) -> Job:
    return Job(Order("m", [0], num, 5, 30, 2.0), None, plan([0], num, 5))


def preview(num: int, first: int = 0) -> Preview:
    return Preview(8, 30, first, [b"jpeg"] * num, share=0.25, rate=3.14, seconds_left=6.2)


@pytest.mark.parametrize(
    ("news", "text"),
    [
        (Queued(2, 3), "queued 2 of 3"),
        (preview(4), "step 8/30 · 3.1 it/s · 7 s left"),
        (Done(9.84), "done in 9.8 s, seeds 5-8"),
        (Stopped(), "stopped, 0 of 4 images finished"),
        (Failed("a <b>bad</b> thing.", 1), "failed: a &lt;b&gt;bad&lt;/b&gt; thing."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_status_line(news, text):
    assert f">{text}</p>" in LiveBox(job(4)).show(news)


def test_one_picture_has_one_seed():
    assert "done in 1.0 s, seed 5<" in LiveBox(job(1)).show(Done(1))


def test_every_picture_of_the_job_has_its_place():
    box = LiveBox(job(16))
    assert box.show(preview(8)).count("<img") == 8
    box.show(Made(0, "Bag", Path("x.png"), {}, b"done"))
    page = box.show(preview(8, first=8))
    assert page.count("<img") == 16
    assert "images 9-16 of 16" in page
    assert 'value="0.250"' in page
    assert 'data-step="8"' in page
