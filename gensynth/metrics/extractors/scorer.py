"""A small scorer of emoji and their captions, which comes along.

Two small networks, trained once by `tools/train_scorer.py` so that a picture and its caption get
embeddings near to each other (the loss of CLIP, arXiv 2103.00020). It knows emoji in the styles it
was trained on, and nothing else: what it finds is no CLIP score.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from gensynth.metrics.extractors.lite0 import Lite0Features
from gensynth.metrics.extractors.pairs import PairScorer
from gensynth.metrics.extractors.weights import sha256_of
from gensynth.pretrained import SCORER

NAME = "emoji-scorer"
WEIGHTS, WORDS = "scorer.safetensors", "tokenizer.json"
SEEN = 64  # pixels a side that Lite0 sees
SIDE = 32  # pixels a side of `rgb32`
# Stages whose mean and deviation over positions tell styles apart, and then positions a side that
# are kept of later ones, which tell things apart.
TEXTURE = ("s32", "s16", "s24", "s40")
CONTENT = {"s112": 2, "s320": 1, "h1280": 1}
FEATURES = 2 * (32 + 16 + 24 + 40) + 112 * 4 + 320 + 1280
EMBEDDING, HIDDEN = 128, 384
VOCABULARY, LENGTH = 1500, 32  # tokens known, and of a caption
PAIRS = 4096  # rows for two tokens in a row, which share them by a hash
SPREAD = 1_000_003  # of that hash


class PictureHead(nn.Module):
    """Features of Lite0 [B, FEATURES] -> embeddings [B, EMBEDDING]."""

    def __init__(self) -> None:
        super().__init__()
        # of the training pictures, so that wide features count no more than narrow ones
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("deviation", torch.ones(FEATURES))
        self.layers = nn.Sequential(
            nn.Dropout(0.2),
            nn.Linear(FEATURES, HIDDEN),
            nn.GELU(),
            nn.Dropout(0.3),
            nn.Linear(HIDDEN, EMBEDDING),
        )

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.layers((features - self.mean) / self.deviation)
        return found


class TextHead(nn.Module):
    """Tokens int64 [B, L], 0 where there are none -> embeddings [B, EMBEDDING].

    The sum of a vector for each token and for each two that follow each other, which tells
    captions of the same words in another order apart. Nothing but a sum: with layers behind it
    things were learnt together with the styles they were seen in, and held-out pairs found less.
    """

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, EMBEDDING)
        self.pair = nn.Embedding(PAIRS, EMBEDDING)

    def forward(self, ids: Tensor) -> Tensor:
        there = (ids > 0).unsqueeze(2).float()  # [B, L, 1]
        pairs = (ids[:, :-1] * SPREAD + ids[:, 1:]) % PAIRS
        words = (self.token(ids) * there).sum(1)
        return words + (self.pair(pairs) * there[:, 1:]).sum(1)


class Heads(nn.Module):
    """What is trained: a head for pictures and one for texts."""

    def __init__(self) -> None:
        super().__init__()
        self.picture, self.text = PictureHead(), TextHead()


def kept_positions(maps: dict[str, Tensor]) -> Tensor:
    """The stages of Lite0 as one row of features [B, FEATURES] for each picture."""
    parts = [maps[name].mean((2, 3)) for name in TEXTURE]
    parts += [maps[name].std((2, 3)) for name in TEXTURE]
    parts += [F.adaptive_avg_pool2d(maps[name], side).flatten(1) for name, side in CONTENT.items()]
    return torch.cat(parts, 1)


def token_ids(tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    """The tokens of texts, int64 [B, LENGTH], 0 behind their end; longer texts are cut."""
    ids = torch.zeros(len(texts), LENGTH, dtype=torch.int64)
    for row, found in enumerate(tokenizer.encode_batch(texts)):
        kept = found.ids[:LENGTH]
        ids[row, : len(kept)] = torch.tensor(kept)
    return ids


class EmojiScorer(PairScorer):
    """Embeddings of emoji and captions, and the features that neighbours are looked for in.

    `embedding` [B, 128] of length 1, which texts have too; `h1280` [B, 1280] as of lite0-64;
    `rgb32` [B, 3072]: the pixels at 32x32, scaled so that the Euclidean distance of two pictures is
    the root of their mean square difference in grey levels, from 0 to 255.
    """

    def __init__(self, folder: Path = SCORER) -> None:
        path = folder / WEIGHTS
        super().__init__(
            NAME,
            f"lite0-{SEEN}, and bilinear antialiased to {SIDE}",
            {"embedding": EMBEDDING, "h1280": 1280, "rgb32": 3 * SIDE**2},
            sha256_of(path),
            official=True,
        )
        self.lite0 = Lite0Features(SEEN)
        self.heads = Heads()
        state = {name: tensor.float() for name, tensor in load_file(path).items()}
        self.heads.load_state_dict(state)
        self.heads.eval().requires_grad_(False)
        self.tokenizer = Tokenizer.from_file(str(folder / WORDS))

    def preprocess(self, images: Tensor) -> Tensor:
        return images.float()

    def features(self, pixels: Tensor) -> dict[str, Tensor]:
        maps = self.lite0.maps(self.lite0.preprocess(pixels))
        small = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
        return {
            "embedding": F.normalize(self.heads.picture(kept_positions(maps)), dim=1),
            "h1280": maps["h1280"].mean(dim=(2, 3)),
            "rgb32": small.flatten(1) / (3 * SIDE**2) ** 0.5,
        }

    def texts(self, texts: list[str]) -> Tensor:
        found: Tensor = self.heads.text(token_ids(self.tokenizer, texts).to(self.device))
        return found
