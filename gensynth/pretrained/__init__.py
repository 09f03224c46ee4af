"""Models that come with the package: name -> folder."""

from pathlib import Path

DEFAULT = "dico-nano-fashion"
PRETRAINED = {DEFAULT: Path(__file__).parent / "dico_nano_fashion"}
