"""What diffusers' attentions are made of: processors, and layers of which some carry adapters."""

from typing import Any

from diffusers.models import attention_processor as processors
from diffusers.models.transformers.transformer_flux import (
    FluxAttention,
    FluxAttnProcessor,
    FluxIPAdapterAttnProcessor,
)
from torch import Tensor

from gensynth.errors import UsageError

# Other ways to compute the same, and IP-Adapters, whose part is computed beside.
KNOWN: tuple[type, ...] = (
    processors.AttnProcessor,
    processors.AttnProcessor2_0,
    processors.AttnProcessorNPU,
    processors.SlicedAttnProcessor,
    processors.XFormersAttnProcessor,
    processors.XLAFlashAttnProcessor2_0,
    processors.JointAttnProcessor2_0,
    processors.XFormersJointAttnProcessor,
    processors.SD3IPAdapterJointAttnProcessor2_0,
    FluxAttnProcessor,
    FluxIPAdapterAttnProcessor,
)
# The same on projections in one matrix, of which a linearized attention takes its own three.
FUSED: tuple[type, ...] = (processors.FusedAttnProcessor2_0, processors.FusedJointAttnProcessor2_0)


def check_processor(attention: Any, method: str) -> None:
    """Refuses an attention whose processor does more than attention, at each call.

    Pipelines set processors while they draw, and what these do would be left out in silence.

    Raises:
        UsageError: names the processor.
    """
    processor = attention.processor
    if type(processor) not in KNOWN + FUSED:
        raise UsageError(
            f"the attention processor {type(processor).__name__} does more than attention, and "
            f"{method} would leave it out; take it off (set_attn_processor), or gensynth.restore "
            "the model."
        )
    if getattr(processor, "_parallel_config", None) is not None:
        raise UsageError(
            f"{method} computes a picture on one device; call gensynth.restore before "
            "enable_parallelism."
        )


def put_out(attention: Any, tokens: Tensor) -> Tensor:
    """[B, N, C] through the projection and the dropout of an attention."""
    for layer in attention.to_out:
        tokens = layer(tokens)
    return tokens


def base_of(layer: Any) -> Any:
    """A linear layer without the adapters that peft has put around it."""
    while "base_layer" in layer._modules:
        layer = layer.base_layer
    return layer


def is_fused(attention: Any) -> bool:
    """Whether queries, keys and values of an attention are computed by one matrix."""
    if isinstance(attention, FluxAttention):
        return bool(attention.fused_projections)
    # `Attention` goes on saying that it is fused after it is not
    return type(attention.processor) in FUSED
