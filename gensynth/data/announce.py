"""What is said before a run or an encoding begins: what was read, and what may surprise."""

import sys
from collections.abc import Iterator
from statistics import median

import numpy as np
from PIL.Image import Image

from gensynth.config import Data
from gensynth.data.colour import flatten, is_grey
from gensynth.data.images import UNREADABLE, open_frame
from gensynth.data.sources import Source
from gensynth.processes import processes

LOOKED_AT = 8  # pictures, evenly spread over the data
COLOURED = 24  # levels between channels, above which a pixel has a colour
ENLARGED = 2  # times, from which on it is said


def announced(source: Source, data: Data) -> Source:
    """The source, after the main process has said on stderr what it holds."""
    if processes().is_main_process:
        print(f"data: {source.summary}", file=sys.stderr, flush=True)
        for warning in surprises(source, data):
            print(f"warning: {warning}", file=sys.stderr, flush=True)
    return source


def surprises(source: Source, data: Data) -> Iterator[str]:
    """What a look at some pictures tells about settings that hardly anybody wants."""
    if source.streamed or data.source == "encoded":
        return
    pictures = list(_some_pictures(source, data))
    if not pictures:
        return
    if data.channels == 1 and any(map(in_colour, pictures)):
        yield (
            "the pictures are in colour and are trained on in grey, since data.channels is 1; set "
            "data.channels=3 to keep their colours."
        )
    # cropped to their short side, or padded around their long side
    side = round(median((min if data.fit == "crop" else max)(image.size) for image in pictures))
    if side * ENLARGED <= data.size:
        done = "enlarged" if data.fit == "crop" else "surrounded with black"
        yield (
            f"the pictures have about {side} pixels a side and are {done} to data.size "
            f"{data.size}, which shows nothing more; set data.size to about {side}, or give larger "
            "pictures."
        )


def in_colour(image: Image) -> bool:
    """Whether a picture shows colours, and not only levels of grey in three channels."""
    if is_grey(image):
        return False
    small = flatten(image)
    small.thumbnail((64, 64))
    pixels = np.asarray(small.convert("RGB")).astype(int)
    return bool((pixels.max(-1) - pixels.min(-1)).max() > COLOURED)


def _some_pictures(source: Source, data: Data) -> Iterator[Image]:
    count = len(source.rows)
    for number in sorted({at * count // LOOKED_AT for at in range(LOOKED_AT)}):
        image = source.rows[number]["image"] or {}
        try:
            yield open_frame(image.get("bytes") or image.get("path") or b"", data.exif_rotate)
        except UNREADABLE:
            continue  # counted when it is trained on
