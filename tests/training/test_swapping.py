"""One word of the configuration changes the backbone or the mixer, and two processes train it."""

import subprocess
import sys
from pathlib import Path

from tiny import losses

VARIANTS = [
    "model.name=DiCo-nano",
    "model.name=DiC-nano",
    "model.name=DiT-nano/2",
    'model.name=DiT-nano/2 objective={"name":"ddpm"}',
    "model.name=SiT-nano/2",
    "model.name=MDTv2-nano/2",
    *(
        f"model.name=DiT-nano/2 model.mixer={mixer}"
        for mixer in ("linear", "local", "rala", "inline", "nala")
    ),
]


def test_every_backbone_and_mixer_learns_in_two_processes(tmp_path):
    worker = Path(__file__).parent / "swap_worker.py"
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run([*launch, str(worker), str(tmp_path), *VARIANTS], check=True, timeout=900)
    for number, variant in enumerate(VARIANTS):
        curve = losses(tmp_path / str(number))
        assert len(curve) == 20, variant
        first, last = (sum(curve[step] for step in steps) for steps in (range(1, 6), range(16, 21)))
        assert last < 0.95 * first, (variant, curve)
