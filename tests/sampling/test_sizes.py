import pytest

from gensynth.sampling.job import Job, run
from gensynth.settings import Settings


@pytest.mark.parametrize(("size", "said"), [(64, True), (48, False), (None, False)])
def test_pictures_far_larger_than_those_of_training_are_said(
    tiny_model_folder, tmp_path, capsys, size, said
):
    run(Job(str(tiny_model_folder), "1", 1, 0, Settings(steps=1, size=size)), tmp_path / "out")
    warning = "was trained on pictures of 32x32; at 64x64 they are apt to repeat or fall apart"
    assert (warning in capsys.readouterr().err) == said
