"""Makes the pictures of the README: the grid of the bundled model, and the web page.

python tools/make_figures.py                 # docs/images/dico_nano_fashion.png
python tools/make_figures.py --web-page      # also web_page.png; needs Chromium and playwright
"""

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from gensynth import load
from gensynth.data.images import labelled_grid
from gensynth.sampling.generate import generate, plan

IMAGES = Path(__file__).parent.parent / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def grid(path: Path) -> None:
    """Ten pictures of each class, seeds 0 to 99 in turn, with the model's own settings."""
    pipeline = load()
    pictures = [image for _, image in generate(pipeline, plan(range(10), 100, 0), batch_size=50)]
    rows = {name: pictures[label::10] for label, name in enumerate(pipeline.classes)}
    labelled_grid(rows).save(path)
    print(path)


def web_page(path: Path) -> None:
    """A screenshot of the page after it drew eight pictures."""
    from playwright.sync_api import expect, sync_playwright

    server = subprocess.Popen(
        [sys.executable, "-m", "gensynth", "serve", "--port", "7899"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        server.stdout.readline()  # it says when it is ready
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.goto("http://127.0.0.1:7899", wait_until="domcontentloaded")
            page.get_by_role("button", name="All classes in turn").click()
            expect(page.locator("#num input[type=number]")).to_have_value("10")
            page.locator("#seed input").fill("7")
            page.locator("#generate").click()
            expect(page.locator("#live")).to_contain_text("done in", timeout=120_000)
            page.locator("#gallery img").first.wait_for()
            page.wait_for_timeout(1000)
            page.screenshot(path=path)
        print(path)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--web-page", action="store_true")
    args = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    grid(IMAGES / "dico_nano_fashion.png")
    if args.web_page:
        web_page(IMAGES / "web_page.png")


if __name__ == "__main__":
    main()
