"""Checkpoints of the official DiC code (YuchuanTian/DiC, dic_models.py)."""

from gensynth.convert.names import Names
from gensynth.errors import UsageError
from gensynth.models.dic import DiC

NAMES = Names(
    {
        "x_embedder.proj.": "stem.",
        "t_embedder_ls.": "timestep_embedders.",
        **{f"y_embedder_ls.{n}.embedding_table.": f"class_embedders.{n}." for n in range(3)},
        "enc_blocks.0.": "levels.0.",
        "enc_blocks.1.": "levels.1.",
        "lat_blocks.0.": "levels.2.",
        "dec_blocks.0.": "levels.3.",
        "dec_blocks.1.": "levels.4.",
        "downs.0.body.": "downs.0.",
        "downs.1.body.": "downs.1.",
        "ups.0.body.": "ups.0.",
        "ups.1.body.": "ups.1.",
        "output.": "final_layer.conv_in.",
        "final_layer.adaLN_modulation.1.": "final_layer.modulation.",
        "final_layer.out_proj.": "final_layer.conv.",
    },
    {
        "conv.norm0.": "norm_in.",
        "conv.conv0.": "conv_in.",
        "conv.norm1.": "norm_out.",
        "conv.conv1.": "conv_out.",
        "conv.affine.1.": "modulation.",
        "conv.skip.": "shortcut.",
        "mlp.0.": "mlp.linear_1.",
        "mlp.2.": "mlp.linear_2.",
    },
)
# Keywords of our constructor that `build` sets from official ones.
OURS = ("null_label",)
# Of the official constructor's switches, the values that every published size has.
PUBLISHED: dict[str, object] = {
    "block_type": "unetblock",
    "mult_channels": [1, 2, 4, 2, 1],
    "actf": [1, 1],
    "norm_type": "gnorm",
    "norm_type1": "gnorm",
    "actinada": 1,
    "affinef": 3,
    "actfunc": "gelu",
    "affine": 0,
    "blockconfig": 0,
    "num_groups": 32,
    "min_channels": 4,
    "skip_stride": 3,
}


def build(class_dropout_prob: float = 0.1, **config: object) -> DiC:
    """DiC from the official constructor's keywords.

    Raises:
        UsageError: a switch has a value that no published size has.
    """
    for name, published in PUBLISHED.items():
        value = config.pop(name, published)
        if value != published:
            raise UsageError(f"DiC is built with {name}={published!r} only, got {value!r}.")
    return DiC(null_label=class_dropout_prob > 0, **config)
