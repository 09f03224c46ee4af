"""Rebuilds the bundled Fashion-MNIST Parquet files from Debian's package, byte for byte.

    apt-get download dataset-fashion-mnist
    dpkg-deb -x dataset-fashion-mnist_*.deb fashion-mnist
    python tools/build_fashion_mnist.py fashion-mnist/usr/share/datasets/fashion-mnist

writes `train.parquet` (the first 1,000 training images of each class, in the set's order) and
`test.parquet` (the first 200 test images of each class) into `gensynth/data/bundled/`. With
`--full --out DIR` it writes all 60,000 and 10,000. The bytes depend on the versions of Pillow and
pyarrow in `constraints.txt`; `--check` compares instead of writing.
"""

import argparse
import gzip
import io
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features
from datasets import Image as ImageFeature
from PIL import Image

BUNDLED = Path(__file__).parent.parent / "gensynth" / "data" / "bundled"
CLASSES = [
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]
SPLITS = {"train": ("train", 1000), "test": ("t10k", 200)}  # file prefix, images per class


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of an IDX file (a magic number that ends in the number of dimensions)."""
    data = gzip.decompress(path.read_bytes())
    num_dims = data[3]
    shape = np.frombuffer(data, ">u4", num_dims, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * num_dims).reshape(shape)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def parquet(images: np.ndarray, labels: np.ndarray) -> bytes:
    """A Parquet file in the hub's layout: `image` {bytes, path} and `label`."""
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=CLASSES)})
    table = pa.table(
        {
            "image": [{"bytes": png(image), "path": None} for image in images],
            "label": labels.astype(np.int64),
        },
        schema=features.arrow_schema,
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=19, row_group_size=1000)
    return buffer.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="folder with the four .gz files")
    parser.add_argument("--out", type=Path, default=BUNDLED)
    parser.add_argument("--full", action="store_true", help="all images instead of the subset")
    parser.add_argument("--check", action="store_true", help="compare with the files in --out")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    differing = []
    for split, (prefix, per_class) in SPLITS.items():
        images = read_idx(args.source / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(args.source / f"{prefix}-labels-idx1-ubyte.gz")
        if not args.full:
            first = [np.flatnonzero(labels == label)[:per_class] for label in range(len(CLASSES))]
            keep = np.sort(np.concatenate(first))
            images, labels = images[keep], labels[keep]
        path, data = args.out / f"{split}.parquet", parquet(images, labels)
        if args.check:
            same = path.exists() and path.read_bytes() == data
            differing += [] if same else [path.name]
            print(f"{path.name}: {'identical' if same else 'DIFFERENT'}")
        else:
            path.write_bytes(data)
            print(f"{path}: {len(images)} images, {len(data):,} bytes")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
