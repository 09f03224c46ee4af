"""Trains each variant for 20 steps in this process group.

A variant is overrides of the configuration joined by spaces. The run of the n-th variant is in
FOLDER/n.
"""

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


def main(folder: str, *variants: str) -> None:
    for number, variant in enumerate(variants):
        output = f"output={folder}/{number}"
        train(load_experiment(CONFIG, [output, *SHORT, *variant.split(" ")]))
