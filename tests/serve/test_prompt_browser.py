"""The page of a model of prompts in a real browser."""

import pytest

WAIT = 60_000  # milliseconds
EVIL = "<img src=x onerror=alert(1)> and a long prompt of many words"

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser, words_server):
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("dialog", lambda dialog: (page.problems.append(dialog.message), dialog.dismiss()))
    page.goto(words_server.url, wait_until="domcontentloaded")
    page.locator("#generate").wait_for()
    yield page
    assert page.problems == []
    context.close()


def done(page):
    page.wait_for_function("document.querySelector('#live .status').innerText.startsWith('done')")


def test_a_suggestion_then_ctrl_enter(page):
    box = page.locator("#prompt textarea")
    assert box.get_attribute("rows") == "3" and not page.locator("#classes").is_visible()
    assert not page.get_by_text("All classes in turn").is_visible()
    page.locator("#suggested").get_by_text("cat face, blob").click()
    page.wait_for_function("document.querySelector('#prompt textarea').value == 'cat face, blob'")
    box.press("Control+Enter")
    done(page)
    caption = page.locator("#gallery .thumbnail-item").first
    caption.wait_for()
    assert caption.inner_text().startswith("cat face, blob · seed ")
    assert page.locator("#live .warning").count() == 0
    caption.click()
    page.wait_for_function("document.querySelector('#command textarea').value.includes('--prompt')")
    line = page.locator("#command textarea").input_value()
    assert "--prompt 'cat face, blob' --num 1 --seed " in line


def test_a_prompt_is_text_wherever_it_is_shown(page):
    page.get_by_text("More settings").click()
    page.locator("#negative").locator("input, textarea").fill("cat")
    page.locator("#prompt textarea").fill(EVIL)
    page.locator("#generate").click()
    done(page)
    warning = page.locator("#live .warning").inner_text()
    assert warning.startswith("Warning: the prompt is cut after 8 tokens; not read: ")
    picture = page.locator("#gallery .thumbnail-item").first
    picture.wait_for()
    assert picture.inner_text().startswith(EVIL)
    picture.click()
    page.wait_for_function("document.querySelector('#recipe').innerText.includes('negative')")
    assert page.locator("img[src=x]").count() == 0
