"""The page in a real browser."""

import json
import re

import pytest

from gensynth.sampling.outputs import read_recipe

WAIT = 30_000  # milliseconds

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser, server):
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.requested = []
    page.problems = []
    page.on("request", lambda request: page.requested.append(request.url))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("response", lambda answer: answer.status < 400 or page.problems.append(answer.url))
    page.goto(server.url, wait_until="domcontentloaded")
    page.locator("#generate").wait_for()
    yield page
    ours = (server.url, "data:", "blob:")
    assert [url for url in page.requested if not url.startswith(ours)] == []
    assert page.problems == []
    context.close()


def put(page, name, value):
    """Types a number into a slider or number box."""
    box = page.locator(f"#{name} input[type=number]")
    box.fill(str(value))
    box.press("Tab")


def status(page, pattern):
    """Waits for a status line."""
    found = page.wait_for_function(
        "pattern => document.querySelector('#live .status').innerText.match(pattern)?.input",
        arg=pattern,
        timeout=WAIT,
    )
    return found.json_value()  # as it was then: it goes on changing


def test_generate_stop_and_recipe(page, tmp_path):
    put(page, "num", 16)
    put(page, "seed", 5)
    put(page, "steps", 250)
    page.get_by_text("More settings").click()
    settings = page.locator("#settings textarea")
    settings.fill('{"size": [96, 96]}')  # long enough to be watched and stopped by a slow browser
    assert page.locator("#stop").is_disabled()
    page.locator("#generate").click()
    first = int(re.search(r"step (\d+)/250", status(page, r"step \d+/250"))[1])
    status(page, rf"step (?!{first}/)\d+/250 · .*\d+\.\d it/s · \d+ s left")
    assert page.locator("#live .pictures img").count() >= 8
    page.locator("#stop").click()
    status(page, "^stopped")
    assert page.locator("#stop").is_disabled()

    put(page, "num", 2)
    put(page, "steps", 3)
    settings.fill("")
    page.locator("#generate").click()
    assert re.fullmatch(r"done in \d+\.\d s, seeds 5-6", status(page, "^done"))
    thumbnails = page.locator("#gallery .thumbnail-item")
    thumbnails.nth(1).wait_for()
    assert thumbnails.nth(0).inner_text().strip() == "0 · seed 6"

    thumbnails.nth(1).click()
    page.wait_for_function("document.querySelector('#command textarea').value.includes('--seed 5')")
    command = page.locator("#command textarea").input_value()
    assert command.endswith(
        "--labels index:0 --num 1 --seed 5 --steps 3 --guidance 2 --size 32x32 "
        "--scheduler FlowMatchEulerDiscreteScheduler --out DIR"
    )
    assert '"schema": 1' in page.locator("#recipe .cm-content").inner_text()
    with page.expect_download() as download:
        page.locator("#gallery").get_by_label("Download", exact=True).click()
    download.value.save_as(tmp_path / "picture.png")
    assert read_recipe(tmp_path / "picture.png")["seed"] == 5


def test_settings_come_back_from_a_picture(page, server, tmp_path, model_folder):
    from PIL import Image

    from gensynth.sampling.outputs import save_picture

    recipe = {
        "schema": 1,
        "model": model_folder.name,
        "label": 6,
        "class": "<b>Six</b>",
        "seed": 99,
        "steps": 12,
        "guidance": 3.5,
        "scheduler": "FlowMatchEulerDiscreteScheduler",
        "size": [32, 32],
    }
    save_picture(Image.new("L", (32, 32)), tmp_path / "a.png", recipe)
    (tmp_path / "garbage.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    page.get_by_text("Settings from a picture").click()
    page.locator("#file input[type=file]").set_input_files(tmp_path / "garbage.png")
    note = "document.querySelector('#note textarea').value.includes('%s')"
    page.wait_for_function(note % "not a readable PNG")
    page.get_by_label("Remove this file").or_(page.get_by_label("Clear")).first.click()
    page.locator("#file input[type=file]").set_input_files(tmp_path / "a.png")
    page.wait_for_function(note % "Restored: <b>Six</b>, seed 99")
    values = [
        page.locator(f"#{name} input[type=number]").input_value()
        for name in ("num", "seed", "steps", "guidance")
    ]
    assert values == ["1", "99", "12", "3.5"]
    assert "6 · <b>Six</b>" in page.locator("#classes").inner_text()


def test_an_error_is_a_sentence(page):
    page.locator("#classes").get_by_label("Remove").or_(
        page.locator("#classes .remove-all")
    ).first.click()
    page.locator("#generate").click()
    page.get_by_text("Choose at least one class.").first.wait_for()


def test_text_in_a_toast_is_text(page):
    page.get_by_text("More settings").click()
    odd = '<img src="/x" onerror="alert(1)"><b>bold</b>'
    page.locator("#settings textarea").fill(json.dumps({"guide": odd}))
    page.locator("#generate").click()
    toast = page.locator("[data-testid=toast-text]").first
    toast.wait_for()
    assert "<b>bold" in toast.inner_text() or "<img src=" in toast.inner_text()
    assert toast.locator("img, b").count() == 0
    assert page.locator("#live img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(browser, server, scheme):
    size = {"width": 390, "height": 844}
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.goto(server.url, wait_until="domcontentloaded")
    page.locator("#generate").click()
    status(page, "^done")
    page.locator("#gallery .thumbnail-item").first.click()
    page.wait_for_function("document.querySelector('#command textarea').value.includes('--seed')")
    wide = """[...document.querySelectorAll('.gradio-container *')]
        .filter(e => e.getBoundingClientRect().right > 391 && e.offsetParent && !e.closest('svg'))
        .map(e => e.outerHTML.slice(0, 120))"""
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    clipped = [text for text in page.evaluate(wide) if "thumbnail" not in text]
    assert clipped == []
    height = page.locator("#live").bounding_box()["height"]
    assert height == 340
    context.close()
