"""Our numbers beside torch-fidelity's, where it is installed; what is said where it is not."""

import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image

from gensynth.data.files.image_set import open_images
from gensynth.errors import InputError, UsageError
from gensynth.evaluation.checking.cross_check import Row, check_available, cross_check, print_rows
from gensynth.evaluation.measuring.measure import measure
from gensynth.metrics import Statistics
from gensynth.metrics.extractors import open_extractor
from gensynth.metrics.extractors.inception_features import random_inception

COUNT = 12


def test_other_peers_and_other_spaces():
    with pytest.raises(UsageError, match="known: torch-fidelity"):
        check_available("clean-fid", "inception-2015")
    with pytest.raises(UsageError, match="has no lite0-64"):
        check_available("torch-fidelity", "lite0-64")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(InputError, match=r"pip install 'gensynth\[fidelity\]'"):
        check_available("torch-fidelity", "inception-2015")


def test_a_table_of_both(capsys):
    rows = [Row("fid", "FID", 2.0, 1.0), Row("kid", "KID", 0.0, 0.0)]
    assert (rows[0].difference, rows[1].difference) == (0.5, 0.0)
    print_rows(rows)
    printed = capsys.readouterr().out
    assert "torch-fidelity" in printed and "5.0e-01" in printed


def test_the_same_numbers(tmp_path, monkeypatch):
    try:
        check_available("torch-fidelity", "inception-2015")
    except InputError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("GENSYNTH_CACHE", str(tmp_path / "cache"))
    weights = tmp_path / "weights.pth"
    torch.save(random_inception(0).tensors, weights)
    generator = torch.Generator().manual_seed(0)
    for name, darkest in (("samples", 128), ("real", 256)):
        (tmp_path / name).mkdir()
        for number in range(COUNT):
            levels = darkest if number % 2 else 256
            pixels = torch.randint(levels, (32, 32, 3), dtype=torch.uint8, generator=generator)
            Image.fromarray(pixels.numpy()).save(tmp_path / name / f"{number}.png")
    samples, real = (open_images(str(tmp_path / name)) for name in ("samples", "real"))
    measured = measure(samples, real, open_extractor("inception-2015", weights))
    rows = {row.key: row for row in cross_check(measured, weights)}
    print_rows(list(rows.values()))
    assert set(rows) == {"fid", "is", "kid", "precision", "recall"}
    assert rows["is"].difference < 1e-9
    assert rows["fid"].difference < 1e-4  # their eigenvalues lose digits with few images
    # Theirs in float32: digits of kernel values of about 10.
    assert rows["kid"].ours == pytest.approx(rows["kid"].theirs, abs=5e-6)
    assert 0 < rows["precision"].ours < 1
    for key in ("precision", "recall"):  # theirs is a mean in float32
        assert rows[key].ours == pytest.approx(rows[key].theirs, abs=1e-6)
    # Statistics from a file that also holds images, as ADM's: the distance is to the statistics.
    other = Statistics.of(torch.rand(64, 2048, dtype=torch.float64, generator=generator))
    stored = replace(measured.reference, statistics={"pool": other}, meta={})
    changed = {row.key: row for row in cross_check(replace(measured, reference=stored), weights)}
    assert changed["fid"].theirs != pytest.approx(rows["fid"].theirs, rel=0.1)
    assert changed["recall"] == rows["recall"]
