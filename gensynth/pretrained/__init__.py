"""Models and autoencoders that come with the package: name -> folder."""

from pathlib import Path

DEFAULT = "emoji"  # draws where no model is named; it is told prompts
CLASSES = "dico-nano-fashion"  # the smallest example, told classes
TOKENS = "maskgit-fashion"  # a model of tokens, which can edit too
SERVED = (DEFAULT, TOKENS)  # on a page where no models are named
HERE = Path(__file__).parent
PRETRAINED = {
    DEFAULT: HERE / "emoji",
    CLASSES: HERE / "dico_nano_fashion",
    TOKENS: HERE / "maskgit_fashion",
}
SCORER = HERE / "emoji_scorer"  # of pictures and captions, for `evaluate`
# For `autoencoder.path`. As with models the name wins; a folder of one's own is `./taef2`.
CODECS = {"taef2": HERE / "taef2"}
