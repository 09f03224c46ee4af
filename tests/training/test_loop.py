"""What a run refuses, survives and writes."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tiny import losses, write_experiment

import gensynth
from gensynth.errors import (
    CorruptError,
    DivergedError,
    InputError,
    OutputError,
    RefusedError,
    UsageError,
)
from gensynth.experiments.read import load_experiment
from gensynth.pipelines.loading import resolve
from gensynth.training.loop import train


def test_run_writes_what_it_promises(tmp_path):
    config = write_experiment(tmp_path, **{"sampling.every": 6, "sampling.num": 20})
    run = train(load_experiment(config))
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints",
        "experiment.yaml",
        "log.jsonl",
        "model",
        "samples",
        "status.json",
        "tensorboard",
    ]
    assert '"finished"' in (run / "status.json").read_text()
    assert sorted(losses(run)) == list(range(1, 13))
    assert [path.name for path in sorted((run / "samples").iterdir())] == [
        "step-00000006.png",
        "step-00000012.png",
    ]
    assert load_experiment(run / "experiment.yaml") == load_experiment(config)
    assert gensynth.load(run).classes[8] == "Bag"


def test_training_learns(tmp_path):
    changes = {"training.steps": 150, "optimizer.lr": 3e-3, "checkpoint.every": 150}
    run = train(load_experiment(write_experiment(tmp_path, **changes)))
    values = list(losses(run).values())
    assert sum(values[-20:]) < 0.6 * sum(values[:20])


@pytest.mark.parametrize("objective", ["flow", "ddpm"])
def test_both_objectives_train_and_sample(objective, tmp_path):
    changes = {"training.steps": 2, "checkpoint.every": 2}
    config = write_experiment(tmp_path, **changes)
    overrides = [] if objective == "flow" else ["objective={name: ddpm}"]
    run = train(load_experiment(config, overrides))
    assert len(gensynth.load(run)(labels=[0, 9], seeds=[1, 2])) == 2


def test_finished_run_can_be_run_again(tmp_path):
    config = write_experiment(tmp_path)
    before = losses(train(load_experiment(config)))
    assert losses(train(load_experiment(config))) == before


def test_other_settings_are_refused(tmp_path):
    config = write_experiment(tmp_path)
    train(load_experiment(config, ["training.steps=1"]))
    with pytest.raises(RefusedError, match=r"optimizer.weight_decay was 0.0, now 0.5"):
        train(load_experiment(config, ["optimizer.weight_decay=0.5"]))


def test_unwritable_output_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    config = write_experiment(tmp_path)
    with pytest.raises(OutputError, match="cannot write to the output folder"):
        train(load_experiment(config, [f"output={tmp_path / 'file' / 'run'}"]))


def test_diverged_run_keeps_its_last_good_state(tmp_path):
    config = write_experiment(tmp_path)
    run = train(load_experiment(config, ["training.steps=4"]))
    state = run / "checkpoints" / "step-00000004" / "state" / "model.safetensors"
    good = state.read_bytes()
    # A rate this large gives infinite weights within a few steps.
    (run / "experiment.yaml").unlink()
    with pytest.raises(DivergedError, match=r"last good state: .*step-00000004"):
        train(load_experiment(config, ["optimizer.lr=1e38", "optimizer.clip=null"]))
    assert state.read_bytes() == good
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000004"]


def corrupt(config, rows):
    """Cuts the PNGs of some rows of the experiment's data."""
    path = config.parent / "images.parquet"
    table = pq.read_table(path)
    images = table.column("image").to_pylist()
    for row in rows:
        images[row] = {"bytes": images[row]["bytes"][:60], "path": None}
    column = pa.array(images, type=table.schema.field("image").type)
    pq.write_table(table.set_column(0, table.schema.field("image"), column), path)


def test_a_corrupt_image_is_skipped_and_counted(tmp_path, capsys):
    config = write_experiment(tmp_path, **{"data.max_corrupt": 0.1})
    corrupt(config, [3, 11])
    run = train(load_experiment(config))
    assert len(losses(run)) == 12
    assert "2 unreadable images skipped so far" in capsys.readouterr().err


def test_too_many_corrupt_images_stop_the_run(tmp_path):
    config = write_experiment(tmp_path, **{"data.max_corrupt": 0.1})
    corrupt(config, [3, 4, 11])
    with pytest.raises(
        CorruptError, match=r"3 of 20 images cannot be decoded.*row 3, row 4, row 11"
    ):
        train(load_experiment(config))


def test_malicious_state_is_not_executed(tmp_path):
    """Optimiser state is a pickle by torch's choice; it is read with weights_only."""
    config = write_experiment(tmp_path)
    run = train(load_experiment(config, ["training.steps=4"]))
    checkpoint = run / "checkpoints" / "step-00000004"
    marker = tmp_path / "executed"

    class Payload:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    torch.save(Payload(), checkpoint / "state" / "optimizer.bin")
    with pytest.raises(CorruptError):
        train(load_experiment(config))  # the manifest does not match
    assert not marker.exists()


def test_picture_sizes_other_than_the_models(tmp_path):
    """Photographs of any size and mode go through the crop."""
    folder = tmp_path / "photos" / "cat"
    folder.mkdir(parents=True)
    (tmp_path / "photos" / "dog").mkdir()
    Image.new("RGB", (20, 30)).save(tmp_path / "photos" / "dog" / "a.webp")
    for index, (mode, size) in enumerate([("RGB", (90, 40)), ("L", (33, 64)), ("RGBA", (40, 40))]):
        Image.new(mode, size, 128 if mode == "L" else (9, 99, 199, 128)[: len(mode)]).save(
            folder / f"{index}.png"
        )
    buffer = io.BytesIO()
    Image.new("CMYK", (50, 60)).save(buffer, "JPEG")
    (folder / "c.jpg").write_bytes(buffer.getvalue())
    config = write_experiment(tmp_path / "x", **{"training.steps": 2})
    data = f"data={{source: imagefolder, path: {folder.parent}, size: 16, workers: 0}}"
    run = train(load_experiment(config, [data, "checkpoint.every=2"]))
    assert gensynth.load(run).classes == ["cat", "dog"]


def test_bf16_trains_on_a_cpu(tmp_path):
    config = write_experiment(tmp_path, **{"training.steps": 4})
    run = train(load_experiment(config, ["training.mixed_precision=bf16"]))
    exact = train(load_experiment(config, [f"output={tmp_path / 'exact'}"]))
    for step, loss in losses(exact).items():
        assert losses(run)[step] == pytest.approx(loss, rel=0.02)
    assert losses(run) != losses(exact)


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 is fine on a GPU")
def test_fp16_without_a_gpu_is_refused(tmp_path):
    config = write_experiment(tmp_path)
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        train(load_experiment(config, ["training.mixed_precision=fp16"]))


def test_infinite_weights_are_never_saved(tmp_path):
    """The loss before an update is finite, the weights after it are not."""
    config = write_experiment(tmp_path, **{"checkpoint.every": 1, "training.steps": 1})
    overrides = ["optimizer.lr=3e38", "optimizer.warmup_steps=0", "optimizer.weight_decay=1e5"]
    with pytest.raises(DivergedError, match="the weights are not finite at step 1"):
        train(load_experiment(config, overrides))
    assert not list((tmp_path / "run" / "checkpoints").glob("step-*"))
    assert '"failed"' in (tmp_path / "run" / "status.json").read_text()


def test_a_failed_start_does_not_claim_the_folder(tmp_path):
    config = write_experiment(tmp_path)
    with pytest.raises(InputError):
        train(load_experiment(config, ["data.path=nowhere.parquet"]))
    train(load_experiment(config, ["training.steps=1"]))


def test_an_extended_run_is_not_represented_by_its_old_model(tmp_path):
    config = write_experiment(tmp_path)
    run = train(load_experiment(config, ["training.steps=4"]))
    corrupt(config, range(20))
    with pytest.raises(CorruptError):
        train(load_experiment(config))
    assert resolve(run) == run / "checkpoints" / "step-00000004" / "model"


def test_a_truncated_experiment_file_does_not_block_the_run(tmp_path):
    config = write_experiment(tmp_path)
    run = train(load_experiment(config, ["training.steps=4"]))
    (run / "experiment.yaml").write_text("")
    assert len(losses(train(load_experiment(config)))) == 12


def test_stream_with_a_wrong_label_is_refused(tmp_path):
    changes = {"data.streaming": True, "data.classes": ["a", "b"]}
    config = write_experiment(tmp_path, **changes)
    with pytest.raises(UsageError) as error:
        train(load_experiment(config))
    assert "but there are 2 classes" in str(error.value)
    assert "Traceback" not in str(error.value)


def test_stream_with_a_corrupt_image_resumes_bit_equal(tmp_path):
    changes = {"data.streaming": True, "data.classes": [str(n) for n in range(10)]}
    changes |= {"data.max_corrupt": 0.5}
    runs = []
    for name, stops in (("whole", [12]), ("parts", [1, 2, 3, 7, 12])):
        config = write_experiment(tmp_path / name, **changes)
        corrupt(config, [0, 5, 6, 13])
        for stop in stops:
            run = train(load_experiment(config, [f"training.steps={stop}"]))
        runs.append(losses(run))
    assert runs[0] == runs[1]
