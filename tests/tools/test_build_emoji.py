"""The builder of the emoji pictures, on small stand-ins of the packages and without a network."""

import hashlib
import importlib.util
import io
import json
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

FILE = Path(__file__).parents[2] / "tools" / "build_emoji.py"
SPEC = importlib.util.spec_from_file_location("build_emoji", FILE)
build = importlib.util.module_from_spec(SPEC)
sys.modules["build_emoji"] = build  # NamedTuple looks its module up
SPEC.loader.exec_module(build)

NAMES = """# emoji-test.txt
# group: People & Body
# subgroup: hand-fingers-open
1F44B                    ; fully-qualified     # 👋 E0.6 waving hand
1F44B 1F3FB              ; fully-qualified     # 👋🏻 E1.0 waving hand: light skin tone
1F595                    ; fully-qualified     # 🖕 E1.0 middle finger
# group: Symbols
# subgroup: arrow
2B05 FE0F                ; fully-qualified     # ⬅️ E0.6 left arrow
2B05                     ; unqualified         # ⬅ E0.6 left arrow
27A1 FE0F                ; fully-qualified     # ➡️ E0.6 right arrow
1F6AD                    ; fully-qualified     # 🚭 E1.0 no smoking
# group: Flags
# subgroup: country-flag
1F1F8 1F1F9              ; fully-qualified     # 🇸🇹 E2.0 flag: São Tomé & Príncipe
"""
RED = '<path fill="red" d="M0 0h8v8H0z"/>'
ICONS = {
    "width": 16,
    "height": 16,
    "icons": {
        "waving-hand": {"body": RED, "height": 20},
        "left-arrow": {"body": RED, "left": 2},
        "flag-for-sao-tome-and-principe": {"body": RED},
    },
    "aliases": {
        "right-arrow": {"parent": "east", "hFlip": True},
        "east": {"parent": "left-arrow"},
    },
}


def packed(icons: dict) -> bytes:
    buffer, content = io.BytesIO(), json.dumps(icons).encode()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/icons.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def package():
    return build.Package("noto", "1.2.9", hashlib.sha256(packed(ICONS)).hexdigest())


def test_names_groups_and_code_points_without_tones_rudeness_and_smoking():
    found = list(build.things(NAMES))
    assert [thing["name"] for thing in found] == [
        *("waving hand", "left arrow", "right arrow", "flag: São Tomé & Príncipe")
    ]
    assert found[1] == {
        "name": "left arrow",
        "group": "Symbols",
        "subgroup": "arrow",
        "codepoints": "2B05 FE0F",
    }


@pytest.mark.parametrize(
    ("name", "icon"),
    [
        ("flag: São Tomé & Príncipe", "flag-sao-tome-and-principe"),
        ("keycap: *", "keycap-asterisk"),
        ("woman’s hat", "womans-hat"),
        ("Japanese “service charge” button", "japanese-service-charge-button"),
        ("ON! arrow", "on-arrow"),
        ("piñata", "pinata"),
    ],
)
def test_names_of_icons(name, icon):
    assert build.slug(name) == icon


def test_a_drawing_by_name_by_another_name_and_mirrored():
    hand = build.svg(ICONS, "waving hand")
    assert 'width="16" height="20" viewBox="0 0 16 20"' in hand and "scale" not in hand
    mirrored = build.svg(ICONS, "right arrow")  # an alias of an alias
    assert 'viewBox="2 0 16 16"' in mirrored and "translate(20 0) scale(-1 1)" in mirrored
    assert RED in build.svg(ICONS, "flag: São Tomé & Príncipe")
    assert build.svg(ICONS, "red apple") is None


def test_the_ink_is_put_into_the_middle_of_a_white_square():
    drawing = Image.new("RGBA", (256, 256))
    drawing.paste((255, 0, 0, 255), (10, 20, 210, 120))  # 200 by 100: a square of 213
    square = build.squared(drawing, 213)
    assert square.mode == "RGB" and square.size == (213, 213)
    assert square.point(lambda level: 255 - level).getbbox() == (6, 56, 206, 156)
    assert square.getpixel((100, 100)) == (255, 0, 0)
    assert build.squared(drawing, 64).getpixel((0, 0)) == (255, 255, 255)


def test_a_package_is_read_where_it_is(package, tmp_path):
    (tmp_path / "iconify-json-noto-1.2.9.tgz").write_bytes(packed(ICONS))
    assert build.icons_of(package, tmp_path) == ICONS


def test_another_package_is_refused(package, tmp_path):
    (tmp_path / package.file).write_bytes(packed({**ICONS, "width": 32}))
    with pytest.raises(SystemExit, match=r"has the SHA-256 .*, not .*fetch version 1\.2\.9 again"):
        build.icons_of(package, tmp_path)


def test_without_npm_the_registry_of_the_environment_is_asked(package, tmp_path, monkeypatch):
    asked = []

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(packed(ICONS))

        def log_message(self, *_):
            pass

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("npm_config_registry", raising=False)
    with pytest.raises(SystemExit, match="install npm, or set npm_config_registry"):
        build.icons_of(package, tmp_path / "packages")
    server = HTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/npm/")
    try:
        assert build.icons_of(package, tmp_path / "packages") == ICONS
    finally:
        server.shutdown()
        server.server_close()
    assert asked == ["/npm/@iconify-json/noto/-/noto-1.2.9.tgz"]


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_rows_have_what_the_names_say_and_the_order_of_the_split(tmp_path):
    arrows = {**ICONS, "icons": {"left-arrow": {"body": RED}}, "aliases": {}}
    pairs = build.joined(NAMES, {"noto": ICONS, "flat": arrows})
    assert sorted(pairs) == [
        "flat/2b05-fe0f",
        "noto/1f1f8-1f1f9",
        "noto/1f44b",
        "noto/27a1-fe0f",
        "noto/2b05-fe0f",
    ]
    split = ["noto/27a1-fe0f", "flat/2b05-fe0f", "noto/1f44b"]
    with ThreadPoolExecutor() as pool:
        rows = build.rows_of(
            split, pairs, pool, lambda text: png("red" if "20" in text else "blue")
        )
    table = build.table_of(rows, None)
    assert table["text"].to_pylist() == [
        "right arrow, noto",
        "left arrow, flat",
        "waving hand, noto",
    ]
    assert table["image"][1].as_py() == {"bytes": png("blue"), "path": "flat/2b05-fe0f.png"}
    classes = build.table_of(rows, ["arrow", "hand-fingers-open"])
    assert classes["label"].to_pylist() == [0, 0, 1]

    file = tmp_path / "train.parquet"
    build.write(file, table)
    assert build.check(file, table) and pq.read_table(file).equals(table)
    rows[0]["image"]["bytes"] = png("green")
    assert not build.check(file, build.table_of(rows, None))


def test_the_lists_hold_out_pairs_whose_thing_and_style_are_trained_on():
    train, test = ([pair.split("/") for pair in build.split_of(name)] for name in ("train", "test"))
    assert (len(train), len(test)) == (6992, 777)
    together = {tuple(pair) for pair in train + test}
    assert len(together) == 7769 and len({thing for _, thing in together}) == 1864
    assert {style for style, _ in together} == set(build.PACKAGES)
    assert {thing for _, thing in test} <= {thing for _, thing in train}
