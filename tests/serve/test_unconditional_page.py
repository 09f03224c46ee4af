"""A model that draws without classes has no buttons and no words about them."""

import asyncio
import re

import gradio as gr
import pytest

from gensynth.conditions import Nothing
from gensynth_serve.pages.page import build
from gensynth_serve.queue.engine import Engine


@pytest.fixture(scope="module")
def page(make_pipeline, tmp_path_factory):
    free, classes = make_pipeline(), make_pipeline()
    free.condition = Nothing()
    free.register_to_config(guidance=1.0)
    engine = Engine({"free": free, "named": classes}, tmp_path_factory.mktemp("pictures"))
    yield build(engine)
    assert engine.stop(30)


def seen(page):
    """What a visitor reads: the words of every block that neither it nor one around it hides."""
    words = []

    def walk(branch, shown):
        block = page.blocks[branch["id"]]
        shown = shown and getattr(block, "visible", True) is not False
        if shown:
            names = ("value", "label", "info", "placeholder")
            words.extend(str(getattr(block, name, "")) for name in names)
        for child in branch.get("children") or []:
            walk(child, shown)

    for branch in page.get_config_file()["layout"]["children"]:
        walk(branch, True)
    return re.sub(r"<[^>]*>", "", "\n".join(words))


def test_nothing_is_said_of_classes(page):
    words = seen(page)
    assert [line for line in words.splitlines() if "class" in line.lower()] == []
    assert "Press Generate." in words and "needs a guide" in words


@pytest.mark.parametrize(("model", "shown"), [("named", True), ("free", False)])
def test_the_buttons_come_and_go_with_the_model(page, model, shown):
    fn = next(fn for fn in page.fns.values() if fn.api_name == "choose_model")
    outputs = {id(block): place for place, block in enumerate(fn.outputs)}
    data = asyncio.run(page.process_api(fn, [model], state=None))["data"]
    rows = [b for b in page.blocks.values() if isinstance(b, gr.Row) and id(b) in outputs]
    buttons = {child.value for row in rows for child in row.children}
    assert buttons == {"All classes in turn", "Random class"}
    for block in [*rows, next(b for b in fn.outputs if getattr(b, "label", "") == "Classes")]:
        update = data[outputs[id(block)]]
        assert (update["visible"], update["__type__"]) == (shown, "update")
