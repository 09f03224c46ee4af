import multiprocessing
import os
import pickle
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from gensynth.data.files.image_set import open_images
from gensynth.data.images import fit, to_tensor
from gensynth.errors import GensynthError, InputError, UsageError

COUNT, SIDE = 7, 8
KINDS = ("folder", "npz", "deflated", "tar", "tars", "parquet")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """uint8 [7, 8, 8, 3], each image with a noise of its own."""
    return np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)


def write_parquet(path: Path, images: list[bytes], labels: list[int] | None = None) -> Path:
    columns = {"image": [{"bytes": content, "path": None} for content in images]}
    features = {"image": datasets.Image(decode=False)}
    if labels is not None:
        columns["label"] = labels
        features["label"] = datasets.Value("int64")
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(columns, datasets.Features(features)).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def places(tmp_path_factory, pixels, encode, write_tar) -> dict[str, Path]:
    """The same images in every form; labels are 0, 1, 2, 0, 1, 2, 0 where a form has labels."""
    root = tmp_path_factory.mktemp("places")
    labels = [number % 3 for number in range(COUNT)]
    encoded = [encode(image) for image in pixels]
    (root / "folder").mkdir()
    for number, content in enumerate(encoded):
        (root / "folder" / f"{number}.png").write_bytes(content)
    np.savez(root / "a.npz", pixels, np.asarray(labels))
    np.savez_compressed(root / "deflated.npz", arr_0=pixels, arr_1=np.asarray(labels))
    members = {}
    for number, content in enumerate(encoded):
        members |= {f"x/{number:03d}.cls": b"%d\n" % labels[number], f"x/{number:03d}.png": content}
    write_tar(root / "a.tar", members)
    (root / "tars").mkdir()
    names = list(members)
    write_tar(root / "tars" / "shard-2.tar", {name: members[name] for name in names[:6]})
    write_tar(root / "tars" / "shard-10.tar", {name: members[name] for name in names[6:]})
    write_parquet(root / "a.parquet", encoded, labels)
    ends = (".npz", ".tar", ".parquet")
    found = {"npz": root / "a.npz", "deflated": root / "deflated.npz", "tars": root / "tars"}
    return found | {"folder": root / "folder"} | {end[1:]: root / f"a{end}" for end in ends}


def stacked(images) -> torch.Tensor:
    return torch.stack([images.read(index) for index in range(images.length)])


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_gives_the_same_images(places, pixels, kind):
    images = open_images(str(places[kind]))
    assert images.length == COUNT
    assert torch.equal(stacked(images), torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert torch.equal(images.read(4), images.read(4))  # and again, out of order
    assert not images.lossy and images.classes is None
    assert (images.labels is None) == (kind == "folder")
    if images.labels is not None:
        assert [images.labels(index) for index in range(COUNT)] == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_workers_give_the_batches_that_no_workers_give(places, kind):
    images, order = open_images(str(places[kind])), [5, 0, 3, 6, 1]
    plain, read = (list(images.batches(order, 2, workers)) for workers in (0, 2))
    assert [numbers.tolist() for numbers, _ in plain] == [[5, 0], [3, 6], [1]]
    for (numbers, batch), (others, other) in zip(plain, read, strict=True):
        assert torch.equal(numbers, others) and torch.equal(batch, other)
        assert torch.equal(batch, torch.stack([images.read(int(number)) for number in numbers]))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_can_be_sent_to_another_process(places, kind):
    images = open_images(str(places[kind]))
    images.read(0)
    sent = pickle.loads(pickle.dumps(images))
    assert torch.equal(stacked(sent), stacked(images))
    assert (sent.fingerprint, sent.name_of(2)) == (images.fingerprint, images.name_of(2))


@pytest.mark.parametrize("kind", KINDS)
def test_no_file_stays_open(places, kind):
    images = open_images(str(places[kind]))
    images.read(0)
    before = len(list(Path("/proc/self/fd").iterdir()))
    stacked(images)
    list(images.batches(range(COUNT), 2))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_is_brought_to_a_size(places, pixels, kind):
    images = open_images(str(places[kind]), size=4)
    expected = to_tensor(fit(Image.fromarray(pixels[2]), 4, "crop"))
    assert torch.equal(images.read(2), expected)
    padded = open_images(str(places[kind]), size=12, how="pad")
    assert padded.read(2).shape == (3, 12, 12)
    assert torch.equal(padded.read(2)[:, 2:10, 2:10], torch.from_numpy(pixels[2]).permute(2, 0, 1))


def test_workers_that_are_not_waited_for_end(places):
    batches = open_images(str(places["folder"])).batches(range(COUNT), 1, workers=2)
    next(batches)
    assert multiprocessing.active_children()
    batches.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_is_one_sentence(places, tmp_path, encode, workers):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(encode(np.zeros((8, 8), np.uint8)))
    (tmp_path / "2.png").write_bytes(b"no picture")
    with pytest.raises(InputError) as caught:
        list(open_images(str(tmp_path)).batches(range(4), 1, workers))
    assert str(caught.value) == f"{tmp_path / '2.png'} cannot be read: it is no image."
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_unlike_sizes_are_named_with_their_files(tmp_path, encode, workers):
    for number, size in enumerate([(8, 8), (8, 8), (8, 8), (8, 6)]):
        (tmp_path / f"{number}.png").write_bytes(encode(np.zeros(size, np.uint8)))
    images = open_images(str(tmp_path))
    with pytest.raises(InputError, match=r"0\.png is 8x8, .*3\.png is 6x8\. .*--size N"):
        list(images.batches([1, 2, 3], 1, workers))
    batches = open_images(str(tmp_path), size=4).batches(range(4))
    assert next(batches)[1].shape == (4, 3, 4, 4)


def test_no_indices_are_no_batches(places):
    assert list(open_images(str(places["folder"])).batches([])) == []


def test_fingerprints_follow_the_files_and_how_they_are_read(places, tmp_path, encode):
    for kind in KINDS:
        where = str(places[kind])
        prints = {
            open_images(where).fingerprint,
            open_images(where, 4).fingerprint,
            open_images(where, 8).fingerprint,
            open_images(where, 8, "pad").fingerprint,
        }
        assert len(prints) == 4
        assert open_images(where).fingerprint in prints
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "a.png").write_bytes(encode(np.zeros((8, 8), np.uint8)))
    first = open_images(str(folder)).fingerprint
    assert open_images(str(folder)).fingerprint == first
    # Other pixels of one name, size and date, as archives and copies leave them.
    times = (folder / "a.png").stat().st_atime_ns, (folder / "a.png").stat().st_mtime_ns
    other = tmp_path / "two"
    shutil.copytree(folder, other)
    os.utime(other / "a.png", ns=times)
    assert open_images(str(other)).fingerprint != first
    content = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(content[::-1])
    os.utime(folder / "a.png", ns=times)
    assert open_images(str(folder)).fingerprint != first


def test_a_pattern_and_a_single_picture(places):
    folder = places["folder"]
    assert open_images(f"{folder}/[246].png").length == 3
    assert open_images(str(folder / "3.png")).length == 1


@pytest.mark.parametrize(
    ("kind", "options", "lossy"),
    [
        ("png", {}, False),
        ("jpg", {"quality": 95}, True),
        ("webp", {"lossless": True}, False),
        ("webp", {"quality": 80}, True),
        ("bmp", {}, False),
    ],
)
def test_lossy_files_are_noticed_in_every_container(
    tmp_path, pixels, encode, kind, options, lossy, write_tar
):
    content = encode(pixels[0], "JPEG" if kind == "jpg" else kind.upper(), **options)
    plain = encode(pixels[0])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.png").write_bytes(plain)
    (tmp_path / "folder" / f"b.{kind}").write_bytes(content)
    write_tar(tmp_path / "a.tar", {"a.png": plain, f"b.{kind}": content})
    write_parquet(tmp_path / "a.parquet", [content, plain])
    for name in ("folder", "a.tar", "a.parquet"):
        assert open_images(str(tmp_path / name)).lossy == lossy


@pytest.mark.parametrize("where", ["nowhere", "nowhere.npz", "nowhere.parquet", "x/*.tar", "a:b"])
def test_nothing_there(where, tmp_path):
    with pytest.raises(InputError, match="there are no images at"):
        open_images(str(tmp_path / where))


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(InputError, match="no pictures"):
        open_images(str(tmp_path))


def test_other_files_and_settings_are_refused(tmp_path, places):
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(InputError, match="none of the files"):
        open_images(str(tmp_path / "a.txt"))
    for settings in ({"how": "stretch"}, {"size": 0}):
        with pytest.raises(UsageError, match="by crop or pad"):
            open_images(str(places["folder"]), **settings)
    with pytest.raises(UsageError, match="no splits; leave out train"):
        open_images(f"{places['folder']}:train")


def test_pictures_beside_archives_are_ambiguous(tmp_path, numbered, write_tar):
    write_tar(tmp_path / "a.tar", {"1.png": numbered(1)})
    (tmp_path / "grid.png").write_bytes(numbered(1))
    assert open_images(str(tmp_path)).length == 1
    (tmp_path / "1.png").write_bytes(numbered(1))
    with pytest.raises(UsageError, match=r"both pictures and \*\.tar"):
        open_images(str(tmp_path))


def test_a_folder_of_splits_needs_a_choice(tmp_path, numbered):
    write_parquet(tmp_path / "train-00000.parquet", [numbered(1)] * 3)
    write_parquet(tmp_path / "test.parquet", [numbered(2)] * 2)
    where = str(tmp_path)
    with pytest.raises(UsageError, match=f"splits test, train. Choose one: {where}:test"):
        open_images(where)
    assert open_images(f"{where}:test").length == 2
    assert open_images(where, split="train").length == 3
    assert open_images(f"{where}/tr*.parquet").length == 3
    assert open_images(f"{where}/test.parquet").length == 2
    assert open_images(f"{where}:test").fingerprint != open_images(f"{where}:train").fingerprint
    with pytest.raises(UsageError, match=r"none of data\.split validation"):
        open_images(f"{where}:validation")


def test_a_folder_in_the_layout_of_the_hub(tmp_path, numbered):
    for split, count in (("train", 3), ("test", 2)):
        name = f"{split}-00000-of-00001.parquet"
        write_parquet(tmp_path / "set" / "data" / name, [numbered(count)] * count, [0] * count)
    where = str(tmp_path / "set")
    for name in (f"hub:{where}:test", f"{where}:test"):
        images = open_images(name)
        assert (images.length, images.name) == (2, name)
        assert int(images.read(1)[0, 0, 0]) == 2 and images.labels(1) == 0
    assert open_images(f"hub:{where}").length == 3


def test_a_hub_dataset_that_is_not_there():
    with pytest.raises(InputError, match="the dataset nobody/nothing of the hub cannot be fetched"):
        open_images("hub:nobody/nothing:test")


def test_rows_that_are_no_images_are_named(tmp_path, numbered):
    write_parquet(tmp_path / "a.parquet", [numbered(1), b"junk", b""])
    images = open_images(str(tmp_path / "a.parquet"))
    for index in (1, 2):
        with pytest.raises(InputError, match=rf"row {index} of .*a\.parquet train cannot be read"):
            images.read(index)


def test_a_damaged_parquet_file(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(GensynthError, match=r"cannot read parquet data at .*a\.parquet"):
        open_images(str(tmp_path / "a.parquet"))


def test_fashion_mnist_by_name():
    images = open_images("fashion_mnist")
    assert (images.length, images.labels(0) in range(10)) == (2000, True)
    assert images.read(0).shape == (1, 32, 32)
    assert not images.read(0)[0, :2].any() and images.read(0).any()  # a border around 28 x 28
    assert images.classes[9] == "Ankle boot"
    assert open_images("fashion_mnist:test").fingerprint == images.fingerprint
    assert open_images("fashion_mnist:train").length == 10000
    assert open_images("fashion_mnist", size=40).read(0).shape == (1, 40, 40)
    with pytest.raises(UsageError, match="splits train and test"):
        open_images("fashion_mnist:validation")


@pytest.mark.parametrize(
    ("array", "advice"),
    [
        (np.zeros((5, 3, 8, 8), np.uint8), r"transpose\(0, 2, 3, 1\)"),
        (np.zeros((5, 8, 8), np.uint8), r"x\[..., None\]"),
        (np.zeros((5, 8, 8, 3), np.float32), "Round floats"),
        (np.zeros((5, 8, 8, 4), np.uint8), "axes are those of something else"),
    ],
)
def test_what_to_do_about_other_arrays(tmp_path, array, advice):
    np.savez(tmp_path / "a.npz", array)
    with pytest.raises(InputError, match=advice):
        open_images(str(tmp_path / "a.npz"))
