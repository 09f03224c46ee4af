"""The official SiT checkpoints (willisma/SiT, models.py): DiT's names, variance thrown away.

REPA's (sihyun-yu/REPA, models/sit.py) are SiT's with a projector for each encoder that training
aligned with, without variance, and with a time that runs from data (0) to noise (1).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gensynth.convert.families.dit import NAMES as NAMES
from gensynth.errors import UsageError
from gensynth.models.dit import DiT
from gensynth.models.layers.conditioning import sinusoids

# Keywords of our constructor that `build` sets from official ones.
OURS = ("null_label", "discard_sigma")
# Of REPA's training alone: drawing never asks them.
PROJECTORS = "projectors."
BESIDE = (PROJECTORS,)


def build(
    class_dropout_prob: float = 0.1,
    learn_sigma: bool | None = None,
    z_dims: Sequence[int] | None = None,
    projector_dim: int | None = None,
    encoder_depth: int | None = None,
    decoder_hidden_size: int | None = None,
    qk_norm: bool = False,
    fused_attn: bool = True,
    path_type: str | None = None,
    use_cfg: bool = False,
    **config: object,
) -> DiT:
    """SiT from the official constructor's keywords, or from REPA's.

    `z_dims` to `use_cfg` are REPA's, which has no variance: `learn_sigma` is then not there. Those
    of the projectors, of the attention's implementation and of sampling have no effect here.

    Raises:
        UsageError: a width of the last layer or a norm that no published model has.
    """
    repa = z_dims is not None or projector_dim is not None or decoder_hidden_size is not None
    if learn_sigma is None:
        learn_sigma = not repa
    model = DiT(
        null_label=class_dropout_prob > 0,
        learn_sigma=learn_sigma,
        discard_sigma=learn_sigma,
        **config,
    )
    if qk_norm or decoder_hidden_size not in (None, model.config.hidden_size):
        raise UsageError(
            "REPA's SiT is built with qk_norm=False and decoder_hidden_size like hidden_size only, "
            f"got {qk_norm} and {decoder_hidden_size}."
        )
    return model


def turned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """REPA's weights, under our names, for SiT's time and velocity instead of its own.

    REPA's network says noise - data at time 1 - t where SiT's says data - noise at t. The sinusoids
    of 1 - t are those of t, each pair turned by a fixed angle,
        cos((1 - t) f) = cos f cos(t f) + sin f sin(t f),
        sin((1 - t) f) = sin f cos(t f) - cos f sin(t f),
    so that the first layer of the timestep's MLP can take the turn; the last layer takes the sign.
    """
    first = "timestep_embedder.mlp.linear_1.weight"
    result = dict(tensors)
    weight = tensors[first].double()  # [C, 256]: the columns of cosines, then those of sines
    cosines, sines = weight.chunk(2, dim=1)
    cos, sin = sinusoids(torch.ones(1))[0].double().chunk(2)  # of each f
    columns = [cosines * cos + sines * sin, cosines * sin - sines * cos]
    result[first] = torch.cat(columns, dim=1).to(tensors[first].dtype)
    for name in ("final_layer.proj.weight", "final_layer.proj.bias"):
        result[name] = -tensors[name]
    return result
