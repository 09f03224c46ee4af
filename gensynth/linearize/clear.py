"""CLEAR (arXiv 2412.16112; Huage001/CLEAR): image tokens attend to a disc around them.

An image query sees all text tokens, the image tokens nearer than `window`, and with a `down_factor`
the means of squares of all of them, with learned weights. The grid of tokens comes with each call
(see `grids`), so any text length, height and width follow each other in one process.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_flux import FluxPosEmbed
from torch import Tensor, nn

from gensynth.errors import CorruptError, InputError, UsageError
from gensynth.linearize import files
from gensynth.linearize.changes import Change, configured
from gensynth.linearize.contract import Linearized, Replaced, Size, State, Weights
from gensynth.models.layers.grid import Grid, merge_heads
from gensynth.ops import local_attention
from gensynth.values import is_number, is_whole

NAME = "clear"
OPERATOR = "local_attention"
MIXER = "local"  # of our own models
ADDED = ("spatial_weight", "pool_weight")  # what an attention gets of weights
OF_WEIGHTS = ("window", "down_factor")  # the other options may differ from those of the training
MEANINGS = {"window": "the radius in tokens that an image token sees, published are 8, 16 and 32"}
PUBLISHED = "window 8, 16, 32, and 8, 16 with down_factor 4"
FILE = re.compile(r"clear_local_(?P<window>\d+)(?:_down_(?P<down_factor>\d+))?\.safetensors")
POOLING = "processor.spatial_weight"  # its published name; here it is the attention's own
KEY = re.compile(r"(?P<name>.+\.(?:attn\d?|mixer))\.(?P<own>.+)")
BASE = 64**2 + 512  # tokens of the published training, where proportional attention changes nothing


@dataclass(frozen=True)
class Options:
    """Of CLEAR, under the published names but for `window` (window_size).

    Attributes:
        window: radius of the disc in tokens, from 1; a distance of exactly `window` is outside.
        down_factor: side of the squares that are pooled; 1 for none.
        proportional_attention: whether scores are scaled by the number of tokens, for pictures
            larger than those of the training.
        ntk_factor: on the base of FLUX's rotary positions, for the same.
    """

    window: int
    down_factor: int = 1
    proportional_attention: bool = False
    ntk_factor: float = 1.0

    def __post_init__(self) -> None:
        for name in ("window", "down_factor"):
            value = getattr(self, name)
            if not is_whole(value) or value < 1:
                raise UsageError(f"{name} must be a whole number from 1, got {value!r}.")
        proportional = self.proportional_attention
        if not isinstance(proportional, bool):
            raise UsageError(f"proportional_attention must be True or False, got {proportional!r}.")
        if not is_number(self.ntk_factor) or not 0 < self.ntk_factor < math.inf:
            raise UsageError(f"ntk_factor must be a number above 0, got {self.ntk_factor!r}.")

    def scale(self, tokens: int, head_dim: int) -> float:
        """The factor on q·k for so many tokens of text and image together."""
        if not self.proportional_attention:
            return head_dim**-0.5
        # as published: with pooled keys, ten times the tokens, and without counting the pooled
        counted = tokens if self.down_factor == 1 else 10 * tokens
        return math.sqrt(math.log(counted, BASE) / head_dim)

    def operator_keywords(self, height: int, width: int, text: int) -> dict[str, Any]:
        """Of the operator, beside queries, keys and values."""
        sizes = {"height": height, "width": width, "text_length": text}
        return {**sizes, "window": self.window, "down_factor": self.down_factor}


def attend(attention: Any, q: Tensor, k: Tensor, v: Tensor, grid: Grid | None) -> Tensor:
    """q, k, v [B, H, text + height * width, D], text first -> [B, text + height * width, H * D].

    Raises:
        UsageError: the grid is not known, or has another number of tokens.
    """
    options: Options = attention.clear
    if grid is None:
        raise UsageError(
            "an attention of CLEAR has to know height and width in tokens; call the model that was "
            "linearized, not its blocks or its forward."
        )
    tokens, head_dim = q.shape[2:]
    output = local_attention(
        q,
        k,
        v,
        height=grid.height,
        width=grid.width,
        window=options.window,
        text_length=tokens - grid.height * grid.width,
        down_factor=options.down_factor,
        pool_weight=pool_weight(attention),
        scale=options.scale(tokens, head_dim),
    )
    return merge_heads(output)


def pool_weight(attention: Any) -> Tensor | None:
    """[down_factor, down_factor], of the published [1, 1, 1, down_factor, 1, down_factor, 1]."""
    if attention.clear.down_factor == 1:
        return None
    return attention.spatial_weight[0, 0, 0, :, 0, :, 0]


def additions(
    size: Replaced, options: Options, state: State | None, number: int, ours: bool
) -> dict[str, Any]:
    """The options, and the weights of pooling, which begin as the mean of a square."""
    factor = options.down_factor
    added: dict[str, Any] = {"clear": options}
    if ours:
        added = {"window": options.window, "down_factor": factor}
    if factor > 1:
        shape = (factor, factor) if ours else (1, 1, 1, factor, 1, factor, 1)
        added["pool_weight" if ours else "spatial_weight"] = nn.Parameter(
            torch.full(shape, factor**-2)
        )
    return added


def around(model: Any, options: Options, ours: bool) -> list[Change]:
    """What changes beside the attentions: rotary positions of another base, where asked for, and
    the configuration of a model of ours.

    Raises:
        UsageError: the model has no rotary positions, or its mixer no such scale.
    """
    if ours and options.proportional_attention:
        raise UsageError("proportional_attention is for models of diffusers; leave it out.")
    if ours and options.ntk_factor == 1:
        factor = options.down_factor
        return [
            configured(model, mixer=MIXER, window=options.window, down_factor=factor),
            Change(model, "size_multiple", model.patch_size * factor),
        ]
    if options.ntk_factor == 1:
        return []
    positions = model._modules.get("pos_embed")
    if not isinstance(positions, FluxPosEmbed):
        raise UsageError(
            f"ntk_factor is for the rotary positions of FLUX, and a {type(model).__name__} has "
            "others; leave it out."
        )
    return [Change(positions, "theta", positions.theta * options.ntk_factor)]


def side(options: Options) -> int:
    """What height and width in tokens must be a multiple of."""
    return options.down_factor


def read(weights: str | Path, options: Mapping[str, Any]) -> Weights:
    """A published file: attentions of a transformer under diffusers' names.

    Raises:
        InputError: it is not there, or not CLEAR's.
        UsageError: options that are not those of the weights, or a folder of several weights where
            none says which.
        CorruptError, RefusedError: damaged files, or a pickle.
    """
    file = _file(weights, options)
    tensors, said = files.read([file])
    states: dict[str, State] = {}
    for key, tensor in tensors.items():
        found = KEY.fullmatch(key)
        if found is None:
            raise InputError(f"{file} is not a file of CLEAR: {key} is no part of an attention.")
        own = "spatial_weight" if found["own"] == POOLING else found["own"]
        states.setdefault(found["name"], {})[own] = tensor
    if not states:
        raise InputError(f"{file} is not a file of CLEAR: it is empty.")
    sizes = {name: Size(_width(state, file), None) for name, state in states.items()}
    trained = _trained(file, said, states)
    for name in OF_WEIGHTS:
        value = trained.get(name)
        if value is not None and options.get(name, value) != value:
            raise UsageError(
                f"{file.name} was trained with {name} {value}, not {options[name]}; leave {name} "
                "out, or give other weights."
            )
    return Weights(str(weights), states, sizes, trained)


def _file(weights: str | Path, options: Mapping[str, Any]) -> Path:
    down = options.get("down_factor", 1)
    named = f"clear_local_{options.get('window')}" + (f"_down_{down}" if down != 1 else "")
    named += files.ENDING
    path = Path(weights).expanduser()
    if not path.exists() and not str(weights).endswith(files.ENDING) and "window" not in options:
        # each published file is several gigabytes
        raise UsageError(
            f"say which weights of {weights} are meant by window= (and down_factor=); published "
            f"are {PUBLISHED}."
        )
    path = files.find(weights, [named], [], f"Published are {PUBLISHED}; others are named by file.")
    if not path.is_dir():
        return path
    if "window" in options and (path / named).is_file():
        return path / named
    stored = sorted(path.glob(f"*{files.ENDING}"))
    if not stored:
        files.refuse_without(path)
    if len(stored) == 1:
        return stored[0]
    names = ", ".join(file.name for file in stored)
    raise UsageError(
        f"say by window= and down_factor= which weights of {weights} are meant: {names}."
    )


def _trained(file: Path, said: Mapping[str, str], states: Mapping[str, State]) -> dict[str, Any]:
    """The window and factor of the weights: by what we wrote, the file's name, the pooling."""
    pooled = (state[name] for state in states.values() for name in ADDED if name in state)
    shapes = [weight.shape for weight in pooled if weight.dim() > 1]
    found: dict[str, Any] = {"down_factor": shapes[0][-2] if shapes else 1}
    named = FILE.fullmatch(file.name)
    if NAME in said:
        found |= said_options(said[NAME], file)
    elif named is not None:
        found["window"] = int(named["window"])
    return found


def said_options(text: str, file: Path) -> dict[str, Any]:
    """The options that a file says, of those that its weights were trained with.

    Raises:
        CorruptError: it says something else.
    """
    try:
        return asdict(Options(**json.loads(text)))
    except (ValueError, TypeError, UsageError) as error:
        raise CorruptError(f"{file} says {text!r} of its options. Save it again.") from error


def _width(state: State, file: Path) -> int:
    for name in ("to_q.weight", "qkv.weight"):
        if name in state and state[name].dim() == 2:
            return state[name].shape[1]
    raise InputError(f"{file} is not a file of CLEAR: an attention has no queries (to_q.weight).")


def write(folder: Path, done: Linearized, states: Sequence[State]) -> None:
    """Writes the tensors of a linearized model as CLEAR is published, with the options beside."""
    options: Options = done.options
    tensors = {
        f"{one.name}.{POOLING if own == 'spatial_weight' else own}": tensor
        for one, state in zip(done.replaced, states, strict=True)
        for own, tensor in state.items()
    }
    down = f"_down_{options.down_factor}" if options.down_factor > 1 else ""
    name = f"clear_local_{options.window}{down}{files.ENDING}"
    files.write(folder, name, tensors, {NAME: json.dumps(asdict(options))})
