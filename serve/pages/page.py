"""The widgets of the page and what each is connected to."""

from dataclasses import dataclass
from html import escape

import gradio as gr

from gensynth.pipelines.contract import Pipeline
from gensynth.settings import known_settings
from gensynth_serve.pages.blocks import Page
from gensynth_serve.pages.handlers import Handlers, guidance_info, steps_info
from gensynth_serve.pages.live import IDLE, box
from gensynth_serve.pages.prompts import (
    KEYS,
    PromptBoxes,
    negative_box,
    prompt_boxes,
    takes_prompts,
)
from gensynth_serve.pages.style import PIXELATED_UP_TO
from gensynth_serve.queue.engine import Engine, most_steps
from gensynth_serve.queue.order import MAX_GUIDANCE, MAX_IMAGES, MAX_SEED, MIN_GUIDANCE

# Settings without a place of their own.
OTHERS = [name for name in known_settings() if name not in ("steps", "guidance", "negative")]
# More than the engine's queue holds, so that the engine is the one to say that it is full.
MAX_HANDLERS = 24
SHOW_RESULTS = """() => {
  document.getElementById("live").scrollIntoView({block: "nearest"});
}"""
DELETE_UPLOADS = (600, 86_400)  # seconds: how often, and how old


@dataclass
class Inputs:
    """The left column."""

    model: gr.Dropdown
    words: PromptBoxes
    labels: gr.Dropdown
    of_classes: gr.Row
    all_classes: gr.Button
    random_class: gr.Button
    num: gr.Slider
    seed: gr.Number
    random_seed: gr.Button
    reuse_seed: gr.Button
    steps: gr.Slider
    guidance: gr.Slider
    settings: gr.Textbox
    generate: gr.Button
    stop: gr.Button
    file: gr.File
    note: gr.Textbox


@dataclass
class Outputs:
    """The right column."""

    live: gr.HTML
    gallery: gr.Gallery
    recipe: gr.Code
    command: gr.Textbox


def build(engine: Engine) -> gr.Blocks:
    """The page for the models of an engine."""
    handlers = Handlers(engine)
    small = max(max(p.resolve().size) for p in engine.pipelines.values()) <= PIXELATED_UP_TO
    with Page(title="gensynth", analytics_enabled=False, delete_cache=DELETE_UPLOADS) as page:
        gr.HTML(_heading(engine), elem_id="title")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                inputs = _inputs(handlers)
            with gr.Column(scale=3, min_width=320):
                outputs = _outputs(["small-pictures"] if small else [])
        _connect(handlers, inputs, outputs)
        page.load(None, js=KEYS)
        page.optional = [inputs.words.prompt, inputs.words.negative]
    # Without `api_open=False` a plain POST goes around the queue and its limits.
    page.queue(max_size=40, api_open=False, default_concurrency_limit=8)
    # Seconds between two looks for work: every millisecond took 7 % of a processor from the start.
    page._queue.sleep_when_free = 0.02
    return page


def _heading(engine: Engine) -> str:
    about = ", ".join(engine.pipelines)
    if len(engine.pipelines) == 1:
        pipeline = engine.pipelines[about]
        height, width = pipeline.resolve().size
        choices = len(pipeline.condition.choices())
        about += f" · {choices} classes" if choices else ""
        about += " · prompts" if takes_prompts(pipeline.condition) else ""
        about += f" · {width} x {height} pixels · {pipeline.device.type}"
    return f"<h1>gensynth</h1><p>{escape(about)}</p>"


def _inputs(handlers: Handlers) -> Inputs:
    first = next(iter(handlers.engine.pipelines))
    condition = handlers.engine.pipelines[first].condition
    model = _model(handlers, first)
    prompt, suggested = prompt_boxes(condition)
    what = _what(handlers, first)
    which = _which()
    how = _how(handlers.engine.pipelines[first])
    with gr.Accordion("More settings", open=False):
        negative = negative_box(condition)
        settings = gr.Textbox(
            "",
            label="Settings in JSON",
            info=f"Any of {', '.join(OTHERS)}.",
            placeholder='{"guidance_interval": [0.1, 0.7]}',
            elem_id="settings",
        )
    with gr.Row():
        generate = gr.Button("Generate", variant="primary", min_width=120, elem_id="generate")
        stop = gr.Button("Stop", variant="stop", interactive=False, min_width=120, elem_id="stop")
    with gr.Accordion("Settings from a picture", open=False):
        file = gr.File(
            label="PNG that gensynth made", file_types=[".png"], height=150, elem_id="file"
        )
        note = gr.Textbox(
            label="Found", placeholder="Nothing yet.", interactive=False, elem_id="note"
        )
    words = PromptBoxes(prompt, suggested, negative)
    return Inputs(model, words, *what, *which, *how, settings, generate, stop, file, note)


def _model(handlers: Handlers, first: str) -> gr.Dropdown:
    names = list(handlers.engine.pipelines)
    return gr.Dropdown(
        names,
        value=first,
        label="Model",
        info="What draws.",
        visible=len(names) > 1,
        elem_id="model",
    )


def _what(handlers: Handlers, first: str) -> tuple[gr.Dropdown, gr.Row, gr.Button, gr.Button]:
    choices = handlers.choices(first)
    labels = gr.Dropdown(
        choices,
        value=[item for _, item in choices[:1]],
        visible=bool(choices),
        label="Classes",
        info="Type to search. Several are drawn in turn.",
        multiselect=True,
        allow_custom_value=True,  # names typed or sent by a program; the engine checks them
        elem_id="classes",
    )
    with gr.Row(visible=bool(choices)) as of_classes:
        all_classes = gr.Button("All classes in turn", size="sm", min_width=120)
        random_class = gr.Button("Random class", size="sm", min_width=120)
    return labels, of_classes, all_classes, random_class


def _which() -> tuple[gr.Slider, gr.Number, gr.Button, gr.Button]:
    num = gr.Slider(
        1,
        MAX_IMAGES,
        value=4,
        step=1,
        label="Images",
        info="Each has the next seed.",
        elem_id="num",
    )
    seed = gr.Number(
        -1,
        minimum=-1,
        maximum=MAX_SEED,
        label="Seed",
        info="The same seed gives the same picture; -1 is a new one each time.",
        elem_id="seed",
    )
    with gr.Row():
        random_seed = gr.Button("Random", size="sm", min_width=120)
        reuse_seed = gr.Button("Reuse", size="sm", min_width=120)
    return num, seed, random_seed, reuse_seed


def _how(pipeline: Pipeline) -> tuple[gr.Slider, gr.Slider]:
    own = pipeline.resolve()
    steps = gr.Slider(
        1,
        most_steps(pipeline),
        value=own.steps,
        step=1,
        label="Steps",
        info=steps_info(own),
        elem_id="steps",
    )
    guidance = gr.Slider(
        MIN_GUIDANCE,
        MAX_GUIDANCE,
        value=own.guidance,
        step=0.1,
        label="Guidance",
        info=guidance_info(pipeline),
        elem_id="guidance",
    )
    return steps, guidance


def _outputs(classes: list[str]) -> Outputs:
    return Outputs(
        live=gr.HTML(box(IDLE), elem_id="live", elem_classes=classes, container=True),
        gallery=gr.Gallery(
            label="Pictures, newest first",
            elem_id="gallery",
            elem_classes=classes,
            columns=4,
            height=420,
            object_fit="contain",
            interactive=False,
            buttons=["download", "download_all", "fullscreen"],
        ),
        recipe=gr.Code(
            label="Recipe: click a picture",
            language="json",
            interactive=False,
            wrap_lines=True,
            elem_id="recipe",
        ),
        command=gr.Textbox(
            label="Draw it again on the command line",
            placeholder="Click a picture.",
            interactive=False,
            lines=2,
            buttons=["copy"],
            elem_id="command",
        ),
    )


def _connect(handlers: Handlers, i: Inputs, o: Outputs) -> None:
    history = gr.State([])  # each visitor's own
    last_seed = gr.State(-1)
    job_id = gr.State("")
    i.generate.click(
        handlers.generate,
        [
            *(i.model, i.labels, i.num, i.seed, i.steps, i.guidance, i.settings, history),
            *(i.words.prompt, i.words.negative),
        ],
        [o.live, o.gallery, history, last_seed, job_id, i.stop],
        api_name="generate",
        preprocess=False,  # the order checks each value and says what is wrong with it
        concurrency_limit=MAX_HANDLERS,
        show_progress="hidden",
        trigger_mode="once",
    )
    # On a phone the results are far below the button.
    i.generate.click(None, js=SHOW_RESULTS)
    chosen = [
        i.labels,
        i.of_classes,
        i.steps,
        i.guidance,
        *i.words.all(),
    ]  # what depends on the model
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    i.stop.click(handlers.stop, job_id, None, queue=False, **quiet)  # also while the queue is full
    o.gallery.select(handlers.select, history, [o.recipe, o.command, last_seed], **quiet)
    i.file.upload(
        handlers.restore,
        [i.file, i.model],
        [*chosen, i.num, i.seed, i.settings, i.model, i.note],
        **quiet,
    )
    # `input`, not `change`: settings that come from a picture must not be replaced by defaults.
    i.model.input(handlers.choose_model, i.model, chosen, **quiet)
    i.all_classes.click(handlers.all_classes, i.model, [i.labels, i.num], **quiet)
    i.random_class.click(handlers.random_class, i.model, i.labels, **quiet)
    suggested = i.words.suggested
    suggested.click(handlers.suggest, [i.model, suggested], i.words.prompt, **quiet)
    i.random_seed.click(lambda: -1, None, i.seed, **quiet)
    i.reuse_seed.click(lambda seed: seed, last_seed, i.seed, **quiet)
