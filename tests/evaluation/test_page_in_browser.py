"""The page in a real browser."""

import pytest

from gensynth.evaluation.report.page import write_page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(evaluated, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_page(*evaluated, path)
    return path.as_uri()


@pytest.fixture(scope="module", params=[(1280, "light"), (390, "light"), (390, "dark")], ids=str)
def page(request, browser, address):
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.problems, page.requested = [], []
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.requested.append(request.url))
    page.goto(address, wait_until="load")
    yield page
    assert page.problems == []
    assert [url for url in page.requested if not url.startswith(("data:", address))] == []
    context.close()


def test_every_section_is_seen(page):
    headings = page.locator("h1, h2, h3")
    assert headings.count() > 10
    for number in range(headings.count()):
        headings.nth(number).scroll_into_view_if_needed()
        assert headings.nth(number).is_visible()
        assert headings.nth(number).bounding_box()["height"] > 10


def test_every_picture_is_drawn(page):
    sizes = page.evaluate(
        "[...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight, i.width])"
    )
    assert len(sizes) > 90
    assert all(complete and min(size) > 0 for complete, *size in sizes)


def test_nothing_is_wider_than_the_window(page):
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = """width => [...document.querySelectorAll('main *')]
        .filter(e => e.getBoundingClientRect().right > width + 1 && !e.closest('.wide'))
        .map(e => e.outerHTML.slice(0, 120))"""
    assert page.evaluate(wide, width) == []


def test_text_stands_out(page):
    """WCAG 2.2, 1.4.3: a contrast of 4.5 for every text."""
    lowest = page.evaluate("""() => {
        const rgb = colour => colour.match(/[\\d.]+/g).map(Number);
        const light = colour => rgb(colour).slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
        const ground = element => {
            const own = getComputedStyle(element).backgroundColor;
            return rgb(own)[3] === 0 ? ground(element.parentElement) : own;
        };
        const ratio = element => {
            const [a, b] = [getComputedStyle(element).color, ground(element)].map(light);
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        };
        const texts = [...document.querySelectorAll('main *')].filter(
            e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
        return Math.min(...texts.map(ratio));
    }""")
    assert lowest >= 4.5
