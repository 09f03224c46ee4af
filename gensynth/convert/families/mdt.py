"""The official MDTv2 checkpoints (sail-sg/MDT, masked_diffusion/models.py)."""

from gensynth.convert.families.dit import BLOCK_PARTS
from gensynth.convert.names import Names
from gensynth.models.mdt import MDTv2

NAMES = Names(
    {
        "pos_embed": "token_positions.table",
        "decoder_pos_embed": "decoder_positions.table",
        "mask_token": "mask_token",
        "x_embedder.proj.": "patch_embed.proj.",
        "t_embedder.": "timestep_embedder.",
        "y_embedder.embedding_table.": "class_embedder.",
        "en_inblocks.": "encoder_in.",
        "en_outblocks.": "encoder_out.",
        "de_blocks.": "decoder.",
        "sideblocks.0.": "side.",
        "final_layer.": "final_layer.",
    },
    {
        "attn.rel_pos_bias.relative_position_bias_table": "mixer.bias_table",
        "skip_linear.": "skip.",
        **BLOCK_PARTS,
    },
)
# Keywords of our constructor that `build` sets from official ones.
OURS = ("null_label",)
# Index tables that follow from the size; ours are computed.
IGNORED = ("relative_position_index",)


def build(class_dropout_prob: float = 0.1, **config: object) -> MDTv2:
    """MDTv2 from the official constructor's keywords."""
    # Without the keyword the official constructor makes no masked pass.
    return MDTv2(null_label=class_dropout_prob > 0, **{"mask_ratio": None, **config})
