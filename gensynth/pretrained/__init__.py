"""Models and autoencoders that come with the package: name -> folder."""

from pathlib import Path

DEFAULT = "dico-nano-fashion"
TOKENS = "maskgit-fashion"  # a model of tokens, which can edit too
PRETRAINED = {
    DEFAULT: Path(__file__).parent / "dico_nano_fashion",
    TOKENS: Path(__file__).parent / "maskgit_fashion",
}
SCORER = Path(__file__).parent / "emoji_scorer"  # of pictures and captions, for `evaluate`
# For `autoencoder.path`. As with models the name wins; a folder of one's own is `./taef2`.
CODECS = {"taef2": Path(__file__).parent / "taef2"}
