"""Every named model with what is published about it, and what was counted of it (`counting`).

Nothing heavy is imported for the models that come along.
"""

from dataclasses import dataclass

from gensynth.models.counted import COUNTED
from gensynth.models.known import known


@dataclass(frozen=True)
class Family:
    """A paper, where its code and weights are."""

    paper: str
    code: str
    license: str  # of the published code and weights


FAMILIES = {
    "DiT": Family("arXiv 2212.09748", "facebookresearch/DiT", "CC-BY-NC-4.0"),
    "SiT": Family("arXiv 2401.08740", "willisma/SiT", "MIT"),
    "PixArt": Family("arXiv 2310.00426", "PixArt-alpha/PixArt-alpha", "Apache-2.0"),
    "DiC": Family("arXiv 2501.00603", "YuchuanTian/DiC", "CC-BY-NC-4.0"),
    "DiCo": Family("arXiv 2505.11196", "shallowdream204/DiCo", "Apache-2.0"),
    "MDTv2": Family("arXiv 2303.14389", "sail-sg/MDT", "Apache-2.0"),
    "MaskGIT": Family("arXiv 2503.17076", "valeoai/Halton-MaskGIT", "MIT"),
    "VQ": Family("arXiv 2406.06525", "FoundationVision/LlamaGen", "MIT"),
    "LatentVQ": Family("arXiv 2406.06525", "FoundationVision/LlamaGen", "MIT"),  # its quantizer
}


@dataclass(frozen=True)
class Published:
    """What a paper or its README reports on ImageNet at 256x256, and the file with the weights.

    A tokenizer's reconstruction FID is no FID of a model and left out.
    """

    fid: str = ""  # with the steps and guidance it belongs to, and the size if it is not 256
    gflops: float | None = None  # multiply-adds, in 1e9
    weights: str = ""


_DICO = "https://huggingface.co/shallowdream204/DiCo/resolve/main/DiCo-{}-256x256.pt"
_DIT = "https://dl.fbaipublicfiles.com/DiT/models/DiT-XL-2-256x256.pt"
# As printed: GFLOPs of DiT in its paper (table 4); DiCo, MDT, DiT-XL and SiT-XL in their READMEs;
# the smaller ones in comparisons of later papers (REPA, arXiv 2410.06940). Halton-MaskGIT's README
# prints GFLOPs without attention's two products, in whole numbers cut off; its guidance counts from
# 0, ours from 1.
_MASKGIT = "https://huggingface.co/llvictorll/Halton-MaskGIT/resolve/main/ImageNet_{}.pth"
_LLAMAGEN = "https://huggingface.co/FoundationVision/LlamaGen/resolve/main/{}.pt"
PUBLISHED: dict[str, Published] = {
    "DiT-S/8": Published("", 0.36),
    "DiT-S/4": Published("", 1.41),
    "DiT-S/2": Published("68.40 (400k)", 6.06),
    "DiT-B/8": Published("", 1.42),
    "DiT-B/4": Published("68.4 (400k)", 5.56),
    "DiT-B/2": Published("43.47 (400k)", 23.01),
    "DiT-L/8": Published("", 5.01),
    "DiT-L/4": Published("", 19.70),
    "DiT-L/2": Published("23.33 (400k)", 80.71),
    "DiT-XL/8": Published("", 7.39),
    "DiT-XL/4": Published("", 29.05),
    "DiT-XL/2": Published("2.27 (7M, guidance 1.5)", 118.64, _DIT),
    "SiT-S/2": Published("57.6 (400k)", 6.06),
    "SiT-B/2": Published("33.0 (400k, SDE)", 23.01),
    "SiT-L/2": Published("18.8 (400k)", 80.71),
    "SiT-XL/2": Published(
        "2.06 (7M, SDE, guidance 1.5)", 118.64, "https://github.com/willisma/SiT#sampling"
    ),
    "DiCo-S": Published("49.97 (400k)", 4.25, _DICO.format("S-400K")),
    "DiCo-B": Published("27.20 (400k)", 16.88, _DICO.format("B-400K")),
    "DiCo-L": Published("13.66 (400k)", 60.24, _DICO.format("L-400K")),
    "DiCo-XL": Published("2.05 (3750k, guidance 1.4)", 87.30, _DICO.format("XL-3750K")),
    "DiC-XL": Published("", 116.1),  # its paper
    "MDTv2-XL/2": Published(
        "1.58 (power-cosine guidance)",
        None,
        "https://huggingface.co/shgao/MDT-XL2/resolve/main/mdt_xl2_v2_ckpt.pt",
    ),
    "MaskGIT-T": Published("10.2 (1.5M, guidance 2.5)", 4, _MASKGIT.format("256_tiny")),
    "MaskGIT-S": Published("6.40 (1.5M, guidance 2)", 12, _MASKGIT.format("256_small")),
    "MaskGIT-B": Published("4.17 (1.5M, guidance 1.7)", 25, _MASKGIT.format("256_base")),
    "MaskGIT-L": Published("2.59 (384 pixels, guidance 1.5)", None, _MASKGIT.format("384_large")),
    "VQ-f8": Published("", None, _LLAMAGEN.format("vq_ds8_c2i")),
    "VQ-f16": Published("", None, _LLAMAGEN.format("vq_ds16_c2i")),
}


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue."""

    name: str
    parameters: int  # all, frozen positions included
    # multiply-adds of one forward pass, in 1e9, as the papers count; of a tokenizer both ways
    gflops_256: float
    gflops_512: float
    tokens_256: int  # what the mixer runs over: tokens, or positions of the first level
    mixer: str
    paper: str
    code: str
    license: str
    published_fid: str  # empty: not published, or not found where we looked
    published_gflops_256: float | None
    weights: str  # empty: none to download


def entry(name: str, mixer: str | None = None) -> Entry:
    """The line of one named model; with another token mixer, if one is given, counted now.

    Raises:
        UsageError: no such model, the model has no token mixer, or there is none of that name.
    """
    known(name)  # raises for an unknown name
    family = FAMILIES.get(name.split("-")[0], Family("", "", ""))  # or one of your own
    published = PUBLISHED.get(name, Published()) if mixer is None else Published()
    if mixer is None and name in COUNTED:
        parameters, at_256, at_512, tokens, mixes = COUNTED[name]
    else:
        from gensynth.models.counting import count  # imports torch

        parameters, at_256, at_512, tokens, mixes = count(name, mixer)
    return Entry(
        name,
        parameters,
        at_256 / 1e9,
        at_512 / 1e9,
        tokens,
        mixes,
        "ours" if "nano" in name else family.paper,
        family.code,
        family.license if published.weights else "",
        published.fid,
        published.gflops,
        published.weights,
    )
