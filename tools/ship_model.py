r"""Exports the newest checkpoint of a run as a small model folder: averaged weights in float16.

    python tools/ship_model.py runs/fashion_mnist/dico_nano_full \
        gensynth/pretrained/dico_nano_fashion

With --config FILE the model draws as the `sampling:` section there says, not as that of the run.
The model card, README.md, is written by hand: it says what no file knows.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from gensynth import load, load_experiment
from gensynth.experiments.build import build_pipeline

LARGEST = 26_000_000  # bytes, of a model that comes with the package


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path)
    args = parser.parse_args()
    pipeline: Any = load(args.run, device="cpu")
    if args.config:
        experiment = load_experiment(args.config)
        classes, codec = pipeline.classes, pipeline.autoencoder
        pipeline = build_pipeline(experiment, pipeline.model, classes, codec)
    pipeline = pipeline.to(torch.float16)
    pipeline.save_pretrained(args.out)
    size = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file())
    print(f"{args.out}: {size:,} bytes")
    if size > LARGEST:
        raise SystemExit(f"error: larger than {LARGEST:,} bytes.")


if __name__ == "__main__":
    main()
