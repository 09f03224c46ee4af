"""The official LlamaGen tokenizers (FoundationVision/LlamaGen; Halton-MaskGIT's vq_model.py)."""

from collections.abc import Sequence

from torch import Tensor

from gensynth.autoencoders.vq import VQAutoencoder
from gensynth.convert.names import Names
from gensynth.errors import UsageError

LEVELS = 8  # more than any tokenizer has
_SIDES = {"encoder": "down", "decoder": "up"}
NAMES = Names(
    {
        # The decoder's levels count from the lowest resolution in both.
        **{
            f"{side}.conv_blocks.{level}.{official}": f"{side}.{way}_blocks.{level}.{ours}"
            for side, way in _SIDES.items()
            for level in range(LEVELS)
            for official, ours in {
                "res": "resnets",
                "attn": "attentions",
                f"{way}sample": f"{way}samplers.0",
            }.items()
        },
        **{
            f"{side}.{official}": f"{side}.{ours}"
            for side in _SIDES
            for official, ours in {
                "mid.0": "mid_block.resnets.0",
                "mid.1": "mid_block.attentions.0",
                "mid.2": "mid_block.resnets.1",
                "norm_out": "conv_norm_out",
                "conv_in": "conv_in",
                "conv_out": "conv_out",
            }.items()
        },
        "quant_conv.": "before.",
        "post_quant_conv.": "after.",
        "quantize.": "quantizer.",
    },
    {
        ".q.": ".to_q.",
        ".k.": ".to_k.",
        ".v.": ".to_v.",
        ".proj_out.": ".to_out.0.",
        ".norm.": ".group_norm.",
        ".nin_shortcut.": ".conv_shortcut.",
    },
)
ours = NAMES.ours
# A record of which codes training used.
IGNORED = ("codebook_used",)


def adapted(name: str, tensor: Tensor) -> Tensor:
    """The tensor that our parameter of a name takes: 1x1 convolutions of attention are matrices."""
    if ".attentions." in name and tensor.shape[2:] == (1, 1):
        return tensor[:, :, 0, 0]
    return tensor


def build(
    ch: int = 128,
    num_res_blocks: int = 2,
    z_channels: int = 256,
    codebook_embed_dim: int = 8,
    codebook_size: int = 16384,
    encoder_ch_mult: Sequence[int] = (1, 1, 2, 2, 4),
    codebook_l2_norm: bool = True,
    decoder_ch_mult: Sequence[int] | None = None,
    codebook_show_usage: bool = True,
    commit_loss_beta: float = 0.25,
    entropy_loss_ratio: float = 0.0,
    dropout_p: float = 0.0,
) -> VQAutoencoder:
    """The tokenizer from the official constructor's keywords.

    The last four are of training, which ours sets elsewhere, and have no effect here.

    Raises:
        UsageError: a decoder of other widths than the encoder; no published tokenizer has one.
    """
    if decoder_ch_mult is not None and list(decoder_ch_mult) != list(encoder_ch_mult):
        raise UsageError(
            "a tokenizer is built with decoder_ch_mult like encoder_ch_mult only, got "
            f"{list(decoder_ch_mult)} and {list(encoder_ch_mult)}."
        )
    return VQAutoencoder(
        widths=[ch * factor for factor in encoder_ch_mult],
        layers=num_res_blocks,
        latent_channels=z_channels,
        codebook_size=codebook_size,
        codebook_dim=codebook_embed_dim,
        normalize=codebook_l2_norm,
    )
