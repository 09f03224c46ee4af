"""Pictures with captions in tables, tars and streams, in batches, and encoded."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from gensynth.autoencoders import PixelAutoencoder
from gensynth.config import Data
from gensynth.data.batches import load_batches
from gensynth.data.reading.captions import chosen_caption
from gensynth.data.sources import open_source
from gensynth.data.training import Schedule, TrainingImages, order
from gensynth.errors import CorruptError, UsageError
from gensynth.experiments.encoding import encode_source

SAID = [["zero", "nought"], ["one"], [], ["three", "", "drei"], [" four "]]
THREE_STEPS = Schedule(0, 3, 4)
CAT = "\u732b"
KEPT = [["zero", "nought"], ["one"], ["three", "drei"], ["four"]]


@pytest.fixture
def table(tmp_path, numbered):
    """`table(text=[...])`: a Parquet file of five pictures with these columns beside them."""

    def write(**columns):
        pictures = [{"bytes": numbered(number), "path": None} for number in range(5)]
        pq.write_table(pa.table({"image": pictures, **columns}), tmp_path / "a.parquet")
        return {"source": "parquet", "path": str(tmp_path / "a.parquet")}

    return write


def opened(place, **settings):
    data = Data(**{"size": 8, "channels": 1, "workers": 0, **place, **settings})
    return open_source(data, texts=True), data


def batches(place, schedule=THREE_STEPS, seed=3, **settings):
    source, data = opened(place, **settings)
    loaded = load_batches(source, data, seed, schedule, (0, (0, 0)), torch.device("cpu"))
    return list(loaded)


def texts_of(some):
    return [text for batch in some for text in batch.texts]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_column_of_lists(table, streaming):
    source, _ = opened(table(caption=SAID, label=[[1]] * 5), streaming=streaming)
    assert [row["text"] for row in source.rows] == KEPT
    assert all("label" not in row for row in source.rows)
    if not streaming:
        assert list(source.captions()) == KEPT and len(source.rows) == 4
        assert source.summary == (
            '4 pictures with captions (such as "zero" and "one"). Left out: without a caption: '
            "1 (row 2)."
        )


def test_texts_of_one_column_or_the_one_that_is_named(table):
    place = table(text=["a", None, "", "d", "e"], de=["eins", "zwei", "drei", "vier", "fünf"])
    assert list(opened(place)[0].captions()) == [["a"], ["d"], ["e"]]
    assert list(opened(place, text_column="de")[0].captions())[-1] == ["fünf"]
    with pytest.raises(UsageError, match="text_column 'fr' is not one of image, text, de"):
        opened(place, text_column="fr")


@pytest.mark.parametrize("streaming", [False, True])
def test_no_column_of_captions_names_those_there_are_and_the_advice_works(table, streaming):
    place = table(name=list("abcde"), label=[0, 1, 0, 1, 0])
    with pytest.raises(UsageError, match=r"they have image, name, label\. Set data") as caught:
        opened(place, streaming=streaming)
    assert "condition.kind=classes" in str(caught.value)
    source, _ = opened(place, streaming=streaming, text_column="name")
    assert next(iter(source.captions())) == ["a"]


def test_a_column_of_nothing_and_one_of_numbers(table):
    with pytest.raises(UsageError, match="not one of the pictures has a caption"):
        opened(table(text=["", " ", None, "", None]))
    with pytest.raises(UsageError, match="captions in year are values of type int"):
        opened(table(year=[1, 2, 3, 4, 5]), text_column="year")
    with pytest.raises(CorruptError, match="none with a label or caption"):
        batches(table(text=[""] * 5), streaming=True)


def test_a_long_caption_is_cut_off_where_it_is_shown(table):
    source, _ = opened(table(text=[CAT * 500, "two\n\nlines", "c", "d", "e"]))
    shown = f'such as "{CAT * 57}..." and "two lines"'
    assert shown in source.summary
    assert next(source.captions()) == [CAT * 500]


@pytest.fixture
def tar(tmp_path, write_tar, numbered):
    def make(members):
        pictures = {f"{number}.png": numbered(number) for number in range(3)}
        write_tar(tmp_path / "a.tar", {**pictures, **members})
        return {"source": "webdataset", "path": str(tmp_path / "a.tar")}

    return make


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("members", "captions"),
    [
        ({"0.txt": b"a\nb\n", "2.txt": b"c"}, [["a", "b"], ["c"]]),
        ({"0.json": b'{"caption": "a"}', "1.json": b'{"prompt": ["b", "c"]}'}, [["a"], ["b", "c"]]),
        # the text in plain words, whatever comes first
        ({"0.json": b'{"text": "j"}', "0.txt": b"t", "1.json": b'{"text": "k"}'}, [["t"], ["k"]]),
        ({"0.txt": b"t", "0.json": b'{"text": "j"}', "0.cls": b"5"}, [["t"]]),
        ({"0.txt": b" \n", "0.json": b'{"text": "j"}'}, [["j"]]),
    ],
)
def test_members_of_a_tar(tar, members, captions, streaming):
    source, _ = opened(tar(members), streaming=streaming)
    assert [row["text"] for row in source.rows] == captions
    if not streaming:
        assert list(source.captions()) == captions and source.labels() is None
        assert f"without a caption: {3 - len(captions)}" in source.summary or len(captions) == 3


def test_a_key_of_ones_own_in_a_tar(tar):
    place = tar({f"{n}.json": json.dumps({"alt": f"no {n}", "id": n}).encode() for n in range(3)})
    with pytest.raises(
        UsageError, match=r"have \.png, \.json, the key alt, the key id\."
    ) as caught:
        opened(place)
    assert "\n" not in str(caught.value)
    assert list(opened(place, text_column="alt")[0].captions()) == [["no 0"], ["no 1"], ["no 2"]]


def test_a_batch_holds_one_caption_for_each_picture(table):
    rows = order(3, 0, 4).tolist() + order(3, 1, 4).tolist() + order(3, 2, 4).tolist()
    expected = [chosen_caption(KEPT[row], 3, at) for at, row in enumerate(rows)]
    found = batches(table(text=SAID))
    assert texts_of(found) == expected
    kept = [0, 1, 3, 4]  # grey levels
    levels = [int(image[0, 0, 0]) for batch in found for image in batch.images]
    assert levels == [kept[row] for row in rows]
    assert all(batch.labels.tolist() == [0] * 4 for batch in found)


@pytest.mark.parametrize("streaming", [False, True])
def test_captions_do_not_depend_on_workers_processes_or_where_a_run_goes_on(table, streaming):
    place = {**table(text=SAID), "streaming": streaming, "shuffle_buffer": 3}
    whole = texts_of(batches(place))
    assert len(set(whole)) > 3
    assert texts_of(batches(place, workers=2)) == whole
    assert texts_of(batches(place, Schedule(2, 3, 4))) == whole[8:]
    halves = [batches(place, Schedule(0, 3, 4, 1, rank, 2)) for rank in range(2)]
    merged = [text for pair in zip(*halves, strict=True) for batch in pair for text in batch.texts]
    assert merged == whole


def test_without_captions_a_batch_has_none(table):
    data = Data(**table(text=list("abcde"), label=[0, 1, 0, 1, 0]), size=8, channels=1)
    source = open_source(data)
    batch = TrainingImages(source.rows, data, 0).__getitems__([0, 1])
    assert batch.texts is None and not source.captioned


def test_an_unreadable_picture_takes_its_caption_with_it(tmp_path, numbered):
    pictures = [{"bytes": numbered(0), "path": None}, {"bytes": b"none", "path": None}]
    table = pa.table({"image": pictures, "text": ["good", "bad"]})
    pq.write_table(table, tmp_path / "a.parquet")
    place = {"source": "parquet", "path": str(tmp_path / "a.parquet")}
    assert set(texts_of(batches(place))) == {"good"}


@pytest.fixture
def encoded(table, tmp_path):
    place = {**table(text=SAID), "flip": True}
    source, data = opened(place)
    encode_source(source, data, PixelAutoencoder(1, 2), tmp_path / "out", batch_size=3)
    return place, {"source": "encoded", "path": str(tmp_path / "out"), "flip": True}


def test_encoded_pictures_keep_their_captions(encoded):
    place, out = encoded
    source, _ = opened(out)
    assert source.rows.column_names == ["latents", "mirrored", "text"]
    assert list(source.captions()) == KEPT
    before, after = batches(place), batches(out)
    assert texts_of(before) == texts_of(after)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(PixelAutoencoder(1, 2).encode(one.images), other.latents)


def test_encoded_captions_are_no_classes_and_the_reverse(encoded, table, tmp_path):
    _, out = encoded
    data = Data(**out, size=8, channels=1)
    with pytest.raises(UsageError, match=r"without classes; set condition\.kind=text, or encode"):
        open_source(data)
    labelled = Data(**table(label=[0, 1, 0, 1, 0]), size=8, channels=1)
    other = tmp_path / "other"
    encode_source(open_source(labelled), labelled, PixelAutoencoder(1, 2), other)
    with pytest.raises(UsageError, match=r"without captions; set condition\.kind=classes, or enc"):
        opened({"source": "encoded", "path": str(other)})
