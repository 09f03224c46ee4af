"""The official DiT and SiT checkpoints (facebookresearch/DiT and willisma/SiT, models.py)."""

from gensynth.convert.names import Names
from gensynth.models.dit import DiT

# Of a block; MDT's are named alike.
BLOCK_PARTS = {
    "attn.qkv.": "mixer.qkv.",
    "attn.proj.": "mixer.proj.",
    "adaLN_modulation.1.": "modulation.",
    "mlp.fc1.": "mlp_in.",
    "mlp.fc2.": "mlp_out.",
    "mlp.0.": "mlp.linear_1.",
    "mlp.2.": "mlp.linear_2.",
    "linear.": "proj.",
}
NAMES = Names(
    {
        "pos_embed": "token_positions.table",
        "x_embedder.proj.": "patch_embed.proj.",
        "t_embedder.": "timestep_embedder.",
        "y_embedder.embedding_table.": "class_embedder.",
        "blocks.": "blocks.",
        "final_layer.": "final_layer.",
    },
    BLOCK_PARTS,
)

# Keywords of our constructor that `build` sets from official ones.
OURS = ("null_label",)


def build(class_dropout_prob: float = 0.1, **config: object) -> DiT:
    """DiT from the official constructor's keywords. Label dropout is left to our objectives."""
    return DiT(null_label=class_dropout_prob > 0, **config)
