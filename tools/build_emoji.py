r"""Builds the emoji pictures: 1,864 things in up to five styles, with captions, as Parquet files.

    apt-get download unicode-data && dpkg-deb -x unicode-data_15.0.0-*.deb unicode
    pip install resvg_py==0.5.0
    python tools/build_emoji.py --names unicode/usr/share/unicode/emoji/emoji-test.txt \
        --size 128 --out data/emoji128

writes `train.parquet` and `test.parquet`: pairs of a thing and a style as `tools/emoji/` lists
them, in that order. The drawings come from five packages of the npm registry: from the .tgz files
in `--packages` where they are, else through `npm pack`, else, without npm, from the registry that
the environment variable `npm_config_registry` names. `--check` compares instead of writing.
`--bundle` writes what comes with gensynth: 64x64, as lossless WebP, with classes.
"""

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import unicodedata
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

ROOT = Path(__file__).parent.parent
LISTS = Path(__file__).parent / "emoji"
BUNDLED = ROOT / "gensynth" / "data" / "bundled" / "emoji"
BUNDLED_SIZE = 64
REGISTRY = "npm_config_registry"  # the variable that npm reads
SPLITS = ("train", "test")
NAMES = Path("/usr/share/unicode/emoji/emoji-test.txt")


class Package(NamedTuple):
    name: str  # behind @iconify-json/
    version: str
    sha256: str  # of the .tgz

    @property
    def file(self) -> str:
        return f"iconify-json-{self.name}-{self.version}.tgz"


# Style, package, version, SHA-256
PINNED = """
fluent fluent-emoji 1.2.7 8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b
flat fluent-emoji-flat 1.2.6 7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175
noto noto 1.2.9 3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad
blob noto-v1 1.2.5 2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37
twemoji twemoji 1.2.5 19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7
"""
PACKAGES = {style: Package(*rest) for style, *rest in map(str.split, PINNED.strip().splitlines())}
BUNDLED_STYLES = ("fluent", "flat", "blob")
LEFT_OUT = {"middle finger", "cigarette", "no smoking"}
# In names of icons. No package has an icon of the hash key under this word.
SPELT = {"&": "and", "*": "asterisk", "#": "hash"}
FLAGS = ("flag-", "flag-for-", "flag-for-flag-")  # what names of flags begin with
Thing = dict[str, str]  # name, group, subgroup, codepoints

SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        *((name, pa.string()) for name in ("text", "name", "style", "group", "subgroup")),
        ("codepoints", pa.string()),
    ]
)


# Names


def things(text: str) -> Iterator[Thing]:
    """Everything in an emoji-test.txt but skin tones and what is left out, in its order."""
    group = subgroup = ""
    for line in text.splitlines():
        if line.startswith("# group:"):
            group = line.partition(":")[2].strip()
        elif line.startswith("# subgroup:"):
            subgroup = line.partition(":")[2].strip()
        found = re.match(r"([0-9A-F ]+?) *; fully-qualified +# \S+ E[\d.]+ (.+)", line)
        if found and "skin tone" not in found[2] and found[2].strip() not in LEFT_OUT:
            codepoints, name = found[1], found[2].strip()
            yield {"name": name, "group": group, "subgroup": subgroup, "codepoints": codepoints}


def slug(name: str) -> str:
    """The name of an icon: `flag: São Tomé & Príncipe` is `flag-sao-tome-and-principe`."""
    for sign, word in SPELT.items():
        name = name.replace(sign, word)
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


# Drawings


def svg(icons: dict[str, Any], name: str) -> str | None:
    """The drawing of a thing in a package's icons.json; None if it has none."""
    wanted = slug(name)
    for start in FLAGS:
        found = re.sub(r"^flag-", start, wanted)
        mirrored = False
        while found in (aliases := icons.get("aliases", {})):
            mirrored ^= aliases[found].get("hFlip", False)
            found = aliases[found]["parent"]
        if found in icons["icons"]:
            return _document({**icons, **icons["icons"][found]}, mirrored)
    return None


def _document(icon: dict[str, Any], mirrored: bool) -> str:
    left, top, width, height = (icon.get(key, 0) for key in ("left", "top", "width", "height"))
    body = icon["body"]
    if mirrored:
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    side = max(width, height)  # what is not square is centred
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{side}" height="{side}" viewBox="{left} {top} {width} {height}">{body}</svg>'
    )


def squared(drawing: Image.Image, size: int) -> Image.Image:
    """The ink of an RGBA image in the middle of a white square, about 6 % larger than its longer
    side, and that square at `size` pixels."""
    ink = drawing.crop(drawing.getchannel("A").getbbox())
    side = int(max(ink.size) * 1.06) + 1
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return square.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)


def picture(document: str, size: int, webp: bool = False) -> bytes:
    """A drawing as the file of a picture, PNG or lossless WebP."""
    from resvg_py import svg_to_bytes  # only here: nothing else needs it

    side = max(256, 4 * size)
    drawn = svg_to_bytes(svg_string=document, width=side, height=side)
    image = squared(Image.open(io.BytesIO(bytes(drawn))).convert("RGBA"), size)
    buffer = io.BytesIO()
    if webp:
        image.save(buffer, "WEBP", lossless=True)
    else:
        image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


# Packages


def icons_of(package: Package, folder: Path) -> dict[str, Any]:
    """The icons of a package, fetched into `folder` unless they are there."""
    file = folder / package.file
    if not file.is_file():
        fetch(package, folder)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != package.sha256:
        raise SystemExit(
            f"error: {file} has the SHA-256 {found}, not {package.sha256}. Delete it and fetch "
            f"version {package.version} again."
        )
    with tarfile.open(file) as archive:
        member = archive.extractfile("package/icons.json")
        assert member is not None
        icons: dict[str, Any] = json.load(member)
    return icons


def fetch(package: Package, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    full = f"@iconify-json/{package.name}"
    if npm := shutil.which("npm"):
        command = [npm, "pack", f"{full}@{package.version}", "--silent"]
        if subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL).returncode:
            raise SystemExit(f"error: npm cannot fetch {full}; put {package.file} into {folder}.")
        return
    registry = os.environ.get(REGISTRY)
    if not registry:
        raise SystemExit(
            f"error: {package.file} is not in {folder}. Put it there, install npm, or set "
            f"{REGISTRY} to the address of a registry."
        )
    address = f"{registry.rstrip('/')}/{full}/-/{package.name}-{package.version}.tgz"
    with urllib.request.urlopen(address) as answer:
        (folder / package.file).write_bytes(answer.read())


# Tables


def split_of(name: str) -> list[str]:
    """The pairs of a split in their order, as `style/codepoints`."""
    return (LISTS / f"{name}.txt").read_text(encoding="utf-8").split()


def key(style: str, thing: Thing) -> str:
    return f"{style}/{thing['codepoints'].lower().replace(' ', '-')}"


def style_of(pair: str) -> str:
    return pair.partition("/")[0]


def joined(names: str, packages: dict[str, dict[str, Any]]) -> dict[str, tuple[Thing, str]]:
    """Every pair of a thing and a style that has a drawing of it: `style/codepoints` -> both."""
    known = list(things(names))
    drawings = {
        key(s, t): (t, svg(icons, t["name"])) for s, icons in packages.items() for t in known
    }
    return {pair: (thing, drawn) for pair, (thing, drawn) in drawings.items() if drawn is not None}


def rows_of(
    split: list[str], pairs: dict[str, tuple[Thing, str]], pool: ProcessPoolExecutor, draw: Any
) -> list[dict[str, Any]]:
    rows = []
    pictures = pool.map(draw, [pairs[pair][1] for pair in split], chunksize=32)
    for pair, data in zip(split, pictures, strict=True):
        thing, style = pairs[pair][0], style_of(pair)
        image = {"bytes": data, "path": f"{pair}.png"}
        rows.append({"image": image, "text": f"{thing['name']}, {style}", "style": style, **thing})
    return rows


def table_of(rows: list[dict[str, Any]], subgroups: list[str] | None) -> pa.Table:
    """Rows as a table; with `subgroups`, these as classes in a column `label`."""
    if subgroups is None:
        return pa.Table.from_pylist(rows, schema=SCHEMA)
    texts = {name: Value("string") for name in SCHEMA.names if name != "image"}
    classes = ClassLabel(names=subgroups)
    features = Features({"image": ImageFeature(), "label": classes, **texts})
    numbered = [{**row, "label": subgroups.index(row["subgroup"])} for row in rows]
    return pa.Table.from_pylist(numbered, schema=features.arrow_schema)


def check(file: Path, table: pa.Table) -> bool:
    """Whether a file holds the same rows, with the same pixels; says how near they are."""
    if not file.is_file():
        print(f"{file}: missing")
        return False
    there, here = pq.read_table(file), table
    described = there.drop(["image"]).equals(here.drop(["image"]))
    pairs = list(zip(there["image"].to_pylist(), here["image"].to_pylist(), strict=False))
    same = sum(a["bytes"] == b["bytes"] for a, b in pairs)
    alike = sum(a["bytes"] == b["bytes"] or pixels(a) == pixels(b) for a, b in pairs)
    print(
        f"{file}: {there.num_rows} rows, here {here.num_rows}; texts "
        f"{'identical' if described else 'DIFFERENT'}; {same} pictures the same to the byte, "
        f"{alike} to the pixel"
    )
    return described and alike == there.num_rows == here.num_rows


def pixels(image: dict[str, Any]) -> bytes:
    return Image.open(io.BytesIO(image["bytes"])).convert("RGB").tobytes()


def write(file: Path, table: pa.Table) -> None:
    pq.write_table(table, file, compression="zstd", row_group_size=1000)
    print(f"{file}: {table.num_rows} pictures, {file.stat().st_size:,} bytes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--names", type=Path, default=NAMES, help="emoji-test.txt of Unicode 15.0")
    parser.add_argument("--packages", type=Path, default=Path("emoji-packages"))
    parser.add_argument("--size", type=int, default=BUNDLED_SIZE, help="pixels")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--split", choices=SPLITS, help="one of both")
    parser.add_argument("--bundle", action="store_true", help="what comes with gensynth")
    parser.add_argument("--check", action="store_true", help="compare with the files in --out")
    args = parser.parse_args()
    out = args.out or (BUNDLED if args.bundle else Path("data") / f"emoji{args.size}")
    if not args.names.is_file():
        parser.error(f"{args.names} is missing: apt-get download unicode-data, and set --names.")
    packages = {style: icons_of(package, args.packages) for style, package in PACKAGES.items()}
    pairs = joined(args.names.read_text(encoding="utf-8"), packages)
    splits = {name: split_of(name) for name in SPLITS}
    if unlike := set(pairs) ^ {pair for split in splits.values() for pair in split}:
        parser.error(f"other names than those of Unicode 15.0: {', '.join(sorted(unlike)[:9])}.")
    subgroups = None
    if args.bundle:
        pairs = {pair: found for pair, found in pairs.items() if style_of(pair) in BUNDLED_STYLES}
        subgroups = sorted({thing["subgroup"] for thing, _ in pairs.values()})
    draw = partial(picture, size=args.size, webp=args.bundle)
    differing = []
    with ProcessPoolExecutor() as pool:
        for name in [args.split] if args.split else SPLITS:
            split = splits[name]
            split = [pair for pair in split if pair in pairs]
            table, file = (
                table_of(rows_of(split, pairs, pool, draw), subgroups),
                out / f"{name}.parquet",
            )
            if args.check:
                differing += [] if check(file, table) else [name]
                continue
            out.mkdir(parents=True, exist_ok=True)
            write(file, table)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
