r"""Trains the scorer of pictures and captions that comes along: minutes on two cores.

    python tools/train_scorer.py emoji-64 gensynth/pretrained/emoji_scorer

`emoji-64` is what `python tools/build_emoji.py --size 64 --out emoji-64` makes.

Prints what it recalls of the real held-out pairs, which no sample can be expected to surpass. With
--validate 700 so many pairs of train.parquet are held out instead and the test pairs are not
touched: for choices. --features FILE keeps the features of the pictures for another try. README.md
of the folder is written by hand.
"""

import argparse
import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from gensynth.conditions.tokens import learn_tokenizer
from gensynth.data.files.image_set import open_images
from gensynth.evaluation.measuring.agreement import retrieval_scores
from gensynth.metrics.extractors.lite0 import Lite0Features
from gensynth.metrics.extractors.scorer import (
    SEEN,
    VOCABULARY,
    WEIGHTS,
    WORDS,
    EmojiScorer,
    Heads,
    kept_positions,
    token_ids,
)

STEPS, BATCH, RATE, DECAY = 400, 512, 2e-3, 0.1
WARM_UP = 0.1  # share of the steps
TEMPERATURE = 0.07  # at the start, as CLIP's; its inverse is learnt up to MOST
MOST = 100.0
SEED = 0

Pairs = tuple[Tensor, list[str]]  # pictures uint8 [N, 3, H, W] and their captions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--validate", type=int, default=0, metavar="PAIRS")
    parser.add_argument("--features", type=Path, metavar="FILE")
    args = parser.parse_args()
    train = read(args.data / "train.parquet")
    test = read(args.data / "test.parquet") if not args.validate else None
    if test is None:
        train, test = held_out(train, args.validate)
    words = learn_tokenizer(train[1], VOCABULARY)
    features = kept_features(args.features, train[0])
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        heads = trained(features, token_ids(Tokenizer.from_str(words), train[1]))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / WORDS).write_text(words + "\n", encoding="utf-8")
    state = {name: tensor.half().contiguous() for name, tensor in heads.state_dict().items()}
    save_file(state, args.out / WEIGHTS)
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(f"{args.out}: {size:,} bytes")
    scorer = EmojiScorer(args.out)  # as it was stored
    pictures = torch.cat([scorer(some)["embedding"] for some in test[0].split(64)])
    for score in retrieval_scores(scorer, (pictures, test[1]), None):
        chance = score.details["chance"]
        print(f"{score.name} of {len(test[1])} real pairs: {score.value:.3f} (chance {chance:.4f})")


def read(path: Path) -> Pairs:
    """All pictures and captions of a file."""
    images = open_images(str(path))
    assert images.texts is not None, f"{path} has no captions"
    pictures = torch.cat([batch for _, batch in images.batches(range(images.length))])
    return pictures, list(images.texts)


def held_out(pairs: Pairs, count: int) -> tuple[Pairs, Pairs]:
    """The pairs without `count` of them, whose things stay in other styles; and those."""
    names = [caption.rpartition(", ")[0] for caption in pairs[1]]
    left, chosen = Counter(names), []
    order = list(range(len(names)))
    random.Random(SEED).shuffle(order)
    for row in order:
        if len(chosen) < count and left[names[row]] > 1:
            left[names[row]] -= 1
            chosen.append(row)
    others = sorted(set(order) - set(chosen))
    return part(pairs, others), part(pairs, sorted(chosen))


def part(pairs: Pairs, rows: Sequence[int]) -> Pairs:
    return pairs[0][rows], [pairs[1][row] for row in rows]


def kept_features(path: Path | None, pictures: Tensor) -> Tensor:
    """The features [N, FEATURES] of pictures, float16; from a file if it is there."""
    if path is not None and path.is_file():
        features = load_file(path)["features"]
        assert len(features) == len(pictures), f"{path} is of other pictures"
        return features
    features = features_of(pictures)
    if path is not None:
        save_file({"features": features}, path)
    return features


@torch.no_grad()
def features_of(pictures: Tensor) -> Tensor:
    lite0, parts = Lite0Features(SEEN), []
    for some in pictures.split(128):
        parts.append(kept_positions(lite0.maps(lite0.preprocess(some))).half())
        print(f"features {len(parts)} of {-(-len(pictures) // 128)}", flush=True)
    return torch.cat(parts)


def trained(features: Tensor, ids: Tensor) -> Heads:
    """The heads after `STEPS` steps of CLIP's loss on pictures [N, FEATURES] and tokens [N, L]."""
    heads = Heads()
    torch.nn.init.normal_(heads.text.token.weight, std=0.2)
    torch.nn.init.normal_(heads.text.pair.weight, std=0.02)
    heads.picture.mean.copy_(features.float().mean(0))
    heads.picture.deviation.copy_(features.float().std(0) + 1e-2)
    sharpness = torch.nn.Parameter(torch.tensor(-math.log(TEMPERATURE)))
    weights = [*heads.parameters(), sharpness]
    optimiser = torch.optim.AdamW(weights, RATE, weight_decay=DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS, pct_start=WARM_UP)
    own = torch.arange(BATCH)
    for step in range(STEPS):
        rows = torch.randperm(len(ids))[:BATCH]
        pictures = F.normalize(heads.picture(features[rows].float()), dim=1)
        texts = F.normalize(heads.text(ids[rows]), dim=1)
        logits = sharpness.exp().clamp(max=MOST) * pictures @ texts.T
        loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
        if step % 100 == 0 or step == STEPS - 1:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    return heads.eval()


if __name__ == "__main__":
    main()
