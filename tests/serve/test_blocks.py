"""What the page adds to Gradio's Blocks."""

import asyncio

import gradio as gr
import pytest

from gensynth_serve.pages.blocks import UNCHANGED, as_text
from gensynth_serve.pages.page import build
from gensynth_serve.queue.engine import Engine


@pytest.fixture(scope="module")
def page(make_pipeline, tmp_path_factory):
    engine = Engine({"tiny": make_pipeline()}, tmp_path_factory.mktemp("pictures"))
    yield build(engine)
    assert engine.stop(30)


def function(page, name):
    return next(fn for fn in page.fns.values() if fn.api_name == name)


def post(page, predictions):
    generate = function(page, "generate")
    return asyncio.run(page.postprocess_data(generate, predictions, None))


def test_an_update_of_nothing_makes_no_component(page, monkeypatch):
    """Twenty-four waiting visitors ask for one each, every few seconds."""
    made = []
    for kind in (gr.HTML, gr.Gallery, gr.Button):
        monkeypatch.setattr(kind, "__init__", lambda self, **_: made.append(type(self)))
    data = post(page, (UNCHANGED,) * 6)
    # HTML, gallery, three states, button: as Gradio answers it
    assert data == [UNCHANGED, UNCHANGED, None, None, None, UNCHANGED]
    assert made == []


def test_what_changes_is_updated_and_nothing_else(page, monkeypatch):
    monkeypatch.setattr(gr.Gallery, "__init__", lambda *_, **__: pytest.fail("made anew"))
    live, *rest, stop = post(page, ("<p>x</p>", *(UNCHANGED,) * 4, gr.Button(interactive=False)))
    assert live == "<p>x</p>"
    assert rest == [UNCHANGED, None, None, None]
    assert (stop["interactive"], stop["__type__"]) == (False, "update")


def test_one_change_alone(page):
    data = post(page, (*(UNCHANGED,) * 4, "job", UNCHANGED))
    assert data == [UNCHANGED, UNCHANGED, None, None, None, UNCHANGED]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)>"),
        ("a </b> <!-- <?x ", "a &lt;/b> &lt;!-- &lt;?x "),
        ("&lt;b>", "&amp;lt;b>"),
        ("&#60;b>", "&amp;#60;b>"),
        ("0 <= low < high <= 1 & 'so'", "0 <= low < high <= 1 & 'so'"),
    ],
)
def test_text_of_an_error_is_no_html_and_readable(message, shown):
    assert as_text(message) == shown


def call(page, name, inputs):
    fn = function(page, name)
    return asyncio.run(page.process_api(fn, inputs, state=None))


@pytest.mark.parametrize(
    ("name", "inputs", "words"),
    [
        ("generate", [], "generate takes 9 values (Model, Classes, Images, Seed, Steps"),
        ("generate", ["tiny", [0], 1, 5, 1, 1.0], "what came does not fit: 6 values"),
        ("restore", [{"path": "/etc/passwd"}, "tiny"], "restore takes 2 values (PNG that"),
        ("restore", [7, "tiny"], "restore takes 2 values"),
        ("choose_model", ["<b>x</b>"], "&lt;b>x&lt;/b>"),
        ("select", ["x"], "This failed: the call is odd"),
    ],
)
def test_odd_calls_are_answered_in_words(page, name, inputs, words):
    page.limiter = None
    with pytest.raises(gr.Error) as caught:
        call(page, name, inputs)
    assert words in caught.value.message
    assert "/etc" not in caught.value.message


def test_deleted_pictures_are_not_handed_out(tmp_path):
    from gensynth_serve.pages.handlers import still_there

    kept = tmp_path / "kept.png"
    kept.write_bytes(b"x")
    entry = (str(kept), "Bag", {"seed": 1})
    assert still_there([(str(tmp_path / "gone.png"), "Cat", {}), entry]) == [entry]


def test_class_names_of_a_model_are_text_everywhere(page):
    import json

    html = [block.value for block in page.blocks.values() if isinstance(block, gr.HTML)]
    assert not [text for text in html if "<b>Six" in text]
    infos = json.dumps([getattr(b, "info", None) for b in page.blocks.values()])  # Markdown
    assert "Six" not in infos
