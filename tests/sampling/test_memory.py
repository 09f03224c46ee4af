"""What is advised where memory is full: something that can help."""

import numpy as np
import pytest
import torch
from PIL import Image

from gensynth.errors import DeviceMemoryError, UsageError
from gensynth.sampling.edits import EditJob
from gensynth.sampling.edits import run as edit
from gensynth.sampling.generate import generate, plan
from gensynth.sampling.job import Job, run
from gensynth.settings import Settings

FULL = [
    torch.OutOfMemoryError("CUDA out of memory."),
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("Storage size calculation overflowed with sizes=[1, 3, 99999999999]"),
]


def failing(error: Exception, fits: int = 0):
    def draw(items, seeds):
        if len(seeds) > fits:
            raise error
        return seeds

    return draw


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:12])
def test_one_picture_is_not_advised_a_smaller_batch(error):
    for batch_size in (1, 16):
        with pytest.raises(
            DeviceMemoryError, match=r"one picture alone\. Try a smaller --size"
        ) as e:
            list(generate(failing(error), plan([0], 1, 0), batch_size))
        assert "batch" not in str(e.value)


def test_several_are_advised_a_batch_that_is_smaller_and_fits_in_the_end():
    pictures, batch_size, tried = plan([0], 13, 0), 16, []
    while True:
        try:
            made = list(generate(failing(FULL[1], fits=3), pictures, batch_size))
            break
        except DeviceMemoryError as error:
            advised = int(str(error).split("--batch-size ")[1].rstrip("."))
            assert advised < batch_size
            batch_size = advised
            tried.append(advised)
    assert len(made) == 13 and tried == [6, 3]


def test_another_error_stays_what_it_is():
    with pytest.raises(RuntimeError, match="shapes"):
        list(generate(failing(RuntimeError("shapes do not match")), plan([0], 1, 0)))


def test_a_size_that_no_machine_has_memory_for(tiny_model_folder, tmp_path):
    job = Job(str(tiny_model_folder), "1", 1, 0, Settings(size=2**20, steps=1))
    with pytest.raises(UsageError, match=r"too large: .* takes 12,288 GiB"):
        run(job, tmp_path / "out")
    job.settings = Settings(size=8, steps=1)
    assert run(job, tmp_path / "other").is_dir()  # the advice works


@pytest.mark.parametrize("where", ["encode", "decode"])
def test_an_edit_is_advised_a_smaller_picture(make_pipeline, tmp_path, monkeypatch, where):
    draw = make_pipeline("tokens", steps=2)
    draw.save_pretrained(tmp_path / "model")
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "image.png")

    whole = getattr(type(draw.autoencoder), where)

    def full(codec, sample):
        if sample[0, 0].numel() > 1:  # one token alone is what loading rehearses
            raise torch.OutOfMemoryError
        return whole(codec, sample)

    monkeypatch.setattr(type(draw.autoencoder), where, full)
    job = EditJob(str(tmp_path / "model"), tmp_path / "image.png")
    with pytest.raises(DeviceMemoryError, match="Try a smaller picture or canvas") as refused:
        edit(job, tmp_path / "out.png")
    assert "--batch-size" not in str(refused.value) and "--size" not in str(refused.value)
    assert not (tmp_path / "out.png").exists()


def test_sizes_beyond_what_torch_can_count_are_refused_in_words(tiny_pipeline):
    with pytest.raises(UsageError, match="1,048,576 pixels at most"):
        tiny_pipeline([0], [0], steps=1, size=2**70)
