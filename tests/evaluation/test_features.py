"""Features in files: who wrote them, and how often, does not show."""

import numpy as np
import pytest
import torch

from gensynth.errors import OutputError
from gensynth.evaluation.measuring import features
from gensynth.evaluation.measuring.features import (
    Effort,
    FeatureFiles,
    duplicates,
    extract,
    feature_files,
    selection,
)


class Means(torch.nn.Module):
    """A feature space: the mean of each channel."""

    name, fingerprint, dims = "means", "0", {"mean": 3}

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        return {"mean": images.float().mean(dim=(2, 3))}


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(features, "IMAGES_OF_A_FILE", 8)


@pytest.fixture
def pictures(make_pictures, request):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (30, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return make_pictures(request.node.name, pixels)


@pytest.mark.parametrize("batch_size", [1, 5, 8, 30])
def test_features_are_in_the_order_asked_for(pictures, batch_size):
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1)).tolist()
    files = extract(pictures, order, Means(), Effort(batch_size))
    expected = pictures.pixels[order].float().mean(dim=(2, 3))
    assert torch.equal(files.all("mean"), expected)
    positions = torch.cat([index for index, _ in files.read("mean")])
    assert torch.equal(positions, torch.arange(30))
    files.remove()
    assert not files.folder.exists()


def test_an_interrupted_run_goes_on(pictures, make_pictures):
    class Broken(type(pictures)):
        def batches(self, indices, batch_size, workers=0):
            for number, batch in enumerate(super().batches(indices, batch_size)):
                if number == 4:
                    raise KeyboardInterrupt
                yield batch

    broken = Broken(pictures.name, pictures.pixels)
    with pytest.raises(KeyboardInterrupt):
        extract(broken, range(30), Means(), Effort(4))
    extractor, ticks = Means(), []
    files = extract(pictures, range(30), extractor, Effort(4, tick=ticks.append))
    assert extractor.seen == 30 - 16  # four batches of four were in two whole files
    assert ticks[0] == 16 and sum(ticks) == 30
    assert torch.equal(files.all("mean"), pictures.pixels.float().mean(dim=(2, 3)))


def test_a_damaged_file_is_made_again(pictures):
    files = extract(pictures, range(30), Means(), Effort())
    files.path(files.ranges[1]).write_bytes(b"half of a f")
    again = extract(pictures, range(30), Means(), Effort())
    assert torch.equal(again.all("mean"), pictures.pixels.float().mean(dim=(2, 3)))


def test_each_set_and_space_has_its_own_folder(pictures, make_pictures):
    extractor, other = Means(), Means()
    other.fingerprint = "1"
    folders = {
        feature_files(pictures, range(30), extractor).folder,
        feature_files(pictures, range(20), extractor).folder,
        feature_files(pictures, [3, 1, 2], extractor).folder,
        feature_files(pictures, [1, 2, 3], extractor).folder,
        feature_files(pictures, range(30), other).folder,
        feature_files(make_pictures("other", pictures.pixels), range(30), extractor).folder,
    }
    assert len(folders) == 6


def test_copies_are_counted(pictures):
    pictures.pixels[7] = pictures.pixels[2]
    pictures.pixels[9] = pictures.pixels[2]
    assert duplicates(extract(pictures, range(30), Means(), Effort())) == 2


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    files = FeatureFiles(tmp_path / "file" / "below", 3)
    with pytest.raises(OutputError, match="GENSYNTH_CACHE"):
        files.write(range(3), {"mean": torch.zeros(3, 3)})


def test_a_selection_is_the_same_every_time_and_without_repetition():
    chosen = selection(100, 10, 0)
    assert list(chosen) == list(selection(100, 10, 0)) != list(selection(100, 10, 1))
    assert len(set(chosen)) == 10 and max(chosen) < 100
    assert list(selection(100, 20, 0))[:10] == list(chosen)
    assert list(selection(5, 10, 0)) == list(selection(5, None, 0)) == [0, 1, 2, 3, 4]
    assert all(isinstance(index, int) and not isinstance(index, np.integer) for index in chosen)
