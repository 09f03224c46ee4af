"""The names and WordNet ids of ImageNet's 1,000 classes, which all published models draw."""

from pathlib import Path

from gensynth.conditions import Classes

COUNT = 1000
FILE = Path(__file__).with_name("imagenet.txt")


def imagenet_classes(null: int | None) -> Classes:
    """ImageNet's classes, each with all its names: "tench, Tinca tinca", "n01440764".

    Args:
        null: the number that means "no class", see `Classes`.
    """
    lines = FILE.read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" ", 1) for line in lines if not line.startswith("#")]
    return Classes([names for _, names in pairs], null, [synset for synset, _ in pairs])
