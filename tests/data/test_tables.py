"""Tables that `datasets` reads: its patterns, and its cache."""

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gensynth.config import Data
from gensynth.data.files.image_set import open_images
from gensynth.data.sources import open_source
from gensynth.errors import OutputError, UsageError


@pytest.fixture
def table(tmp_path, numbered):
    path = tmp_path / "set [v1]" / "a*[b].parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"image": [numbered(n) for n in range(3)], "label": [0, 1, 0]}), path)
    return path


@pytest.mark.parametrize("streaming", [False, True])
def test_brackets_in_the_path_of_a_table(table, streaming):
    places = (table, table.parent, f"{table.parent}/*.parquet")
    for place in places:
        data = Data(source="parquet", path=str(place), streaming=streaming, classes=["a", "b"])
        assert [row["label"] for row in open_source(data).rows] == [0, 1, 0]
    assert [open_images(str(place)).length for place in places] == [3, 3, 3]


@pytest.mark.parametrize("bundled", [False, True])
def test_a_cache_that_cannot_be_written_is_named_with_its_variable(
    table, tmp_path, monkeypatch, bundled
):
    (tmp_path / "file").write_text("no folder")
    cache = tmp_path / "file" / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    data = Data() if bundled else Data(source="parquet", path=str(table))
    with pytest.raises(OutputError, match=f"{cache}, cannot be written.*Set HF_HOME") as caught:
        open_source(data)
    assert "damaged" not in str(caught.value)
    # the advice
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "home" / "datasets")
    assert len(open_source(data).rows) in (3, 10_000)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_column_of_numbers_is_no_pictures(tmp_path, streaming):
    pq.write_table(pa.table({"image": [1, 2], "label": [0, 1]}), tmp_path / "a.parquet")
    data = Data(source="parquet", path=str(tmp_path / "a.parquet"), streaming=streaming)
    with pytest.raises(UsageError, match=r"image holds int64, no pictures. Set data\.image_column"):
        open_source(data)


def test_folders_and_tars_need_no_cache(tmp_path, monkeypatch, numbered, write_tar):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(numbered(1))
    write_tar(tmp_path / "a.tar", {"1.png": numbered(1)})
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "a.tar" / "none")
    for kind, place in (("imagefolder", tmp_path), ("webdataset", tmp_path / "a.tar")):
        assert len(open_source(Data(source=kind, path=str(place))).rows) == 1
