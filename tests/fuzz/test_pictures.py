"""Folders, npz and archives of pictures, damaged in many ways, for training and evaluation."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import check, how_many
from mutations import NAMES, as_json, damaged, odd
from PIL import Image

from gensynth.config import Data
from gensynth.data.files.image_set import open_images
from gensynth.data.images import UNREADABLE
from gensynth.data.sources import open_source
from gensynth.data.training import prepare
from gensynth.evaluation.references.files import read_stored

CODES = {0, 2, 3, 4, 8}
MOST = 20  # pictures of an input that are looked at


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """What `datasets` stores on the way goes with the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def picture(random: Random, kind: str = "PNG", mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    side = random.choice((1, 8, 9))
    Image.new(mode, (side, 8), random.randrange(256)).save(stream, kind)
    return stream.getvalue()


def some_picture(random: Random) -> bytes:
    content = picture(random, random.choice(("PNG", "JPEG", "WEBP", "BMP", "GIF")))
    return damaged(content, random) if random.random() < 0.3 else content


def evaluated(where: Path | str) -> None:
    """Reads as an evaluation does: an unreadable picture ends it."""
    images = open_images(str(where))
    for index in range(min(images.length, MOST)):
        images.read(index)
        if images.labels is not None:
            assert isinstance(images.labels(index), int)


def trained(**section) -> None:
    """Reads as a training does: it goes on after an unreadable picture."""
    data = Data(size=8, **section)
    source = open_source(data)
    for index in range(min(len(source.rows), MOST)):
        row = source.rows[index]
        assert row.get("label") is None or 0 <= row["label"] < len(source.classes)
        try:
            prepare(row, data)
        except UNREADABLE:
            continue


def in_turn(random: Random, *readers: Callable[[], None]) -> Callable[[], None]:
    return random.choice(readers)


def make_folder(folder: Path, random: Random):
    root = folder / random.choice(("data", "a b", "[x]", "train"))
    outside = folder / "outside"
    outside.mkdir()
    (outside / "1.png").write_bytes(picture(random))
    for name in random.choice((["cat", "dog"], ["0", "10", "2"], ["train", "val"], ["", "x"])):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(2):
            (root / name / f"{number}.png").write_bytes(picture(random))
    for _ in range(random.choice((1, 2, 4))):
        name = random.choice(NAMES)
        place = random.choice([root, *(path for path in root.rglob("*") if path.is_dir())])
        target = place / name
        if os.path.lexists(target):
            continue
        match random.randrange(9):
            case 0 | 1:
                target.write_bytes(some_picture(random))
            case 2:
                target.mkdir()
            case 3:
                target.symlink_to(random.choice((root, outside, Path("nowhere"), target)))
            case 4:
                os.mkfifo(target)
            case 5:
                deep = place.joinpath(*["d"] * 60)
                deep.mkdir(parents=True, exist_ok=True)
                (deep / "x.png").write_bytes(picture(random))
            case 6:
                (place / "metadata.csv").write_bytes(metadata(random, "csv"))
            case 7:
                (place / "metadata.jsonl").write_bytes(metadata(random, "jsonl"))
            case 8:
                target.write_bytes(b"")
    evaluate = lambda: evaluated(root)  # noqa: E731
    level = random.choice((None, None, 0, 1, 5))
    split = random.choice(("train", "all", "val", "x"))
    train = lambda: trained(  # noqa: E731
        source="imagefolder", path=str(root), class_level=level, split=split
    )
    return in_turn(random, evaluate, train)


def metadata(random: Random, kind: str) -> bytes:
    names = ["0.png", "1.png", "cat/0.png", "../x.png", "/etc/passwd", "gone.png"]
    rows = [{"file_name": random.choice(names), "label": random.choice((0, "a", 1.0))}] * 3
    if kind == "jsonl":
        return b"\n".join(as_json(row, random) for row in rows)
    lines = ["file_name,label", *(f"{row['file_name']},{row['label']}" for row in rows)]
    text = "\r\n".join(lines).encode()
    return damaged(text, random) if random.random() < 0.6 else text.replace(b",", b'","')


@how_many
def test_folders(tmp_path, count):
    found = check(make_folder, tmp_path, count, CODES)
    assert found[0] > 0


def make_parquet(folder: Path, random: Random):
    count = random.choice((0, 1, 3, 6))
    images = [{"bytes": some_picture(random), "path": "x.png"} for _ in range(count)]
    labels = random.choice(
        [
            list(range(count)),
            [10**9] * count,
            [2.0] * count,
            [float("nan")] * count,
            [1.5] * count,
            [None] * count,
            ["a", "Zürich", "", "0", "猫", "a"][:count],
            [[1, 2]] * count,
            [{"a": 1}] * count,
            [True] * count,
            [-1] * count,
            [b"x"] * count,
            [2**62] * count,
        ]
    )
    column = random.choice(("label", "cls", "Label", "image", "label.x"))
    pictures = random.choice(
        [images, [one["bytes"] for one in images], [None] * count, ["x.png"] * count, [5] * count]
    )
    table = pa.table({random.choice(("image", "jpg", "img", "pic")): pictures})
    if column not in table.column_names:
        table = table.append_column(column, pa.array(labels))
    if random.random() < 0.3:
        info = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a", "b"]}}}}
        table = table.replace_schema_metadata({"huggingface": as_json(info, random)})
    path = folder / random.choice(("train-0.parquet", "x.parquet", "test.PARQUET"))
    pq.write_table(table, path)
    if random.random() < 0.4:
        path.write_bytes(damaged(path.read_bytes(), random))
    evaluate = lambda: evaluated(random.choice((path, folder)))  # noqa: E731
    train = lambda: trained(source="parquet", path=str(path))  # noqa: E731
    return in_turn(random, evaluate, train)


@how_many
def test_parquet(tmp_path, count):
    found = check(make_parquet, tmp_path, count, CODES)
    assert len(found) > 1


def make_tar(folder: Path, random: Random):
    ending = random.choice((".tar", ".tar", ".tar.gz", ".tgz"))
    path = folder / f"shard-000{ending}"
    with tarfile.open(path, "w:gz" if "g" in ending else "w") as archive:
        for number in range(random.choice((0, 1, 3))):
            key = random.choice((f"{number:04d}", "0000", "a/b", "/abs", "../x", "k.1", "猫"))
            members = [
                (random.choice(("png", "jpg", "PNG", "seg.png", "txt")), some_picture(random))
            ]
            if random.random() < 0.6:
                text = random.choice((b"3", b"cat", b"", b"1e9", b"-1", b"\xff", b"9" * 5000))
                members.append((random.choice(("cls", "txt", "CLS")), text))
            if random.random() < 0.6:
                members.append(("json", as_json({"label": 3, "caption": "x"}, random)))
            for name, content in members:
                entry = tarfile.TarInfo(f"{key}.{name}")
                entry.size = len(content)
                if random.random() < 0.05:
                    entry.type, entry.linkname, entry.size = tarfile.SYMTYPE, "/etc/passwd", 0
                archive.addfile(entry, io.BytesIO(content))
    if random.random() < 0.5:
        path.write_bytes(damaged(path.read_bytes(), random))
    streaming = random.random() < 0.2
    evaluate = lambda: evaluated(path)  # noqa: E731

    def train():
        if not streaming:
            return trained(source="webdataset", path=str(path))
        data = Data(source="webdataset", path=str(path), size=8, streaming=True, classes=["a", "b"])
        for row, _ in zip(open_source(data).rows, range(MOST), strict=False):
            try:
                prepare(row, data)
            except UNREADABLE:
                continue
        return None

    return in_turn(random, evaluate, train)


@how_many
def test_tars(tmp_path, count):
    found = check(make_tar, tmp_path, count, CODES)
    assert len(found) > 1


def make_npz(folder: Path, random: Random):
    """Pictures with one thing wrong; or statistics, well or badly."""
    shape, dtype, label, count = (3, 8, 8, 3), "u1", "i8", 3
    wrong = random.choice(("shape", "type", "labels", "count", "pickle", "header", "bytes", ""))
    dtypes = ["f4", "i8", "U3", "M8[s]", "c16", "?", ">u2"]
    if wrong == "shape":
        shapes = [(3, 8, 8, 1), (3, 8, 8), (0, 8, 8, 3), (), (3, 0, 8, 3), (3, 8, 8, 2)]
        shape = random.choice(shapes)
    elif wrong == "type":
        dtype = random.choice(dtypes)
    elif wrong == "labels":
        label = random.choice(dtypes)
    elif wrong == "count":
        count = random.choice((0, 2, 4))
    arrays = {"arr_0": np.zeros(shape, "i4").astype(dtype), "arr_1": np.ones(count).astype(label)}
    statistics = random.random() < 0.3
    if statistics:
        sigma = np.eye(4) * (np.nan if wrong == "type" else 1)
        arrays = {"mu": np.zeros(4 + (wrong == "shape")), "sigma": sigma}
    if wrong == "pickle":
        arrays[next(iter(arrays))] = np.array([{"a": 1}], dtype=object)
    path = folder / random.choice(("x.npz", "x.npz", "samples.npz"))
    with path.open("wb") as stream:
        random.choice((np.savez, np.savez_compressed))(stream, **arrays)
    if wrong == "header":
        write_header(path, next(iter(arrays)), random)
    elif wrong == "bytes":
        path.write_bytes(damaged(path.read_bytes(), random))
    return (lambda: read_stored(path)) if statistics else (lambda: evaluated(path))


def write_header(path: Path, name: str, random: Random) -> None:
    """An array that claims to be what it is not, such as a terabyte."""
    shape = random.choice(("(10**9, 10**9)", f"({10**9}, {10**9})", "(3, 8", "(-1,)", "5"))
    order = f"{odd(random)!r:.20}" if random.random() < 0.5 else "False"
    header = f"{{'descr': '|u1', 'fortran_order': {order}, 'shape': {shape}}}"
    text = header.encode("utf-8", "replace")
    npy = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", npy + bytes(random.choice((0, 100, 10**7))))


@how_many
def test_npz(tmp_path, count):
    found = check(make_npz, tmp_path, count, CODES)
    assert len(found) > 1


@how_many
def test_statistics(tmp_path, count):
    """Files of statistics, whose pickles are read without running anything."""
    import pickle

    def make(folder: Path, random: Random):
        entry = {"mu": np.zeros(4), "sigma": np.eye(4)}
        content = pickle.dumps({"fid": entry, "x": odd(random)}, protocol=random.choice((2, 4, 5)))
        path = folder / random.choice(("x.pkl", "x.npz"))
        path.write_bytes(damaged(content, random))
        return lambda: read_stored(path)

    check(make, tmp_path, count, CODES)
