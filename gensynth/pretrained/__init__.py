"""Models that come with the package: name -> folder."""

from pathlib import Path

DEFAULT = "dico-nano-fashion"
TOKENS = "maskgit-fashion"  # a model of tokens, which can edit too
PRETRAINED = {
    DEFAULT: Path(__file__).parent / "dico_nano_fashion",
    TOKENS: Path(__file__).parent / "maskgit_fashion",
}
SCORER = Path(__file__).parent / "emoji_scorer"  # of pictures and captions, for `evaluate`
