"""Makes the pictures of the docs: grids of the bundled models, edits, and the web page.

python tools/make_figures.py                 # grids: docs/images/{emoji,dico_nano_fashion,...}.png
python tools/make_figures.py --held-out emoji-128/test.parquet    # also emoji_held_out.png
python tools/make_figures.py --loss RUN...   # also emoji_loss.png, of the runs that made `emoji`
python tools/make_figures.py --edits         # also docs/images/edit/, by the commands of masked.md
python tools/make_figures.py --web-page      # also web_page.png; needs Chromium and playwright
"""

import argparse
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from gensynth import load
from gensynth.config import Data
from gensynth.data.files.image_set import open_images
from gensynth.data.images import captioned_grid, decode, labelled_grid, to_pil
from gensynth.data.images import grid as beside
from gensynth.data.sources import open_source
from gensynth.files import read_json_lines
from gensynth.pretrained import DEFAULT, PRETRAINED
from gensynth.sampling.generate import generate, plan

IMAGES = Path(__file__).parent.parent / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


# Rows of the bundled test images; boxes (left, upper, right, lower) in which masks are white.
PULLOVER, SHIRT, SNEAKER = 55, 113, 61
BESIDE = 24  # held-out pairs that are shown
SLEEVE, SLEEVES = [(19, 3, 28, 28)], [(0, 3, 9, 28), (19, 3, 28, 28)]


def grid(model: str, path: Path) -> None:
    """All example prompts, or ten of each class; seeds from 0 in turn, the model's own settings."""
    pipeline = load(model)
    if pipeline.condition.reads == "texts":
        prompts = pipeline.condition.every()
        captioned_grid(list(zip(prompts, drawn(pipeline, prompts), strict=True)), 8, 1).save(path)
        print(path)
        return
    pictures = [image for _, image in generate(pipeline, plan(range(10), 100, 0), batch_size=50)]
    rows = {name: pictures[label::10] for label, name in enumerate(pipeline.classes)}
    labelled_grid(rows).save(path)
    print(path)


def drawn(pipeline: Any, prompts: Sequence[str]) -> list[Image.Image]:
    """A picture of each prompt, seeds from 0."""
    return [image for _, image in generate(pipeline, plan(prompts, len(prompts), 0))]


def held_out(model: str, file: Path, path: Path) -> None:
    """What a model draws for captions that it was not trained on, each beside the true picture.

    They are taken from the file evenly, not chosen.
    """
    pipeline, pairs = load(model), open_images(str(file))
    assert pairs.texts is not None
    shown = range(0, pairs.length, pairs.length // BESIDE)[:BESIDE]
    prompts, tiles = [pairs.texts[number] for number in shown], []
    for number, ours in zip(shown, drawn(pipeline, prompts), strict=True):
        true = to_pil(pairs.read(number)).resize(ours.size)
        tiles.append(beside([ours, true], columns=2))
    captioned_grid(list(zip(prompts, tiles, strict=True)), 4, 1).save(path)
    print(path)


def edits(folder: Path) -> None:
    """The images and masks that masked.md edits, and what its commands make of them."""
    rows = open_source(Data(split="test", channels=1)).rows
    folder.mkdir(exist_ok=True)
    for name, row in (("pullover", PULLOVER), ("tshirt", SHIRT), ("sneaker", SNEAKER)):
        image = decode(rows[row]["image"]["bytes"], channels=1)
        if name == "sneaker":
            name, image = "half_sneaker", image.crop((0, 0, 14, 28))
        image.save(folder / f"{name}.png")
    for name, boxes in (("sleeve", SLEEVE), ("sleeves", SLEEVES)):
        mask = Image.new("L", (28, 28))
        for box in boxes:
            mask.paste(255, box)
        mask.save(folder / f"{name}_mask.png")
    text = (IMAGES.parent / "masked.md").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("    gensynth edit docs/images/edit/"):
            draw_edit(shlex.split(line), folder)


def draw_edit(command: list[str], folder: Path) -> None:
    """Runs one command of masked.md, and keeps its sheet as NAME.png where it writes to NAME."""
    name = Path(command.pop()).name
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / name
        root = IMAGES.parent.parent
        subprocess.run([sys.executable, "-m", *command, str(out)], check=True, cwd=root)
        (out / "sheet.png").replace(folder / f"{name}.png")
    print(folder / f"{name}.png")


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
            page.locator("#prompt textarea").fill("cat face, fluent")
            page.locator("#num input[type=number]").fill("8")
            page.locator("#seed input").fill("7")
            page.locator("#generate").click()
            expect(page.locator("#live")).to_contain_text("done in", timeout=120_000)
            page.locator("#gallery img").first.wait_for()
            page.evaluate("scrollTo(0, 0)")
            page.wait_for_timeout(1000)
            page.screenshot(path=path)
        print(path)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def report(path: Path) -> None:
    """A screenshot of the report on 1,000 pictures of the bundled model."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "report"
        asked = ["--model", "dico-nano-fashion", "--num", "1000"]
        asked += ["--reference", "fashion_mnist:test", "--out", str(out)]
        subprocess.run([sys.executable, "-m", "gensynth", "evaluate", *asked], check=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
            page = browser.new_page(viewport={"width": 1000, "height": 2500})
            page.goto((out / "report.html").as_uri())
            page.screenshot(path=path)
    print(path)


def loss(runs: Sequence[Path], path: Path) -> None:
    """The loss of some runs, each of which began with the weights of the one before."""
    figure = Figure(figsize=(9, 3.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    before = 0
    for run in runs:
        entries = read_json_lines(run / "log.jsonl")
        steps = [before + entry["step"] for entry in entries]
        axes.plot(steps, [entry["loss"] for entry in entries], label=run.name)
        before = steps[-1]
    axes.set(xlabel="step", ylabel="loss (each run has its own times)", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path)
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--held-out", type=Path, metavar="FILE", help="of build_emoji.py")
    parser.add_argument("--loss", type=Path, nargs="+", metavar="RUN", help="in their order")
    parser.add_argument("--edits", action="store_true")
    parser.add_argument("--web-page", action="store_true")
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    for model, folder in PRETRAINED.items():
        grid(model, IMAGES / f"{folder.name}.png")
    if args.held_out:
        held_out(DEFAULT, args.held_out, IMAGES / "emoji_held_out.png")
    if args.loss:
        loss(args.loss, IMAGES / "emoji_loss.png")
    if args.edits:
        edits(IMAGES / "edit")
    if args.report:
        report(IMAGES / "evaluation_report.png")
    if args.web_page:
        web_page(IMAGES / "web_page.png")


if __name__ == "__main__":
    main()
