import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gensynth.errors import CorruptError, OutputError
from gensynth.training.session.checkpoint import MANIFEST, Checkpoints, problem_with


def write(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "a.txt").write_text("a")
    save_file({"x": torch.arange(1000.0)}, folder / "x.safetensors")


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints", keep=2)


def test_keeps_the_newest(checkpoints):
    for step in (5, 10, 15):
        checkpoints.save(step, write)
    assert [path.name for path in checkpoints.all()] == ["step-00000010", "step-00000015"]
    assert checkpoints.newest() == checkpoints.root / "step-00000015"


def test_fresh_run_has_none(checkpoints):
    assert checkpoints.newest() is None


@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "manifest", "no manifest"])
def test_damaged_checkpoint_is_passed_over(checkpoints, damage, capsys):
    good, bad = checkpoints.save(1, write), checkpoints.save(2, write)
    file = bad / "x.safetensors"
    if damage == "flip":
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "delete":
        file.unlink()
    elif damage == "manifest":
        (bad / MANIFEST).write_text("{")
    else:
        (bad / MANIFEST).unlink()
    assert problem_with(good) is None
    assert checkpoints.newest() == good
    assert "is damaged" in capsys.readouterr().err
    assert bad.with_suffix(".bad").is_dir() and not bad.exists()


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"files": []}',
        b'{"files": {}}',
        b'{"files": {"x.safetensors": 5}}',
        b'{"files": {"x.safetensors": [Infinity, "a"]}}',
        b'{"files": {"x.safetensors": [[1], "a", 3]}}',
    ],
)
def test_a_manifest_of_any_other_kind_is_damage(checkpoints, manifest):
    good, bad = checkpoints.save(1, write), checkpoints.save(2, write)
    (bad / MANIFEST).write_bytes(manifest)
    assert problem_with(bad) == f"{MANIFEST} is not readable"
    assert checkpoints.newest() == good


def test_only_damaged_ones_left(checkpoints):
    (checkpoints.save(1, write) / "x.safetensors").unlink()
    with pytest.raises(CorruptError, match=r"step-00000001 \(x.safetensors is missing\)"):
        checkpoints.newest()


def test_interrupted_save_leaves_the_old_ones(checkpoints):
    good = checkpoints.save(1, write)

    def interrupted(folder: Path) -> None:
        write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(2, interrupted)
    assert checkpoints.newest() == good
    checkpoints.save(2, write)
    assert not list(checkpoints.root.glob("*.tmp"))


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from accelerate import Accelerator
from gensynth.training.session.checkpoint import Checkpoints
from gensynth.errors import OutputError

model = torch.nn.Linear(100, 1000)
accelerator = Accelerator(cpu=True)
model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
model(torch.zeros(1, 100)).sum().backward()
optimizer.step()
checkpoints = Checkpoints(Path(sys.argv[1]), keep=2)
save = lambda folder: accelerator.save_state(str(folder / "state"))
checkpoints.save(1, save)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    checkpoints.save(2, save)
except OutputError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("limit", [100_000, 600_000])  # in the weights, in the optimiser's state
def test_full_disk(tmp_path, limit):
    root = tmp_path / "checkpoints"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(root), str(limit)], capture_output=True, text=True
    )
    assert done.returncode == OutputError.exit_code, done.stderr
    assert "step-00000001 is the last good state" in done.stdout
    assert [path.name for path in root.iterdir()] == ["step-00000001"]
    assert problem_with(root / "step-00000001") is None


def test_manifest_lists_every_file(checkpoints):
    folder = checkpoints.save(1, write)
    files = json.loads((folder / MANIFEST).read_text())["files"]
    assert set(files) == {"inner/a.txt", "x.safetensors"}
    assert files["inner/a.txt"][0] == 1
