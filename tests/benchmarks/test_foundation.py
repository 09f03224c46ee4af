"""The benchmark runs; what it measures is nobody's business here."""

import torch

from gensynth_benchmarks.foundation import print_table, sampling, training


def test_rows_and_table(capsys):
    rows = [
        training("DiCo-nano", 4, torch.channels_last, "cpu", 0.1),
        sampling("DiCo-nano", 2, "cpu", 0.1),
    ]
    assert all(row.images_per_second > 0 and row.peak_gib > 0 for row in rows)
    assert 0 <= rows[0].data_wait <= 1 and rows[1].data_wait is None
    print_table(rows, "cpu")
    printed = capsys.readouterr().out
    assert "training" in printed and "sampling" in printed and "channels-last" in printed
