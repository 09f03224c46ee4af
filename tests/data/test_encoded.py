import json

import datasets
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from gensynth.autoencoders import PixelAutoencoder
from gensynth.autoencoders.vq import VQAutoencoder
from gensynth.config import Data
from gensynth.data.batches import load_batches
from gensynth.data.encoded import (
    Codec,
    EncodedImages,
    EncodingWriter,
    check_encoding,
    read_encoding,
)
from gensynth.data.sources import open_source
from gensynth.data.training import Schedule, mirrored, order
from gensynth.errors import CorruptError, GensynthError, InputError, UsageError
from gensynth.files import new_folder

SOURCE = Data(source="parquet", path="-", size=8, channels=1, flip=True)
CLASSES = ["even", "odd", "never"]
COUNT = 7
PIXELS = PixelAutoencoder(1, 2)


def vq(codebook_size=16, seed=0) -> VQAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VQAutoencoder(
            channels=1,
            widths=(4, 4),
            layers=1,
            latent_channels=4,
            codebook_size=codebook_size,
            codebook_dim=2,
            norm_groups=2,
        )


LATENTS = torch.arange(COUNT * 4 * 4 * 4).reshape(COUNT, 4, 4, 4) / 3
TOKENS = torch.arange(COUNT * 4 * 4).reshape(COUNT, 4, 4) % 16


@pytest.fixture
def write(tmp_path):
    """`write(latents, codec)`: a folder of them, and mirrored their negatives or 15 - token."""

    def make(latents=LATENTS, codec=PIXELS, data=SOURCE, shard_bytes=2**20, batch=3, flipped=None):
        out = tmp_path / "out"
        if flipped is None:
            flipped = -latents if latents.is_floating_point() else 15 - latents
        with new_folder(out) as folder:
            writer = EncodingWriter(folder, data, Codec.of(codec, "vae"), CLASSES, shard_bytes)
            for first in range(0, len(latents), batch):
                some = slice(first, first + batch)
                labels = [row % 2 for row in range(len(latents))[some]]
                writer.add(labels, latents[some], flipped[some] if data.flip else None)
            writer.close(unreadable=2)
        return out

    return make


def encoded(folder, **changes) -> Data:
    return Data(**{"source": "encoded", "path": str(folder), "size": 8, "channels": 1, **changes})


def corrupt(folder, **changes):
    path = folder / "encoded.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# Writing


def test_the_record(write):
    record = json.loads((write(TOKENS, vq()) / "encoded.json").read_text())
    fingerprint = record["codec"].pop("fingerprint")
    assert fingerprint == vq().fingerprint()
    assert record["codec"].pop("encoder") == vq().encoder_fingerprint() != fingerprint
    assert record.pop("gensynth")
    assert record == {
        "schema": 1,
        "codec": {"kind": "vq", "path": "vae", "patch": 2, "codebook_size": 16},
        "split": "train",
        "size": 8,
        "channels": 1,
        "fit": "crop",
        "dtype": "uint16",
        "shape": [4, 4],
        "count": COUNT,
        "unreadable": 2,
    }


@pytest.mark.parametrize(
    ("codebook_size", "dtype", "highest"),
    [(2**16, "uint16", 2**16 - 1), (2**16 + 1, "int32", 2**16)],
)
def test_the_largest_token_survives(write, codebook_size, dtype, highest):
    tokens = torch.full((2, 4, 4), highest)
    folder = write(tokens, vq(codebook_size), flipped=tokens)
    data = encoded(folder)
    assert read_encoding(data).dtype == dtype
    batch = EncodedImages(open_source(data).rows, data, 0).__getitems__([0, 1])
    assert batch.latents.dtype == torch.int64
    assert (batch.latents == highest).all()
    check_encoding(data, vq(codebook_size))


@pytest.mark.parametrize("split", ["train", "test", "train[:50%]"])
def test_the_folder_is_one_of_the_hub(write, split):
    folder = write(data=SOURCE.model_copy(update={"split": split}), shard_bytes=1)
    names = sorted(path.name for path in (folder / "data").iterdir())
    head = split.partition("[")[0]
    assert names == [f"{head}-{number:05d}-of-00003.parquet" for number in range(3)]
    rows = datasets.load_dataset(str(folder), split=head)
    assert rows.features["label"].names == CLASSES
    assert rows["label"] == [0, 1, 0, 1, 0, 1, 0]
    assert rows[2]["latents"] == LATENTS[2].numpy().astype("<f4").tobytes()
    assert open_source(encoded(folder, split=split)).classes == CLASSES


def test_shards_do_not_grow_beyond_a_batch_more_than_their_bound(write):
    latents = torch.zeros(40, 4, 4, 4)  # 512 bytes an image, the mirrored one included
    folder = write(latents, shard_bytes=2048, batch=3)
    rows = [pq.read_metadata(file).num_rows for file in sorted(folder.glob("data/*.parquet"))]
    assert rows == [6, 6, 6, 6, 6, 6, 4]


def test_nothing_to_write_is_refused(write, tmp_path):
    with pytest.raises(CorruptError, match="not one image"):
        write(LATENTS[:0])
    assert list(tmp_path.iterdir()) == []


# Reading


@pytest.mark.parametrize("latents", [LATENTS, TOKENS], ids=["latents", "tokens"])
@pytest.mark.parametrize("flip", [False, True])
def test_rows_follow_the_order_and_the_coin(write, latents, flip):
    data = encoded(write(latents, vq() if latents is TOKENS else PIXELS), flip=flip)
    positions = list(range(2 * COUNT))
    batch = EncodedImages(open_source(data).rows, data, 5).__getitems__(positions)
    rows = order(5, 0, COUNT).tolist() + order(5, 1, COUNT).tolist()
    expected = latents[rows].clone()
    for position in positions:
        if flip and mirrored(5, position):
            image = expected[position]
            expected[position] = 15 - image if latents is TOKENS else -image
    assert torch.equal(batch.latents, expected)
    assert batch.latents.dtype == latents.dtype
    assert batch.labels.tolist() == [row % 2 for row in rows]
    assert batch.labels.dtype == torch.int64
    assert (batch.images, batch.crops, batch.cursor, batch.unreadable) == (None, None, None, [])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_a_schedule(write, workers):
    data = encoded(write(), flip=True, workers=workers)
    schedule = Schedule(1, 4, 4, 2, 1, 2)
    batches = list(
        load_batches(open_source(data), data, 5, schedule, (0, (0, 0)), torch.device("cpu"))
    )
    images = EncodedImages(open_source(data).rows, data, 5)
    for batch, positions in zip(batches, schedule, strict=True):
        assert torch.equal(batch.latents, images.__getitems__(positions).latents)


def test_names_of_classes_may_be_given(write):
    folder = write()
    assert open_source(encoded(folder, classes=["a", "b"])).classes == ["a", "b"]
    with pytest.raises(UsageError, match="label 1, but there are only 1 classes"):
        open_source(encoded(folder, classes=["a"]))


# What does not fit


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 16}, r"data\.size is 16, but .* with 8; set data\.size=8"),
        ({"channels": 3}, r"data\.channels is 3, but .* with 1"),
        ({"fit": "pad"}, r"data\.fit is pad, but .* with crop; set data\.fit=crop"),
        ({"split": "test"}, r"data\.split is test, but .* with train"),
    ],
)
def test_other_settings_are_refused(write, changes, words):
    with pytest.raises(UsageError, match=words):
        open_source(encoded(write(), **changes))


def test_flips_need_mirrored_images(write):
    folder = write(data=SOURCE.model_copy(update={"flip": False}))
    assert open_source(encoded(folder)).rows.column_names == ["latents", "label"]
    with pytest.raises(UsageError, match=r"without mirrored images; set data\.flip=false"):
        open_source(encoded(folder, flip=True))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("streaming", True, "streaming: false"), ("zoom", [1.0, 1.5], "zoom draws new crops")],
)
def test_what_needs_images_is_refused(tmp_path, key, value, words):
    with pytest.raises(ValidationError, match=words):
        encoded(tmp_path, **{key: value})


def test_a_folder_that_is_no_encoding(tmp_path):
    with pytest.raises(InputError, match=r"there is no .*encoded\.json"):
        open_source(encoded(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", '{"schema": 1}'])
def test_a_damaged_record(write, text):
    folder = write()
    (folder / "encoded.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CorruptError, match=r"encoded\.json is damaged"):
        open_source(encoded(folder))


def test_a_record_of_a_later_version(write):
    folder = write()
    corrupt(folder, schema=2)
    with pytest.raises(InputError, match="not of a version"):
        open_source(encoded(folder))


@pytest.mark.parametrize("lost", ["one", "all"])
def test_lost_files(write, lost):
    folder = write(shard_bytes=1)
    for file in sorted(folder.glob("data/*.parquet"))[0 if lost == "all" else 2 :]:
        file.unlink()
    words = "lost its Parquet files" if lost == "all" else "should have 7 rows .* has 6"
    with pytest.raises(CorruptError, match=words):
        open_source(encoded(folder))


def test_a_damaged_file(write):
    folder = write(TOKENS, vq())
    (file,) = folder.glob("data/*.parquet")
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(GensynthError, match="cannot read encoded data"):
        open_source(encoded(folder))
    with pytest.raises(CorruptError, match="cannot be read"):
        check_encoding(encoded(folder), vq())


def test_arrays_of_another_shape(write):
    folder = write()
    corrupt(folder, shape=[4, 4, 5])
    data = encoded(folder)
    images = EncodedImages(open_source(data).rows, data, 0)
    with pytest.raises(CorruptError, match="should have 320 bytes, one has 256"):
        images.__getitems__([0])


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (PIXELS, r"another autoencoder of vae: its kind is vq, that of this run is none"),
        (vq(codebook_size=17), "its codebook_size is 16, that of this run is 17"),
        (vq(seed=1), "its fingerprint is"),
    ],
    ids=["kind", "size", "weights"],
)
def test_another_codec_is_refused(write, other, words):
    folder = write(TOKENS, vq())
    check_encoding(encoded(folder), vq())
    with pytest.raises(UsageError, match=words):
        check_encoding(encoded(folder), other)


def test_another_encoder_of_the_same_codebook_is_refused(write, capsys):
    folder = write(TOKENS, vq())
    trained = vq()
    with torch.no_grad():
        trained.encoder.conv_in.weight[0, 0, 0, 0] += 1e-3
    assert trained.fingerprint() == vq().fingerprint()
    with pytest.raises(UsageError, match=r"its encoder is .* Use the same autoencoder"):
        check_encoding(encoded(folder), trained)
    assert not capsys.readouterr().err


def test_an_encoding_from_before_encoders_were_noted_is_taken_with_a_warning(write, capsys):
    folder = write(TOKENS, vq())
    codec = json.loads((folder / "encoded.json").read_text())["codec"]
    del codec["encoder"]
    corrupt(folder, codec=codec)
    check_encoding(encoded(folder), vq())
    assert "does not tell which encoder made its tokens" in capsys.readouterr().err
    with pytest.raises(UsageError, match="its fingerprint is"):
        check_encoding(encoded(folder), vq(seed=1))


def test_another_patch_is_refused(write):
    folder = write()
    check_encoding(encoded(folder), PIXELS)
    with pytest.raises(UsageError, match="its patch is 2, that of this run is 4"):
        check_encoding(encoded(folder), PixelAutoencoder(1, 4))


@pytest.mark.parametrize("where", ["latents", "mirrored"])
def test_a_token_outside_the_codebook(write, where):
    wrong = TOKENS.clone()
    wrong[5, 3, 3] = 16
    images = (wrong, TOKENS) if where == "latents" else (TOKENS, wrong)
    folder = write(images[0], vq(), flipped=images[1], shard_bytes=1)
    with pytest.raises(CorruptError, match=r"train-00001-of-00003.* outside the codebook of 16"):
        check_encoding(encoded(folder), vq())


def test_tokens_of_another_shape(write):
    folder = write(TOKENS, vq())
    corrupt(folder, shape=[4, 5])
    with pytest.raises(CorruptError, match="wrong length"):
        check_encoding(encoded(folder), vq())
