"""The official Halton-MaskGIT checkpoints (valeoai/Halton-MaskGIT, Network/transformer.py)."""

from gensynth.convert.names import Names
from gensynth.models.maskgit import MaskGIT

NAMES = Names(
    {
        "cls_emb.": "class_embedder.",
        "tok_emb.": "token_embedder.",
        "pos_emb.weight": "positions",
        "reg_tokens.weight": "registers",
        "in_proj.": "merge.",
        "out_proj.": "split.",
        "last_norm.norm_final.weight": "final_norm_weight",
        "last_norm.norm_final.bias": "final_norm_bias",
        "last_norm.mlp.1.": "final_modulation.",
        "head.bias": "head_bias",
        "transformer.layers.": "blocks.",
    },
    {
        "mlp.1.": "modulation.",
        "ln1.weight": "norm_attention",
        "ln2.weight": "norm_mlp",
        "attn.wq.": "attention.to_q.",
        "attn.wk.": "attention.to_k.",
        "attn.wv.": "attention.to_v.",
        "attn.wo.": "attention.to_out.",
        "ff.w1.": "mlp_gate.",
        "ff.w2.": "mlp_out.",
        "ff.w3.": "mlp_in.",
    },
)
# Keywords of our constructor that `build` sets from official ones.
OURS = ("hidden_size", "num_heads", "mlp_ratio", "num_classes", "num_registers")
# The head's matrix is the table of tokens.
IGNORED = ("head.weight",)


def build(
    mlp_dim: int | None = None,
    nclass: int = 1000,
    register: int = 1,
    hidden_dim: int = 768,
    heads: int = 12,
    **config: object,
) -> MaskGIT:
    """MaskGIT from the official constructor's keywords."""
    mlp_ratio = 4.0 if mlp_dim is None else mlp_dim / hidden_dim
    return MaskGIT(
        hidden_size=hidden_dim,
        num_heads=heads,
        mlp_ratio=mlp_ratio,
        num_classes=nclass,
        num_registers=register,
        **config,
    )
