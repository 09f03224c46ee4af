"""The official LlamaGen tokenizers (FoundationVision/LlamaGen; Halton-MaskGIT's vq_model.py)."""

import re

from gensynth.autoencoders.vq import VQAutoencoder

# Official pattern -> ours. The decoder's levels count from the lowest resolution in both.
RULES = [
    (r"^encoder\.conv_blocks\.(\d+)\.", r"encoder.down_blocks.\1."),
    (r"^decoder\.conv_blocks\.(\d+)\.", r"decoder.up_blocks.\1."),
    (r"\.res\.(\d+)\.", r".resnets.\1."),
    (r"\.attn\.(\d+)\.", r".attentions.\1."),
    (r"\.downsample\.", ".downsamplers.0."),
    (r"\.upsample\.", ".upsamplers.0."),
    (r"\.mid\.0\.", ".mid_block.resnets.0."),
    (r"\.mid\.1\.", ".mid_block.attentions.0."),
    (r"\.mid\.2\.", ".mid_block.resnets.1."),
    (r"(attentions\.\d+)\.([qkv])\.", r"\1.to_\2."),
    (r"(attentions\.\d+)\.proj_out\.", r"\1.to_out.0."),
    (r"(attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"coder\.norm_out\.", "coder.conv_norm_out."),
    (r"^quant_conv\.", "before."),
    (r"^post_quant_conv\.", "after."),
    (r"^quantize\.", "quantizer."),
]
IGNORED = ("codebook_used",)


def ours(name: str) -> str:
    """Our name of an official parameter."""
    for pattern, replacement in RULES:
        name = re.sub(pattern, replacement, name)
    return name


def build(
    ch: int = 128,
    num_res_blocks: int = 2,
    z_channels: int = 256,
    codebook_embed_dim: int = 8,
    codebook_size: int = 16384,
    encoder_ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4),
    codebook_l2_norm: bool = True,
) -> VQAutoencoder:
    """The tokenizer from the official constructor's keywords."""
    return VQAutoencoder(
        widths=[ch * factor for factor in encoder_ch_mult],
        layers=num_res_blocks,
        latent_channels=z_channels,
        codebook_size=codebook_size,
        codebook_dim=codebook_embed_dim,
        normalize=codebook_l2_norm,
    )
