"""Draws pictures of a thing that no emoji shows, hot-air balloons, each with its caption in a .txt.

    python tools/draw_balloons.py balloons --num 20

They are the example of docs/finetuning.md: flat, on white, in colours and stripes at random.
"""

import argparse
import random
from pathlib import Path

from PIL import Image, ImageDraw

CAPTION = "hot-air balloon, flat"
SIDE, FINER = 128, 4  # pixels; drawn FINER times as large, so that edges are smooth
COLOURS = ("#f8312f", "#ff822d", "#fcd53f", "#00d26a", "#0074ba", "#8d65c5", "#f9c4d2", "#26eafc")
BASKET, ROPE = "#a56953", "#636363"


def balloon(dice: random.Random) -> Image.Image:
    """RGB [SIDE, SIDE]: an envelope of stripes, ropes and a basket."""
    full = SIDE * FINER
    picture = Image.new("RGB", (full, full), "white")
    radius = round(full * dice.uniform(0.24, 0.29))
    centre, top = full // 2 + round(full * dice.uniform(-0.06, 0.06)), round(full * 0.05)
    mouth = top + round(2.45 * radius)  # where the envelope ends below
    half = radius // 4  # of the mouth and of the basket
    shape = Image.new("L", picture.size)
    pen = ImageDraw.Draw(shape)
    pen.ellipse((centre - radius, top, centre + radius, top + 2 * radius), fill=255)
    side, low = round(0.94 * radius), top + round(1.34 * radius)  # there a side leaves the circle
    corners = ((-side, low), (side, low), (half, mouth), (-half, mouth))
    pen.polygon([(centre + across, down) for across, down in corners], fill=255)
    picture.paste(stripes(dice, picture.size, centre, radius), mask=shape)
    pen = ImageDraw.Draw(picture)
    basket = mouth + round(0.25 * radius)
    for left in (-1, 1):
        pen.line((centre + left * half, mouth, centre + left * half, basket), ROPE, FINER)
    box = (centre - half, basket, centre + half, basket + round(0.42 * radius))
    pen.rounded_rectangle(box, 2 * FINER, fill=BASKET)
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def stripes(dice: random.Random, size: tuple[int, int], centre: int, radius: int) -> Image.Image:
    """Upright stripes as on a sphere: narrower towards the sides."""
    first, second = dice.sample(COLOURS, 2)
    count = dice.choice((1, 3, 5, 7))
    sheet = Image.new("RGB", size, first)
    pen = ImageDraw.Draw(sheet)
    for number in reversed(range(0, count, 2)):  # the widest first, each on the one before
        for step, colour in ((number + 1, first), (number, second)):
            if step:
                reach = round(radius * (step / count) ** 0.6)
                pen.ellipse((centre - reach, -size[1], centre + reach, 2 * size[1]), fill=colour)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--num", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    dice = random.Random(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    for number in range(args.num):
        balloon(dice).save(args.out / f"{number:02}.png")
        (args.out / f"{number:02}.txt").write_text(f"{CAPTION}\n", encoding="utf-8")
    print(f"{args.out}: {args.num} pictures")


if __name__ == "__main__":
    main()
