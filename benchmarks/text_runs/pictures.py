"""One picture of all rows: the same prompts, the same seeds, nothing selected."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PROMPTS = 8
GAP, ZOOM, MARGIN, HEAD = 4, 2, 150, 52  # pixels; MARGIN for names of rows, HEAD for prompts
LETTERS, LINES = 20, 3  # of a prompt over its column


def shown(count: int) -> list[int]:
    """Which of `count` pictures are shown: evenly spread, in their order."""
    return list(range(0, count, max(1, count // PROMPTS)))[:PROMPTS]


def strip(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size side by side."""
    width, height = pictures[0].size
    sheet = Image.new("RGB", (width * len(pictures), height), "white")
    for column, one in enumerate(pictures):
        sheet.paste(one, (column * width, 0))
    return sheet


def sheet(strips: Mapping[str, Image.Image], prompts: Sequence[str]) -> Image.Image:
    """A row for each name with what it drew, side by side, for prompts that stand above."""
    side = next(iter(strips.values())).height
    step = side * ZOOM + GAP
    found = Image.new("RGB", (MARGIN + step * len(prompts), HEAD + step * len(strips)), "white")
    draw, font = ImageDraw.Draw(found), ImageFont.load_default(12)
    for column, prompt in enumerate(prompts):
        lines = textwrap.wrap(prompt, LETTERS, max_lines=LINES, placeholder="…")
        middle = MARGIN + column * step + side * ZOOM // 2
        draw.multiline_text(
            (middle, HEAD - GAP), "\n".join(lines), "black", font, anchor="md", align="center"
        )
    for row, (name, pictures) in enumerate(strips.items()):
        top = HEAD + row * step
        draw.text((6, top + side * ZOOM // 2), name, "black", font, anchor="lm")
        for column in range(len(prompts)):
            one = pictures.crop((column * side, 0, (column + 1) * side, side))
            one = one.resize((side * ZOOM, side * ZOOM), Image.Resampling.BICUBIC)
            found.paste(one, (MARGIN + column * step, top))
    return found


def write_sheet_of(files: Mapping[str, Path], prompts: Sequence[str], path: Path) -> None:
    """Writes the sheet of strips that are files."""
    strips = {}
    for title, file in files.items():
        with Image.open(file) as opened:
            strips[title] = opened.convert("RGB")
    sheet(strips, prompts).save(path)
