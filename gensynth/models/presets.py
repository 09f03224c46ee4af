"""Names and sizes of all models; constructor keywords. Nothing heavy is imported for them.

`nano` sizes are ours.
"""

from collections.abc import Collection
from dataclasses import dataclass

from gensynth.errors import UsageError, did_you_mean

Sizes = dict[str, dict[str, object]]

# Table 1 of DiT's paper.
_TRANSFORMER: Sizes = {
    "S": {"hidden_size": 384, "depth": 12, "num_heads": 6},
    "B": {"hidden_size": 768, "depth": 12, "num_heads": 12},
    "L": {"hidden_size": 1024, "depth": 24, "num_heads": 16},
    "XL": {"hidden_size": 1152, "depth": 28, "num_heads": 16},
}
DIT: Sizes = {
    f"DiT-{size}/{patch}": {**keywords, "patch_size": patch}
    for size, keywords in _TRANSFORMER.items()
    for patch in (2, 4, 8)
}
# As many parameters as DiCo-nano.
DIT["DiT-nano/2"] = {"hidden_size": 128, "depth": 9, "num_heads": 4, "patch_size": 2}
SIT: Sizes = {
    name.replace("DiT", "SiT"): {**keywords, "discard_sigma": True}
    for name, keywords in DIT.items()
}
# PixArt-alpha and -Sigma: DiT of texts, of T5-XXL; nano, of T5-small, as large as DiCo-nano.
_PIXART: dict[str, object] = {
    "patch_size": 2,
    "shared_modulation": True,
    "interpolation_scale": 1,
}
_WORDS = {"pooled_width": 0, "cross": True, "encoder": None}
PIXART: Sizes = {
    "PixArt-XL/2": {
        **_TRANSFORMER["XL"],
        **_PIXART,
        "text": {"width": 4096, "length": 300, **_WORDS},
    },
    "PixArt-nano/2": {
        **{"hidden_size": 128, "depth": 9, "num_heads": 4},
        **_PIXART,
        "text": {"width": 512, "length": 32, **_WORDS},
    },
}
# Width and depths of each size of YuchuanTian/DiC.
DIC: Sizes = {
    "DiC-nano": {"hidden_size": 32, "depth": [2, 4, 4, 4, 2]},
    "DiC-S": {"hidden_size": 96, "depth": [6, 6, 5, 6, 6]},
    "DiC-B": {"hidden_size": 192, "depth": [6, 6, 5, 6, 6]},
    "DiC-XL": {"hidden_size": 384, "depth": [7, 7, 8, 7, 7]},
    "DiC-H": {"hidden_size": 384, "depth": [14, 14, 10, 14, 14]},
}
# The paper's table 1.
DICO: Sizes = {
    "DiCo-nano": {"hidden_size": 40, "depth": [2, 2, 4, 2, 2], "mlp_ratio": 2},
    "DiCo-S": {"hidden_size": 128, "depth": [5, 4, 4, 4, 4], "mlp_ratio": 2},
    "DiCo-B": {"hidden_size": 256, "depth": [5, 4, 4, 4, 4], "mlp_ratio": 2},
    "DiCo-L": {"hidden_size": 352, "depth": [9, 8, 9, 8, 9], "mlp_ratio": 2},
    "DiCo-XL": {"hidden_size": 416, "depth": [9, 9, 10, 9, 9], "mlp_ratio": 2},
    "DiCo-H": {"hidden_size": 416, "depth": [14, 12, 10, 12, 14], "mlp_ratio": 4},
}
# The README trains S with decode_layer 6 and XL with 4; B and L are not said.
MDT: Sizes = {
    f"MDTv2-{size}/2": {**keywords, "patch_size": 2, "decode_layer": 4}
    for size, keywords in _TRANSFORMER.items()
}
MDT["MDTv2-nano/2"] = {
    "hidden_size": 128,
    "depth": 7,
    "num_heads": 4,
    "patch_size": 2,
    "decode_layer": 1,
}
# Sizes of the README of Halton-MaskGIT.
MASKGIT: Sizes = {
    "MaskGIT-nano": {"hidden_size": 128, "depth": 5, "num_heads": 4},
    "MaskGIT-T": {"hidden_size": 384, "depth": 6, "num_heads": 6},
    "MaskGIT-S": {"hidden_size": 512, "depth": 12, "num_heads": 6},
    "MaskGIT-B": {"hidden_size": 768, "depth": 12, "num_heads": 12},
    "MaskGIT-L": {"hidden_size": 1024, "depth": 24, "num_heads": 16},
    "MaskGIT-XL": {"hidden_size": 1152, "depth": 28, "num_heads": 16},
}
# LlamaGen's two of ImageNet (tokenizer/tokenizer_image/vq_model.py).
VQ: Sizes = {
    "VQ-nano": {
        "widths": [16, 32, 64],
        "layers": 1,
        "latent_channels": 64,
        "codebook_size": 512,
        "codebook_dim": 8,
        "attention": False,
        "norm_groups": 8,
    },
    "VQ-f8": {"widths": [128, 256, 256, 512]},
    "VQ-f16": {"widths": [128, 128, 256, 256, 512]},
}
# Ours.
LATENT_VQ: Sizes = {"LatentVQ-nano": {"widths": [64], "latent_channels": 64}}


@dataclass(frozen=True)
class Preset:
    """One named model.

    Attributes:
        module, class_name: where its class is.
        keywords: of the constructor.
    """

    module: str
    class_name: str
    keywords: dict[str, object]


PRESETS: dict[str, Preset] = {
    name: Preset(f"gensynth.{module}", class_name, keywords)
    for module, class_name, sizes in (
        ("models.dit", "DiT", DIT),
        ("models.dit", "DiT", SIT),
        ("models.dit", "DiT", PIXART),
        ("models.dic", "DiC", DIC),
        ("models.dico", "DiCo", DICO),
        ("models.mdt", "MDTv2", MDT),
        ("models.maskgit", "MaskGIT", MASKGIT),
        ("autoencoders.vq", "VQAutoencoder", VQ),
        ("autoencoders.latent_vq", "LatentVQ", LATENT_VQ),
    )
    for name, keywords in sizes.items()
}


def proper_name(name: str, known: Collection[str] = PRESETS) -> str:
    """The name of a model as it is written; upper and lower case are the same.

    Args:
        known: names of all models, of your own too.

    Raises:
        UsageError: no model has this name; the message says which are known.
    """
    # "dit-xl/2" is as clear as "DiT-XL/2", and easier to type.
    by_lower_case = {one.lower(): one for one in known}
    if name.lower() not in by_lower_case:
        hint = did_you_mean(name, known, any_case=True)
        raise UsageError(f"unknown model {name!r}.{hint} Known: {', '.join(known)}.")
    return by_lower_case[name.lower()]
