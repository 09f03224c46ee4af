"""The official DiCo checkpoints (shallowdream204/DiCo, dico_models.py)."""

from gensynth.convert.names import Names
from gensynth.models.dico import DiCo

NAMES = Names(
    {
        "x_embedder.proj.": "stem.",
        "t_embedder_1.": "timestep_embedders.0.",
        "t_embedder_2.": "timestep_embedders.1.",
        "t_embedder_3.": "timestep_embedders.2.",
        "y_embedder.embedding_table_": "class_embedders.",
        "encoder_level_1.": "levels.0.",
        "encoder_level_2.": "levels.1.",
        "latent.": "levels.2.",
        "decoder_level_2.": "levels.3.",
        "decoder_level_1.": "levels.4.",
        "down1_2.body.": "downs.0.",
        "down2_3.body.": "downs.1.",
        "up3_2.body.": "ups.0.",
        "up2_1.body.": "ups.1.",
        "reduce_chan_level2.": "fuses.0.",
        "reduce_chan_level1.": "fuses.1.",
        "final_layer.": "final_layer.",
    },
    {
        "mlp.0.": "mlp.linear_1.",
        "mlp.2.": "mlp.linear_2.",
        "adaLN_modulation.1.": "modulation.",
        "ca.1.": "channel_attention.proj.",
        "conv1.": "conv_in.",
        "conv2.": "depthwise.",
        "conv3.": "conv_out.",
        "conv4.": "mlp_in.",
        "conv5.": "mlp_out.",
        "out_proj.": "conv.",
    },
)

# Keywords of our constructor that `build` sets from official ones.
OURS = ("null_label",)


def build(class_dropout_prob: float = 0.1, **config: object) -> DiCo:
    """DiCo from the official constructor's keywords. Label dropout is left to our objectives."""
    return DiCo(null_label=class_dropout_prob > 0, **config)
