"""Encoded images as a run is fed with them."""

import datasets
import torch
from torch.utils import data as torch_data

from gensynth.config import Data
from gensynth.data.encoded.record import read_encoding
from gensynth.data.reading.captions import chosen_caption
from gensynth.data.training import Batch, mirrored, order


class EncodedImages(torch_data.Dataset):
    """Encoded images by position: the order, coins and labels of `TrainingImages`."""

    def __init__(self, rows: datasets.Dataset, data: Data, seed: int):
        self.rows, self.flip, self.seed = rows, data.flip, seed
        self.encoding = read_encoding(data)

    def __getitems__(self, positions: list[int]) -> Batch:
        length = len(self.rows)
        places = [divmod(position, length) for position in positions]
        # one indexed read of the whole batch, instead of one for each image
        rows = self.rows[[int(order(self.seed, epoch, length)[at]) for epoch, at in places]]
        latents = [
            self.encoding.tensor(rows[self.column(position)][number])
            for number, position in enumerate(positions)
        ]
        texts = None
        if "text" in rows:
            texts = [
                chosen_caption(captions, self.seed, position)
                for captions, position in zip(rows["text"], positions, strict=True)
            ]
        labels = torch.tensor(rows.get("label", [0] * len(positions)))
        return Batch(None, labels, [], latents=torch.stack(latents), texts=texts)

    def column(self, position: int) -> str:
        return "mirrored" if self.flip and mirrored(self.seed, position) else "latents"
