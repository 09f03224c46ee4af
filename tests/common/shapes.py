"""Pictures with captions such as "red disc, thin": things in two styles, some pairs held out."""

import io
from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

COLOURS, SHAPES, STYLES = ("red", "green", "blue", "orange"), ("disc", "square"), ("flat", "thin")
SIDE = 64


def write_shapes(folder: Path) -> Path:
    """`train.parquet` with 12 pictures of 64x64 and `test.parquet` with 4 others."""
    pairs = list(product(COLOURS, SHAPES, STYLES))
    held_out = pairs[1::4]
    folder.mkdir(parents=True, exist_ok=True)
    for name, some in (
        ("train", [pair for pair in pairs if pair not in held_out]),
        ("test", held_out),
    ):
        columns = {
            "image": [{"bytes": png(*pair), "path": None} for pair in some],
            "text": [f"{colour} {shape}, {style}" for colour, shape, style in some],
        }
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


def png(colour: str, shape: str, style: str) -> bytes:
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(image)
    form = draw.ellipse if shape == "disc" else draw.rectangle
    form((12, 12, 52, 52), fill=colour if style == "flat" else None, outline=colour, width=4)
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()
