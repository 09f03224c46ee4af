"""The kinds of rows of Table A: inputs, peers, and what must at least be moved and multiplied."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gensynth.models import create_model
from gensynth.ops import dwconv_gelu_pool, linear_attention, local_attention
from gensynth.ops.local_attention import flex
from gensynth.ops.local_attention.tiles import disc_pairs
from gensynth_benchmarks import peers

LOCAL_TEXT, LOCAL_HEADS, LOCAL_DIM = 512, 24, 128  # FLUX


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        ours: our operator or model; none where there is only a question whether to write one.
        eager: the peer in plain PyTorch.
        published: whether eager is what others run, in the type of the inputs: it is then timed
            under torch.compile too, and ours must not be more than 1.25 times as wrong.
        definition: what is run in float64 to tell errors; none: no errors.
        moved, flops: bytes and floating-point operations that no implementation can avoid.
        peers: by name, functions from a device to a function of the inputs.
        asides: likewise, of functions that others use in its place and that compute something else.
        gates: the least ratio of a time ("floor", "best peer" or a peer's name) to ours.
    """

    operator: str
    shape: str
    direction: str
    inputs: Callable[[str], tuple[Tensor, ...]]
    ours: Callable[..., Any] | None
    eager: Callable[..., Any]
    moved: float
    flops: float
    dtype: torch.dtype
    definition: Callable[..., Any] | None = None
    published: bool = True
    peers: dict[str, Callable[[str], Callable[..., Any]]] = field(default_factory=dict)
    asides: dict[str, Callable[[str], Callable[..., Any]]] = field(default_factory=dict)
    gates: dict[str, float] = field(default_factory=dict)


def type_on(device: str) -> torch.dtype:
    return torch.bfloat16 if device == "cuda" else torch.float32


def size_of(device: str) -> int:
    return type_on(device).itemsize


def random(*shape: int, device: str, mean: float = 0.0) -> Tensor:
    generator = torch.Generator(device).manual_seed(0)
    return (torch.randn(shape, generator=generator, device=device) + mean).to(type_on(device))


def linear_case(
    device: str,
    batch: int,
    heads: int,
    tokens: int,
    dim: int,
    direction: str,
    gates: dict | None = None,
) -> Case:
    """LinFusion's attention: four passes over memory forward, seven more backward."""
    shape = (batch, heads, tokens, dim)
    passes = 4 if direction == "forward" else 11
    elements = batch * heads * tokens * dim
    return Case(
        "linear_attention",
        f"B{batch} H{heads} N{tokens} D{dim}",
        direction,
        lambda device: tuple(random(*shape, device=device, mean=m) for m in (0.3, -0.2, 0.5)),
        linear_attention,
        peers.linfusion,
        moved=passes * elements * size_of(device),
        flops=(4 if direction == "forward" else 12) * elements * dim,
        dtype=type_on(device),
        definition=linear_attention,
        asides=peers.beside_linear_attention(tokens),
        gates=gates or {},
    )


def local_case(
    device: str,
    side: int,
    window: int,
    direction: str,
    gates: dict | None = None,
    text: int = LOCAL_TEXT,
    heads: int = LOCAL_HEADS,
    dim: int = LOCAL_DIM,
    flexible: bool = True,
) -> Case:
    """CLEAR's attention in FLUX; least work: the pairs of the disc and of the text."""
    tokens = text + side * side
    keywords = {"height": side, "width": side, "window": window, "text_length": text}
    pairs = disc_pairs(side, side, window) + side * side * text + text * tokens
    published: dict[str, Callable[[str], Callable[..., Any]]] = {}
    if flexible:
        published["row-major flex"] = partial(peers.clear, side, window, text)
        published["tiled flex"] = lambda device: partial(flex.local_attention, **keywords)
    if side <= 256:
        published["full softmax"] = lambda device: peers.softmax
    return Case(
        "local_attention",
        f"{side}x{side} + {text}, window {window}, H{heads} D{dim}",
        direction,
        lambda device: tuple(
            random(1, heads, tokens, dim, device=device, mean=m) for m in (0.3, -0.2, 0.5)
        ),
        partial(local_attention, **keywords),
        partial(local_attention, **keywords),
        moved=(4 if direction == "forward" else 11) * heads * tokens * dim * size_of(device),
        flops=(4 if direction == "forward" else 14) * heads * dim * pairs,
        dtype=type_on(device),
        definition=partial(local_attention, **keywords),
        published=False,
        peers=published,
        gates=gates or {},
    )


def depthwise_case(
    device: str,
    batch: int,
    channels: int,
    side: int,
    direction: str,
    approximate: str = "none",
    gates: dict | None = None,
) -> Case:
    """DiCo's depthwise convolution: two passes forward, three more backward."""

    def inputs(device: str) -> tuple[Tensor, ...]:
        x = random(batch, channels, side, side, device=device, mean=0.3)
        weight = random(channels, 1, 3, 3, device=device)
        bias = random(channels, device=device)
        return x.to(memory_format=torch.channels_last), weight, bias

    alone = direction == "forward"  # the gradient of another layout is not that of x
    elements = batch * channels * side * side
    ours = partial(dwconv_gelu_pool, approximate=approximate)
    return Case(
        "dwconv_gelu_pool",
        f"{batch}x{channels}x{side}x{side}" + (" tanh" if approximate == "tanh" else ""),
        direction,
        inputs,
        ours,
        partial(peers.dico, approximate=approximate),
        moved=(2 if direction == "forward" else 5) * elements * size_of(device),
        flops=0,
        dtype=type_on(device),
        definition=ours,
        peers={"eager NCHW": lambda device: peers.DicoInRows(approximate)} if alone else {},
        gates=gates or {},
    )


def convolution_case(device: str, batch: int, channels: int, side: int) -> Case:
    """How near the library's depthwise convolution alone comes to its two passes."""

    def inputs(device: str) -> tuple[Tensor, ...]:
        x = random(batch, channels, side, side, device=device)
        weight = random(channels, 1, 3, 3, device=device)
        return x.to(memory_format=torch.channels_last), weight

    name, shape = "depthwise 3x3 alone (no kernel)", f"{batch}x{channels}x{side}x{side}"
    moved = 2 * batch * channels * side * side * size_of(device)
    return Case(name, shape, "forward", inputs, None, peers.depthwise, moved, 0, type_on(device))


def norm_case(device: str, batch: int, channels: int, side: int) -> Case:
    """Whether a kernel for GroupNorm and its activation would pay: three passes."""

    def inputs(device: str) -> tuple[Tensor, ...]:
        x = random(batch, channels, side, side, device=device)
        affine = (random(channels, device=device) for _ in range(2))
        return (x.to(memory_format=torch.channels_last), *affine)

    shape = f"{batch}x{channels}x{side}x{side}"
    moved = 3 * batch * channels * side * side * size_of(device)
    name = "GroupNorm + SiLU (no kernel)"
    return Case(
        name, shape, "forward", inputs, None, peers.group_norm_act, moved, 0, type_on(device)
    )


def modulation_case(device: str, batch: int, tokens: int, width: int) -> Case:
    """Whether a kernel for the backward pass of a modulated LayerNorm would pay: five passes."""

    def inputs(device: str) -> tuple[Tensor, ...]:
        rows = (random(batch, width, device=device) for _ in range(2))
        return (random(batch, tokens, width, device=device), *rows)

    shape, moved = f"{batch}x{tokens}x{width}", 5 * batch * tokens * width * size_of(device)
    name, direction = "modulated LayerNorm (no kernel)", "forward and backward"
    return Case(
        name, shape, direction, inputs, None, peers.modulated_norm, moved, 0, type_on(device)
    )


def token_case(device: str, batch: int, tokens: int, codes: int) -> Case:
    """Whether a kernel that draws tokens would pay: one pass over both halves of guidance."""

    def inputs(device: str) -> tuple[Tensor, ...]:
        logits = tuple(random(batch, tokens, codes, device=device) for _ in range(2))
        noise = torch.rand(
            batch, tokens, codes, device=device, generator=torch.Generator(device).manual_seed(0)
        )
        return (*logits, noise)

    shape = f"{batch}x{tokens}x{codes}"
    moved = batch * tokens * codes * (2 * size_of(device) + 4)  # and float32 noise
    name = "drawing tokens (no kernel)"
    return Case(name, shape, "forward", inputs, None, peers.draw_tokens, moved, 0, type_on(device))


def forward_case(
    device: str,
    name: str,
    batch: int,
    side: int,
    gates: dict | None = None,
    backend: str = "inductor",
    keywords: dict[str, Any] | None = None,
) -> Case:
    """A whole forward pass; ours is compiled as well, with our operators in it."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = create_model(name, **(keywords or {}))
        sample = torch.zeros(1, 4, side, side)
        labels, time = torch.zeros(1, dtype=torch.long), torch.zeros(1)
        with FlopCounterMode(display=False) as counter:
            model(sample, time, labels)

    def inputs(device: str) -> tuple[Tensor, ...]:
        model.to_empty(device=device)
        model.init_weights()
        model.to(torch.bfloat16 if device == "cuda" else torch.float32)
        model.to(memory_format=torch.channels_last)
        x = random(batch, 4, side, side, device=device).to(memory_format=torch.channels_last)
        return x, torch.full((batch,), 500.0, device=device), torch.arange(batch, device=device)

    weights = sum(parameter.numel() for parameter in model.parameters())
    return Case(
        f"{name} forward",
        f"{batch}x4x{side}x{side}",
        "forward",
        inputs,
        torch.compile(lambda *args: model(*args), dynamic=False, backend=backend),
        lambda *args: model(*args),
        moved=size_of(device) * weights,
        flops=batch * counter.get_total_flops(),
        dtype=type_on(device),
        gates=gates or {},
    )
