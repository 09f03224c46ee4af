"""PixArt's transformer as diffusers stores it (PixArtTransformer2DModel) -> our DiT of texts.

PixArt-alpha (arXiv 2310.00426) and PixArt-Sigma (2403.04692) are DiT with one modulation for all
blocks and with cross-attention to the words of T5.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from gensynth.convert.names import Names
from gensynth.errors import CorruptError, UsageError
from gensynth.models.dit import DiT
from gensynth.models.layers.conditioning import sinusoids
from gensynth.stored import check_finite, choose_variant, read_json, shapes_in, weight_files

CLASSES = ("PixArtTransformer2DModel", "Transformer2DModel")  # the second in older folders
TIME = "adaln_single.emb.timestep_embedder."
NAMES = Names(
    {
        "pos_embed.proj.": "patch_embed.proj.",
        TIME: "timestep_embedder.mlp.",
        "adaln_single.linear.": "modulate_all.",
        "caption_projection.": "text_input.sequence.",
        "transformer_blocks.": "blocks.",
        "scale_shift_table": "final_layer.modulation.table",
        "proj_out.": "final_layer.proj.",
    },
    {
        "attn1.to_q.": "mixer.q.",
        "attn1.to_k.": "mixer.k.",
        "attn1.to_v.": "mixer.v.",
        "attn1.to_out.0.": "mixer.proj.",
        "attn2.to_q.": "cross.to_q.",
        "attn2.to_k.": "cross.to_k.",
        "attn2.to_v.": "cross.to_v.",
        "attn2.to_out.0.": "cross.to_out.",
        "ff.net.0.proj.": "mlp_in.",
        "ff.net.2.": "mlp_out.",
        "scale_shift_table": "modulation.table",
    },
)
# Settings of diffusers' that all published models have, and the only ones that ours computes.
FIXED: dict[str, Any] = {
    "norm_type": "ada_norm_single",
    "activation_fn": "gelu-approximate",
    "attention_type": "default",
    "attention_bias": True,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "dropout": 0.0,
}
POSITIONS = "token_positions.table"  # sinusoids: computed, not stored
SHOWN = 4  # differences named in an error


def load(folder: str | Path, size: tuple[int, int] | None = None, length: int | None = None) -> DiT:
    """The DiT that computes what the PixArt transformer in a folder computes, for evaluation.

    Args:
        folder: of the transformer, with config.json and safetensors, or of the pipeline around it.
        size, length: see `converted`.

    Raises:
        CorruptError: files are missing, damaged or not of this class.
        UsageError: a model that ours does not compute, see `converted`.
    """
    place = Path(folder)
    if (place / "transformer" / "config.json").is_file():
        place = place / "transformer"
    config = read_json(place / "config.json")
    if not isinstance(config, dict) or config.get("_class_name") not in CLASSES:
        raise UsageError(f"{place} does not hold a {CLASSES[0]} of diffusers.")
    files = weight_files(place, choose_variant([place], None)[place])
    shapes_in(files)  # raises for a damaged one
    state: dict[str, Tensor] = {}
    for file in files:
        with safe_open(file, "pt") as tensors:
            state |= {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    try:
        model = converted(state, config, size, length)
    except CorruptError as error:
        raise CorruptError(f"{place}: {error}") from error
    check_finite(model, str(place))
    return model


def converted(
    state: Mapping[str, Tensor],
    config: Mapping[str, Any],
    size: tuple[int, int] | None = None,
    length: int | None = None,
) -> DiT:
    """Our model with diffusers' weights, in float32, for evaluation.

    Args:
        state: tensors under diffusers' names.
        config: diffusers' settings.
        size: height and width in pixels of the pictures to be drawn, for a model that is told them
            (PixArt-alpha of 1024 pixels). It is then told nothing else.
        length: most words of a text; None: 300, as PixArt-Sigma (PixArt-alpha: 120).

    Raises:
        UsageError: settings that no published model has, or a `size` that is missing or too much.
        CorruptError: tensors that are missing, unexpected or of another shape.
    """
    with torch.random.fork_rng(devices=[]):  # the start is drawn and then overwritten
        model = DiT(**keywords(config, length))
    told_size = _told_size(config)
    if told_size != (size is not None):
        raise UsageError(
            "this PixArt is told the size of its pictures (use_additional_conditions): give "
            "size=(height, width) in pixels, the one size that the converted model will draw well."
            if told_size
            else "this PixArt is not told the size of its pictures; leave size out."
        )
    state = dict(state)
    state.pop("pos_embed.pos_embed", None)  # of older folders; the same sinusoids
    if size is not None:
        state = with_size(state, size)
    own = model.state_dict()
    renamed = joined({NAMES.ours(name): tensor for name, tensor in state.items()})
    renamed[POSITIONS] = own[POSITIONS]
    problems = [
        *(f"missing {name}" for name in own if name not in renamed),
        *(f"unexpected {NAMES.official(name)}" for name in renamed if name not in own),
        *(
            f"{NAMES.official(name)} is {list(renamed[name].shape)}, not {list(tensor.shape)}"
            for name, tensor in own.items()
            if name in renamed and renamed[name].shape != tensor.shape
        ),
    ]
    if problems:
        raise CorruptError(
            f"the weights are not those of the settings: {'; '.join(problems[:SHOWN])}."
        )
    model.load_state_dict(renamed)
    return model.eval()


def keywords(config: Mapping[str, Any], length: int | None = None) -> dict[str, Any]:
    """Those of our DiT, from diffusers' settings."""
    for key, value in FIXED.items():
        if config.get(key, value) != value:
            raise UsageError(
                f"a PixArt with {key} {config[key]!r} is not computed; only {value!r}."
            )
    heads, width = config["num_attention_heads"], config["attention_head_dim"]
    channels, out, side = config["in_channels"], config.get("out_channels"), config["sample_size"]
    if out not in (None, channels, 2 * channels):
        raise UsageError(f"out_channels must be {channels} or {2 * channels}, got {out}.")
    if config.get("cross_attention_dim") != heads * width or not config.get("caption_channels"):
        raise UsageError(
            "a PixArt without caption_channels, or with a cross_attention_dim other than "
            f"{heads * width}, is not computed."
        )
    scale = config.get("interpolation_scale")
    return {
        "input_size": side,
        "patch_size": config["patch_size"],
        "in_channels": channels,
        "hidden_size": heads * width,
        "depth": config["num_layers"],
        "num_heads": heads,
        "learn_sigma": out == 2 * channels,
        "shared_modulation": True,
        "interpolation_scale": max(side // 64, 1) if scale is None else scale,
        "text": {
            "width": config["caption_channels"],
            "pooled_width": 0,
            "length": 300 if length is None else length,
            "cross": True,
            "encoder": None,
        },
    }


def _told_size(config: Mapping[str, Any]) -> bool:
    told = config.get("use_additional_conditions")
    return config["sample_size"] == 128 if told is None else bool(told)  # as diffusers decides


def with_size(state: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """The state of a model that is told the size of its pictures, made one of this size alone.

    What it is told is added to the embedding of the time, so it goes into that layer's bias.
    """
    height, width = size

    def told(name: str, numbers: Iterable[float]) -> Tensor:
        waves = sinusoids(torch.tensor(list(numbers)))  # [n, 256]
        layers = [f"adaln_single.emb.{name}_embedder.linear_{n}." for n in (1, 2)]
        for number, layer in enumerate(layers):
            waves = F.silu(waves) if number else waves
            waves = F.linear(waves, rest.pop(f"{layer}weight"), rest.pop(f"{layer}bias"))
        return waves.flatten()

    rest = dict(state)
    try:
        size_told = told("resolution", (height, width)), told("aspect_ratio", (height / width,))
        rest[f"{TIME}linear_2.bias"] = rest[f"{TIME}linear_2.bias"] + torch.cat(size_told)
    except KeyError as error:
        raise CorruptError(f"the weights are not those of the settings: no {error}.") from error
    return rest


def joined(renamed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With queries, keys and values of the mixers in one matrix each."""
    result = dict(renamed)
    for name in renamed:
        if ".mixer.q." in name:
            parts = [name.replace(".q.", f".{part}.") for part in "qkv"]
            if all(part in result for part in parts):
                together = torch.cat([result.pop(part) for part in parts])
                result[name.replace(".q.", ".qkv.")] = together
    return result
