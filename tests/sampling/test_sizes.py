import pytest

from gensynth.sampling.job import Job, run
from gensynth.settings import Settings


@pytest.mark.parametrize(("size", "said"), [(64, True), (48, True), (32, False), (None, False)])
def test_pictures_of_another_size_than_those_of_training_are_said(
    tiny_model_folder, tmp_path, capsys, size, said
):
    run(Job(str(tiny_model_folder), "1", 1, 0, Settings(steps=1, size=size)), tmp_path / "out")
    warning = f"was trained on 32x32 pixels; at {size}x{size} its pictures are likely to be worse"
    assert (warning in capsys.readouterr().err) == said
