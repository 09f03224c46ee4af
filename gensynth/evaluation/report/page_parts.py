"""What the page is built of: HTML without scripts and without anything to fetch."""

import base64
import io
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape

from matplotlib.figure import Figure
from PIL import Image

from gensynth.evaluation.report.figures import drawn

STYLE = """
:root { color-scheme: light dark; --cell: 96px;
  --ground: #ffffff; --ink: #1b1f23; --soft: #57606a; --line: #d5d9de; --card: #f5f6f8;
  --link: #0b57a4; --warn: #fff3cd; --warn-ink: #5a4300; }
@media (prefers-color-scheme: dark) { :root {
  --ground: #14171a; --ink: #e6e8ea; --soft: #a8b0b9; --line: #3a4148; --card: #1e2328;
  --link: #8ab8f0; --warn: #3b3010; --warn-ink: #ffe6a0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1rem 3rem; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.25rem 0 .4rem; }
p, ul { margin: .4rem 0 .8rem; max-width: 46rem; }
ul { padding-left: 1.2rem; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin-top: 1rem; font-size: .9rem; }
a { color: var(--link); }
.warning { background: var(--warn); color: var(--warn-ink); padding: .5rem .8rem;
  border-left: 4px solid currentColor; border-radius: 4px; }
.soft { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 600; }
th small { display: block; font-weight: 400; color: var(--soft); }
.numbers td, .numbers thead th:not(:first-child) { text-align: right; white-space: nowrap; }
.numbers tbody th { min-width: 11rem; width: 45%; }
.facts { font-size: .9rem; }
.facts th { width: 9.5rem; font-weight: 400; color: var(--soft); }
.groups { columns: 2 26rem; column-gap: 2.5rem; }
.groups > div { break-inside: avoid; display: flow-root; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; }
.figures img { display: block; max-width: 100%; height: auto; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, var(--cell)); gap: .5rem; }
.tile { margin: 0; width: var(--cell); font-size: .75rem; line-height: 1.3; color: var(--soft); }
.tile img { display: block; width: var(--cell); height: var(--cell); object-fit: contain;
  background: var(--card); border-radius: 3px; }
.tile figcaption span { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2;
  overflow: hidden; }
.tile img.small { image-rendering: pixelated; }
.rows { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26.5rem), 1fr));
  gap: .75rem; }
.pairs { display: flex; flex-wrap: wrap; gap: .75rem; }
.pair { display: flex; gap: .5rem; background: var(--card); padding: .6rem; border-radius: 6px; }
.pair .tile:first-child { margin-right: .75rem; }
pre { background: var(--card); padding: .8rem; border-radius: 6px; white-space: pre-wrap;
  font-size: .875rem; margin: 0; }
@media (max-width: 480px) { :root { --cell: 80px; } .facts th { width: 7.5rem; }
  .pair { padding: .4rem 0; background: none; } .pair .tile:first-child { margin: 0; }
  .numbers { font-size: .8rem; } .numbers tbody th { min-width: 7rem; width: auto; }
  th, td { padding-right: .4rem; }
  h1 { font-size: 1.4rem; } }
@media print { :root { color-scheme: light; --cell: 72px; --ground: #fff; --ink: #000;
  --soft: #444; --line: #bbb; --card: #f3f3f3; --warn: #fff; --warn-ink: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; } .figures { gap: 0; } h2, h3 { break-after: avoid; }
  .tile, .pair, tr, .figures img { break-inside: avoid; } .wide { overflow: visible; }
  * { print-color-adjust: exact; } }
"""


def document(title: str, body: Iterable[str]) -> str:
    """A whole page."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        '<link rel="icon" href="data:,">\n'  # or browsers ask for /favicon.ico
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *body: str) -> str:
    opening = f'<section id="{anchor(title)}">\n<h2>{escape(title)}</h2>'
    return "\n".join([opening, *body, "</section>"])


def anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())


def contents(titles: Iterable[str]) -> str:
    """Links to sections."""
    links = (f'<a href="#{anchor(title)}">{escape(title)}</a>' for title in titles)
    return f'<nav aria-label="Sections">{"".join(links)}</nav>'


def bullets(texts: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def paragraph(text: str, kind: str = "") -> str:
    opening = f'<p class="{kind}">' if kind else "<p>"
    return f"{opening}{escape(text)}</p>"


def table(kind: str, header: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table whose cells are HTML; the first of a row names it."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    body = "\n".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    # It scrolls by itself where it is wider than the page; so it can be reached with the keyboard.
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f'<table class="{kind}">{head}'
        f"<tbody>{body}</tbody></table></div>"
    )


def uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def figure(draw: Callable[[], Figure], alt: str) -> str:
    """A plot for light and for dark pages."""
    light, dark = (uri(drawn(draw, theme=theme), "svg+xml") for theme in ("light", "dark"))
    return (
        '<picture><source media="screen and (prefers-color-scheme: dark)" '
        f'srcset="{dark}">'
        f'<img src="{light}" alt="{escape(alt)}"></picture>'
    )


def tile(image: Image.Image, alt: str, *captions: str) -> str:
    """A picture above lines of text; small pictures are enlarged with hard edges."""
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    small = ' class="small"' if max(image.size) <= 64 else ""  # not smoothed
    lines = "".join(f"<span>{escape(caption)}</span>" for caption in captions if caption)
    return (
        f'<figure class="tile"><img{small} src="{uri(stream.getvalue(), "png")}" '
        f'width="{image.width}" height="{image.height}" alt="{escape(alt)}">'
        f"<figcaption>{lines}</figcaption></figure>"
    )


def grid(tiles: Iterable[str]) -> str:
    return f'<div class="grid">{"".join(tiles)}</div>'
