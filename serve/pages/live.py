"""The box that shows a running job: pictures so far, a bar and a line of text, as HTML."""

import base64
import html
import math

from gensynth_serve.queue.jobs import (
    Done,
    Failed,
    Job,
    Made,
    News,
    Preview,
    Queued,
    Stopped,
    Warned,
)

IDLE = "Press Generate."


class LiveBox:
    """Turns the news of a job into the HTML of the box. Its height never changes (style.py)."""

    def __init__(self, job: Job):
        self.job = job
        self.jpegs: dict[int, bytes] = {}  # the latest of each picture
        self.made = 0
        self.share = 0.0  # of the latest preview, since other news has none
        self.warning = ""

    def show(self, news: News) -> str:
        """The box after a piece of news."""
        match news:
            case Queued():
                return self._box(f"queued {news.place} of {news.waiting}")
            case Warned():
                self.warning = "Warning: " + " ".join(news.sentences)
                return self._box("starting")
            case Preview():
                self.jpegs.update(enumerate(news.jpegs, news.first))
                self.share = news.share
                return self._box(self._step(news), news.step)
            case Made():
                self.jpegs[news.index] = news.jpeg
                self.made += 1
                return self._box(f"stored {self.made} of {self.job.order.num}")
            case Done():
                self.share = 1.0
                return self._box(f"done in {news.seconds:.1f} s, {seeds(self.job)}")
            case Stopped():
                kept = f"{self.made} of {self.job.order.num} images finished"
                return self._box(f"stopped, {kept}")
            case Failed():
                return self._box(f"failed: {news.message}")

    def _box(self, text: str, step: int = 0) -> str:
        return box(text, self.share, self._pictures(), step, self.warning)

    def _step(self, news: Preview) -> str:
        parts = [f"step {news.step}/{news.steps}"]
        num = self.job.order.num
        if len(news.jpegs) < num:
            parts.append(f"images {news.first + 1}-{news.first + len(news.jpegs)} of {num}")
        parts.append(f"{news.rate:.1f} it/s")
        parts.append(f"{math.ceil(news.seconds_left)} s left")
        return " · ".join(parts)

    def _pictures(self) -> str:
        num = self.job.order.num
        rows = 1 if num < 4 else 2 if num <= 8 else 3  # for up to 16 pictures in a wide box
        cells = "".join(_cell(self.jpegs.get(index), index) for index in range(num))
        columns = math.ceil(num / rows)
        layout = f"--columns:{columns};--rows:{rows};--square:{math.ceil(math.sqrt(num))}"
        return f'<div class="pictures" style="{layout}">{cells}</div>'


def box(text: str, share: float = 0.0, pictures: str = "", step: int = 0, warning: str = "") -> str:
    """The HTML of the box, with the bar at `share` of its length."""
    pictures = pictures or '<div class="pictures"></div>'
    warned = f'<p class="warning" role="alert">{html.escape(warning)}</p>' if warning else ""
    return (
        f'<div class="live" data-step="{step}">{pictures}'
        f'<progress aria-label="progress" max="1" value="{share:.3f}"></progress>'
        f'<p class="status" role="status">{html.escape(text)}</p>{warned}</div>'
    )


def seeds(job: Job) -> str:
    """The seeds of a job in words."""
    first, num = job.order.seed, job.order.num
    return f"seed {first}" if num == 1 else f"seeds {first}-{first + num - 1}"


def _cell(jpeg: bytes | None, index: int) -> str:
    if jpeg is None:
        return "<span></span>"
    data = base64.b64encode(jpeg).decode("ascii")
    return f'<img alt="image {index + 1}" src="data:image/jpeg;base64,{data}">'
