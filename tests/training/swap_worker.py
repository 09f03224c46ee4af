"""Trains each variant for 20 steps in this process group; run under torchrun.

python swap_worker.py FOLDER VARIANT..., where a variant is overrides of the configuration joined by
spaces. The run of the n-th variant is in FOLDER/n.
"""

import sys
from pathlib import Path

from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train

CONFIG = Path(__file__).parents[2] / "configs" / "fashion_mnist" / "dico_nano.yaml"
SHORT = [
    "training.steps=20",
    "training.batch_size=16",
    "training.log_every=1",
    "optimizer.warmup_steps=2",
    "sampling.every=0",
    "data.workers=0",
]


def main() -> None:
    folder, *variants = sys.argv[1:]
    for number, variant in enumerate(variants):
        output = f"output={folder}/{number}"
        train(load_experiment(CONFIG, [output, *SHORT, *variant.split(" ")]))


if __name__ == "__main__":
    main()
