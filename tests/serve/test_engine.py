"""The engine: one job at a time, whatever happens to the others."""

import json
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image

from gensynth.errors import DeviceMemoryError, OutputError, UsageError
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.sampling.outputs import read_recipe
from gensynth_serve.queue.engine import MAX_WAITING, BusyError, Engine
from gensynth_serve.queue.jobs import Done, Failed, Made, Preview, Queued, Stopped
from gensynth_serve.queue.order import Order

ENDS = (Done, Stopped, Failed)
STEP_SECONDS = 0.05
PATIENCE = 120  # seconds until something is taken for stuck, also on a busy machine


class SlowPipeline(ClassConditionalPipeline):
    """Takes its time for each step and writes down when it was at work."""

    log: list[tuple[float, float]]
    steps_taken = 0

    def draw(self, items, seeds, settings, on_step):
        def slow_step(progress):
            time.sleep(STEP_SECONDS)
            self.steps_taken += 1
            on_step(progress)

        started = time.monotonic()
        try:
            return super().draw(items, seeds, settings, slow_step)
        finally:
            self.log.append((started, time.monotonic()))


class FailingPipeline(ClassConditionalPipeline):
    """Raises `error`, when it has one, at the first step."""

    error: BaseException | None = None

    def draw(self, items, seeds, settings, on_step):
        def step(progress):
            if self.error is not None:
                raise self.error
            on_step(progress)

        return super().draw(items, seeds, settings, step)


@pytest.fixture
def start(tmp_path):
    """Starts an engine for a pipeline."""
    engines = []

    def start_engine(pipeline):
        engines.append(Engine({"tiny": pipeline}, tmp_path))
        return engines[-1]

    yield start_engine
    assert all(engine.stop(PATIENCE) for engine in engines)


@pytest.fixture
def slow(make_pipeline):
    pipeline = make_pipeline(SlowPipeline)
    pipeline.log = []
    return pipeline


def order(**changes) -> Order:
    settings = {"labels": [8], "num": 1, "seed": 7, "steps": 3, "guidance": 2.0}
    return Order("tiny", **{**settings, **changes})


def all_news(job, timeout=PATIENCE):
    """The news of a job up to its end."""
    news = []
    while not news or not isinstance(news[-1], ENDS):
        news.append(job.news.get(timeout=timeout))
    return news


def wait_for(job, kind, timeout=PATIENCE):
    """The next piece of news of a kind."""
    while True:
        news = job.news.get(timeout=timeout)
        if isinstance(news, kind):
            return news


def test_pictures_are_stored_with_their_recipe(start, make_pipeline, tmp_path):
    job = start(make_pipeline()).submit(order(labels=["Bag", 3], num=3))
    news = all_news(job)
    made = [item for item in news if isinstance(item, Made)]
    assert isinstance(news[0], Queued)
    assert isinstance(news[-1], Done)
    assert [item.recipe["label"] for item in made] == [8, 3, 8]
    assert [item.shown for item in made] == ["Bag", "3", "Bag"]
    assert [item.recipe["seed"] for item in made] == [7, 8, 9]
    assert all(tmp_path in item.path.parents for item in made)
    recipe = read_recipe(made[0].path)
    assert recipe == made[0].recipe
    assert recipe["schema"] == 1
    assert (recipe["model"], recipe["class"]) == ("tiny", "Bag")
    assert (recipe["steps"], recipe["guidance"], recipe["size"]) == (3, 2.0, [32, 32])
    with Image.open(made[0].path) as image:
        assert json.loads(image.text["gensynth"]) == recipe


def test_class_names_do_not_leave_the_folder(start, make_pipeline, tmp_path):
    pipeline = make_pipeline()
    pipeline.classes[8] = "../../../etc/passwd\x00" + "x" * 500
    made = wait_for(start(pipeline).submit(order()), Made)
    assert made.path.parent.parent == tmp_path
    assert made.path.name.startswith("etc-passwd-")


def test_previews_are_small_jpegs_and_not_too_many(start, slow):
    started = time.monotonic()
    news = all_news(start(slow).submit(order(num=2, steps=20)))
    took = time.monotonic() - started
    previews = [item for item in news if isinstance(item, Preview)]
    assert 2 <= len(previews) <= took / 0.2 + 1
    assert [preview.step for preview in previews] == sorted({p.step for p in previews})
    assert all(jpeg[:2] == b"\xff\xd8" for preview in previews for jpeg in preview.jpegs)
    assert all(len(preview.jpegs) == 2 and 0 < preview.share <= 1 for preview in previews)


def test_same_seed_same_picture_whatever_the_batch(start, make_pipeline):
    engine = start(make_pipeline())
    together = [n for n in all_news(engine.submit(order(num=10, seed=100))) if isinstance(n, Made)]
    alone = wait_for(engine.submit(order(seed=109)), Made)
    again = wait_for(engine.submit(order(num=2, seed=108)), Made)
    assert pixels(alone.path) == pixels(together[9].path)
    assert pixels(again.path) == pixels(together[8].path)
    assert pixels(alone.path) != pixels(again.path)


def test_stop_takes_effect_within_a_step(start, slow):
    engine = start(slow)
    job = engine.submit(order(steps=250))
    wait_for(job, Preview)
    engine.cancel(job)
    steps = slow.steps_taken
    wait_for(job, Stopped)
    assert slow.steps_taken <= steps + 1


def test_stop_keeps_what_is_finished(start, slow):
    engine = start(slow)
    job = engine.submit(order(num=16, steps=5))
    made = [wait_for(job, Made) for _ in range(8)]
    engine.cancel(job)
    wait_for(job, Stopped)
    assert all(item.path.is_file() for item in made)


def test_jobs_never_overlap_even_when_stopped(start, slow):
    engine = start(slow)
    jobs = [engine.submit(order(steps=6, seed=seed)) for seed in range(5)]
    wait_for(jobs[0], Preview)
    engine.cancel(jobs[0])
    ends = [type(all_news(job)[-1]) for job in jobs]
    assert ends == [Stopped, Done, Done, Done, Done]
    assert len(slow.log) == 5
    times = sorted(slow.log)
    assert all(end <= start for (_, end), (start, _) in pairwise(times))


def test_waiting_jobs_know_their_place_and_can_leave(start, slow):
    engine = start(slow)
    running = engine.submit(order(steps=250))
    wait_for(running, Preview)
    first, second, third = (engine.submit(order()) for _ in range(3))
    assert last_of(third) == Queued(3, 3)
    engine.cancel(second)
    assert last_of(second) == Stopped()
    assert last_of(third) == Queued(2, 2)
    engine.cancel(running)
    assert [type(all_news(job)[-1]) for job in (first, third)] == [Done, Done]


def test_a_full_queue_is_refused_and_recovers(start, slow):
    engine = start(slow)
    running = engine.submit(order(steps=250))
    wait_for(running, Preview)
    waiting = [engine.submit(order()) for _ in range(MAX_WAITING)]
    with pytest.raises(BusyError, match="20 jobs are waiting"):
        engine.submit(order())
    engine.cancel(waiting.pop())
    waiting.append(engine.submit(order(steps=1)))
    for job in [running, *waiting]:
        engine.cancel(job)
    assert {type(all_news(job)[-1]) for job in [running, *waiting]} == {Stopped}


@pytest.mark.parametrize(
    ("error", "message", "exit_code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. /secret"), "Ask for at most 2", 5),
        (MemoryError(), "not enough memory", 5),
        (DeviceMemoryError("Try --batch-size 2"), "not enough memory for 4 pictures", 5),
        (UsageError("guidance must be lower."), "guidance must be lower", 2),
        (OutputError("choose another --out"), "cannot store", OutputError.exit_code),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failed_job_says_what_to_do_and_the_next_one_works(
    start, make_pipeline, error, message, exit_code
):
    pipeline = make_pipeline(FailingPipeline)
    engine = start(pipeline)
    pipeline.error = error
    failed = wait_for(engine.submit(order(num=4)), Failed)
    assert message in failed.message
    assert "--" not in failed.message
    assert "secret" not in failed.message
    assert failed.exit_code == exit_code
    pipeline.error = None
    assert isinstance(all_news(engine.submit(order()))[-1], Done)


def test_one_picture_that_is_too_large_is_told_a_size_that_fits(start, make_pipeline):
    pipeline = make_pipeline(FailingPipeline)
    engine = start(pipeline)
    pipeline.error = MemoryError()
    failed = wait_for(engine.submit(order(further={"size": [64, 96]})), Failed)
    assert "one picture of 96 x 64 pixels" in failed.message
    pipeline.error = None
    advised = json.loads(failed.message[failed.message.index("{") : -1])
    assert isinstance(all_news(engine.submit(order(further=advised)))[-1], Done)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_one_job_does_not_end_the_engine(start, make_pipeline):
    pipeline = make_pipeline(FailingPipeline)
    engine = start(pipeline)
    pipeline.error = KeyError("a secret path")
    jobs = [engine.submit(order()) for _ in range(3)]
    failed = [wait_for(job, Failed) for job in jobs]
    assert all("secret" not in item.message and item.exit_code == 1 for item in failed)
    pipeline.error = None
    assert isinstance(all_news(engine.submit(order()))[-1], Done)


def test_a_folder_that_cannot_be_written_is_reported(start, make_pipeline, tmp_path):
    engine = start(make_pipeline())
    tmp_path.rmdir()
    tmp_path.write_text("something else")
    failed = wait_for(engine.submit(order()), Failed)
    assert "cannot store the picture (file exists)" in failed.message
    assert str(tmp_path) not in failed.message
    tmp_path.unlink()  # the folder is made anew
    assert isinstance(all_news(engine.submit(order()))[-1], Done)


def test_the_oldest_pictures_are_deleted(start, make_pipeline, monkeypatch):
    monkeypatch.setattr("gensynth_serve.queue.engine.MAX_STORED", 2)
    engine = start(make_pipeline())
    made = [n for n in all_news(engine.submit(order(num=3))) if isinstance(n, Made)]
    assert [item.path.is_file() for item in made] == [False, True, True]


@pytest.mark.parametrize("label", [10, -1, "Bagg", "²", "9" * 99])
def test_unknown_classes_are_refused_before_the_queue(start, make_pipeline, label):
    with pytest.raises(UsageError, match="class"):
        start(make_pipeline()).submit(order(labels=[label]))


def test_a_guide_is_one_that_is_served(start, make_pipeline):
    engine = start(make_pipeline())
    job = engine.submit(order(further={"guide": "tiny", "guidance_interval": [0.1, 0.7]}))
    assert job.settings.guide is engine.pipelines["tiny"]
    assert wait_for(job, Made).recipe["guidance_interval"] == [0.1, 0.7]
    with pytest.raises(UsageError, match=r"no guide '../x' here\. Served: tiny"):
        engine.submit(order(further={"guide": "../x"}))


def test_pictures_grow_to_four_times_the_side(start, make_pipeline):
    engine = start(make_pipeline())
    assert wait_for(engine.submit(order(further={"size": 128})), Made).recipe["size"] == [128, 128]
    with pytest.raises(UsageError, match="128 pixels at most"):
        engine.submit(order(further={"size": [32, 136]}))


@pytest.mark.parametrize("labels", [[None], [8, None]])
def test_a_model_of_classes_is_told_one(start, make_pipeline, labels):
    with pytest.raises(UsageError, match="a class is a whole number or a name, got None"):
        start(make_pipeline()).submit(order(labels=labels))


def test_an_unknown_model_is_refused(start, make_pipeline):
    with pytest.raises(UsageError, match="Served: tiny"):
        start(make_pipeline()).submit(Order("../x", [0], 1, 0, 1, 1.0))


def test_stop_of_the_engine_ends_all_jobs_and_refuses_new_ones(start, slow):
    engine = start(slow)
    jobs = [engine.submit(order(steps=250)) for _ in range(3)]
    wait_for(jobs[0], Preview)
    assert engine.stop(PATIENCE)
    assert [type(all_news(job)[-1]) for job in jobs] == [Stopped] * 3
    with pytest.raises(BusyError, match="shutting down"):
        engine.submit(order())


def test_many_threads_may_submit_at_once(start, make_pipeline):
    engine = start(make_pipeline())
    jobs = []
    threads = [
        threading.Thread(target=lambda: jobs.append(engine.submit(order(steps=1))))
        for _ in range(MAX_WAITING)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(all_news(job)[-1]) for job in jobs] == [Done] * MAX_WAITING


def last_of(job):
    """The latest news of a job that nobody has read so far."""
    news = job.news.get(timeout=PATIENCE)
    while not job.news.empty():
        news = job.news.get()
    return news


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()
