r"""Exports the newest checkpoint of a run as a small model folder: averaged weights in float16.

    python tools/ship_model.py runs/fashion_mnist/dico_nano_full \
        gensynth/pretrained/dico_nano_fashion

The model card, README.md, is written by hand: it says what no file knows.
"""

import argparse
from pathlib import Path

import torch

from gensynth import load

LARGEST = 6_000_000  # bytes, of a model that comes with the package


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    pipeline = load(args.run, device="cpu").to(torch.float16)
    pipeline.save_pretrained(args.out)
    size = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file())
    print(f"{args.out}: {size:,} bytes")
    if size > LARGEST:
        raise SystemExit(f"error: larger than {LARGEST:,} bytes.")


if __name__ == "__main__":
    main()
