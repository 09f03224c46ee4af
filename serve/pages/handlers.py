"""What happens when something on the page is pressed. Anyone can call these directly."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import gradio as gr

from gensynth.errors import GensynthError, UsageError
from gensynth.pipelines.contract import Pipeline, Resolved
from gensynth_serve.pages.live import LiveBox
from gensynth_serve.pages.prompts import suggestions, suited, takes_prompts
from gensynth_serve.pages.restore import command, restored
from gensynth_serve.queue.engine import Engine, most_steps
from gensynth_serve.queue.jobs import Done, Failed, Job, Made, Stopped
from gensynth_serve.queue.order import MAX_IMAGES, MAX_STEPS, Order, random_seed

MAX_SETTINGS = 4096  # characters
MAX_CAPTION = 200  # characters of a prompt below its picture
CHOSEN = 7  # parts of the page that depend on the model, see `Handlers._suited`
MAX_SHOWN = 50  # pictures in the gallery of one visitor
# A visitor who left is noticed at the next yield, so there is one at least this often.
POLL_SECONDS = 2.0

History = list[tuple[str, str, dict[str, Any]]]  # path, caption, recipe; newest first


class Handlers:
    """The callbacks of the page for one engine."""

    def __init__(self, engine: Engine):
        self.engine = engine
        # Jobs by the id that a visitor's session holds, for Stop.
        self.jobs: dict[str, Job] = {}

    def generate(
        self,
        model: str,
        labels: list[int | str],
        num: float,
        seed: float,
        steps: float,
        guidance: float,
        settings: str,
        history: History,
        prompt: str | None = None,
        negative: str | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """Updates of (live box, gallery, history, last seed, job id, Stop) until the job ends."""
        seed = random_seed() if seed is None or seed == -1 else seed
        pipeline = self._pipeline(model)
        most = most_steps(pipeline) if pipeline else MAX_STEPS
        try:
            if prompt is None or (isinstance(prompt, str) and not prompt.strip()):
                prompt = "" if self._told_prompts(model) and labels in (None, []) else None
            labels = self.unchosen(model) if labels is None or labels == [] else labels
            further = with_negative(read_settings(settings), negative)
            order = Order(model, labels, num, seed, steps, guidance, further, most, prompt)
            job = self.engine.submit(order)
        except GensynthError as error:
            raise gr.Error(sentence(str(error)), print_exception=False) from error
        self.jobs[job.id] = job
        try:
            yield _update(seed=job.order.seed, job=job.id, stop=gr.Button(interactive=True))
            yield from self._relay(job, history or [])
        finally:
            self.engine.cancel(job)  # the visitor closed the page
            del self.jobs[job.id]

    def _relay(self, job: Job, history: History) -> Iterator[tuple[Any, ...]]:
        box = LiveBox(job)
        history = still_there(history)
        while True:
            try:
                news = job.news.get(timeout=POLL_SECONDS)
            except Empty:
                yield _update()
                continue
            live = box.show(news)
            match news:
                case Made():
                    caption = f"{news.shown[:MAX_CAPTION]} · seed {news.recipe['seed']}"
                    newest = (str(news.path), caption, news.recipe)
                    history = still_there([newest, *history])[:MAX_SHOWN]
                    yield _update(live=live, gallery=gallery(history), history=history)
                case Done() | Stopped() | Failed():
                    # The pictures once more: a program sees the last update only.
                    history = still_there(history)
                    pictures = [entry[:2] for entry in history]
                    stop = gr.Button(interactive=False)
                    yield _update(live=live, gallery=pictures, history=history, job="", stop=stop)
                    if isinstance(news, Failed):
                        raise gr.Error(sentence(news.message), print_exception=False)
                    return
                case _:
                    yield _update(live=live)

    def stop(self, job_id: str) -> None:
        """Cancels the visitor's running job."""
        job = self.jobs.get(job_id)
        if job is not None:
            self.engine.cancel(job)

    def choose_model(self, model: str) -> tuple[Any, ...]:
        """What `_suited` gives, for what suits a model."""
        pipeline = self._pipeline(model)
        if pipeline is None:
            return (gr.skip(),) * CHOSEN
        own = pipeline.resolve()
        first = [item for _, item in self.choices(model)[:1]]
        return self._suited(model, first, own.steps, own.guidance)

    def _suited(
        self,
        model: str,
        labels: list[Any],
        steps: int,
        guidance: float,
        prompt: str | None = None,
        negative: str | None = None,
    ) -> tuple[Any, ...]:
        """Updates of (classes, their buttons, steps, guidance), and of the boxes of prompts."""
        pipeline, choices = self.engine.pipelines[model], self.choices(model)
        most, info = most_steps(pipeline), steps_info(pipeline.resolve())
        return (
            gr.Dropdown(choices=choices, value=labels, visible=bool(choices)),
            gr.Row(visible=bool(choices)),
            gr.Slider(maximum=most, value=steps, info=info),
            gr.Slider(value=guidance, info=guidance_info(pipeline)),
            *suited(pipeline.condition, prompt, negative),
        )

    def choices(self, model: str) -> list[tuple[str, Any]]:
        """What the pictures of a model can show, as (text, item)."""
        return self.engine.pipelines[model].condition.choices()

    def unchosen(self, model: str) -> list[Any]:
        """The items drawn when none is chosen: none, unless the model offers no choice."""
        pipeline = self._pipeline(model)
        if pipeline is None or pipeline.condition.choices():
            return []
        return pipeline.condition.every()

    def all_classes(self, model: str) -> tuple[Any, ...]:
        """(classes, number of images): every class once, up to the most images of an order."""
        items = self._items(model)[:MAX_IMAGES]
        return items, len(items)

    def random_class(self, model: str) -> list[Any]:
        """One class at random."""
        return [random.choice(self._items(model))]

    def suggest(self, model: str, index: Any) -> Any:
        """The prompt of that number among those to try."""
        pipeline = self._pipeline(model)
        known = [] if pipeline is None else suggestions(pipeline.condition)
        there = type(index) is int and 0 <= index < len(known)  # events can be forged
        return known[index] if there else gr.skip()

    def _told_prompts(self, model: Any) -> bool:
        pipeline = self._pipeline(model)
        return pipeline is not None and takes_prompts(pipeline.condition)

    def _items(self, model: str) -> list[Any]:
        pipeline = self._pipeline(model)
        if pipeline is None:
            raise gr.Error("This model is not served here.", print_exception=False)
        return pipeline.condition.every()

    def _pipeline(self, model: Any) -> Pipeline | None:
        """The pipeline of this name, whatever was sent for a name."""
        return self.engine.pipelines.get(model) if isinstance(model, str) else None

    def select(self, history: History, event: gr.SelectData) -> tuple[Any, ...]:
        """(recipe, command line, last seed) of the picture that was clicked."""
        index = event.index
        if type(index) is not int or not 0 <= index < len(history or []):  # events can be forged
            return gr.skip(), gr.skip(), gr.skip()
        recipe = history[index][2]
        return json.dumps(recipe, indent=2, ensure_ascii=False), command(recipe), recipe["seed"]

    def restore(self, file: str | None, model: str) -> tuple[Any, ...]:
        """What `_suited` gives, then (images, seed, settings, model, note), of a picture."""
        if file is None:
            return *[gr.skip()] * (CHOSEN + 4), ""
        if self._pipeline(model) is None:
            model = next(iter(self.engine.pipelines))
        try:
            order, note = restored(Path(file), self.engine.pipelines, model)
        except GensynthError as error:
            return *[gr.skip()] * (CHOSEN + 4), sentence(str(error))
        further = dict(order.further)
        texts = {"prompt": order.prompt, "negative": further.pop("negative", "")}
        chosen = self._suited(order.model, order.labels, order.steps, order.guidance, **texts)
        settings = json.dumps(further, ensure_ascii=False) if further else ""
        return *chosen, order.num, order.seed, settings, order.model, note


def still_there(history: History) -> History:
    """The pictures that have not been deleted to make room for others."""
    return [entry for entry in history if Path(entry[0]).is_file()]


def read_settings(text: Any) -> dict[str, Any]:
    """The settings of a text in JSON; an empty one holds none. Programs may send them as they are.

    Raises:
        UsageError: it is not JSON, or does not hold names with values.
    """
    if isinstance(text, dict):
        return text
    if text is None or (isinstance(text, str) and not text.strip()):
        return {}
    if not isinstance(text, str):
        raise UsageError("settings are names with values, in JSON: {...}.")
    try:
        content = json.loads(text[:MAX_SETTINGS])  # a text cut off is not JSON, and refused
    except (ValueError, RecursionError) as error:  # deep nesting
        raise UsageError('settings are JSON, such as {"scheduler": "FlowODEScheduler"}.') from error
    if not isinstance(content, dict):
        raise UsageError("settings are names with values, in JSON: {...}.")
    return content


def with_negative(further: dict[str, Any], negative: Any) -> dict[str, Any]:
    """The settings with a negative prompt of its own box.

    Raises:
        UsageError: it is no text, or one of the settings too.
    """
    if negative in (None, ""):
        return further
    if not isinstance(negative, str):
        raise UsageError(f"the negative prompt is a text, got {str(negative)[:40]}.")
    if "negative" in further:
        raise UsageError("there are two negative prompts; take the one in the settings away.")
    return {**further, "negative": negative}


def steps_info(own: Resolved) -> str:
    """What the steps slider does, and what suits a pipeline with these settings of its own."""
    return f"More take longer and show more detail. This model: {own.steps}."


def guidance_info(pipeline: Pipeline) -> str:
    """What the guidance slider does, and what suits a pipeline."""
    own = pipeline.resolve().guidance
    if not pipeline.condition.has_none:
        return f"This model: {own:g}; another value needs a guide among the settings in JSON."
    return f"Higher is more typical, less varied; 1 is none. This model: {own:g}."


def gallery(history: History) -> Any:
    """The gallery with these pictures and none of them opened."""
    return gr.Gallery(value=[entry[:2] for entry in history], selected_index=None)


def sentence(message: str) -> str:
    """A message with a capital at the start."""
    return message[:1].upper() + message[1:]


def _update(
    live: Any = None,
    gallery: Any = None,
    history: Any = None,
    seed: Any = None,
    job: Any = None,
    stop: Any = None,
) -> tuple[Any, ...]:
    updates = (live, gallery, history, seed, job, stop)
    return tuple(gr.skip() if update is None else update for update in updates)
