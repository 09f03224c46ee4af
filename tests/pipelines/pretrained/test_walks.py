"""One walk at a time: of one thread, of several, and what the libraries print meanwhile."""

import threading

import numpy as np
import pytest
from transformers.utils import logging

from gensynth.errors import UsageError
from gensynth.pipelines.pretrained.quiet import quietly

HOW = {"steps": 2, "size": 64}


def drawn(pipe, **how):
    return np.asarray(pipe("a cat", [1], **HOW, **how)[0])


def test_while_one_thread_draws_another_may_ask(drawing):
    pipe, asked = drawing("sd"), []

    def ask(progress):
        other = threading.Thread(target=lambda: asked.append(pipe.resolve().settings.scheduler))
        other.start()
        other.join(30)

    drawn(pipe, scheduler="DDIMScheduler", on_step=ask)
    assert asked == ["PNDMScheduler"] * 2


def test_drawing_within_a_step_is_refused_and_leaves_the_pipeline_as_it_was(drawing, made):
    pipe, own = drawing("sd"), made("sd").scheduler
    before = drawn(pipe)
    with pytest.raises(UsageError, match="one batch at a time; draw the next one after it"):
        drawn(pipe, on_step=lambda progress: drawn(pipe))
    assert made("sd").scheduler is own
    assert np.array_equal(drawn(pipe), before)


def test_walks_of_two_threads_follow_each_other(drawing, made):
    pipe, own = drawing("sd"), made("sd").scheduler
    names = ["DDIMScheduler", "EulerDiscreteScheduler"]
    alone = [drawn(pipe, scheduler=name) for name in names]
    found, at_work, begun = {}, threading.Event(), []

    def second():
        begun.append(pipe.resolve().settings.scheduler)
        at_work.set()
        found[1] = drawn(pipe, scheduler=names[1])

    other = threading.Thread(target=second)

    def start(progress):
        if progress.step == 1:  # the first is in the middle of its walk
            other.start()
            assert at_work.wait(30)
            other.join(0.2)
        found.setdefault("schedulers", []).append(type(made("sd").scheduler).__name__)

    found[0] = drawn(pipe, scheduler=names[0], on_step=start)
    other.join(60)
    assert found["schedulers"] == names[:1] * 2 and begun == ["PNDMScheduler"]
    assert all(np.array_equal(found[number], alone[number]) for number in range(2))
    assert made("sd").scheduler is own


def test_a_scheduler_that_is_put_in_is_the_pipelines_own(drawing, made):
    from diffusers import DDIMScheduler

    pipe, own = drawing("sd"), made("sd").scheduler
    try:
        made("sd").scheduler = DDIMScheduler.from_config(own.config)
        assert pipe.resolve().settings.scheduler == "DDIMScheduler"
        drawn(pipe)
        assert type(made("sd").scheduler) is DDIMScheduler
    finally:
        made("sd").scheduler = own


def test_quietness_of_two_threads_ends_with_the_later_one():
    before, inside, leave = logging.get_verbosity(), threading.Event(), threading.Event()

    def other():
        with quietly():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    with quietly():
        thread.start()
        assert inside.wait(30)
    assert logging.get_verbosity() == logging.ERROR  # the other is within
    leave.set()
    thread.join(30)
    assert logging.get_verbosity() == before != logging.ERROR
