"""What diffusers' attentions are made of: processors, and layers of which some carry adapters."""

import inspect
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from diffusers.models import attention_processor as processors
from diffusers.models.transformers.transformer_flux import (
    FluxAttention,
    FluxAttnProcessor,
    FluxIPAdapterAttnProcessor,
)
from torch import Tensor

from gensynth.errors import UsageError

LOGGER = logging.getLogger(__name__)
# Keywords that diffusers hands to all attentions for the few that take them.
QUIET = ("ip_adapter_masks", "ip_hidden_states")
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


def warn_of_unknown(attention: Any, keywords: Mapping[str, Any]) -> None:
    """Says of keywords (`cross_attention_kwargs`) that nothing knows them, as diffusers does."""
    known = (*QUIET, *inspect.signature(attention.processor.__call__).parameters)
    names = [name for name in keywords if name not in known]
    if names:
        LOGGER.warning("keywords that no attention takes are left out: %s.", ", ".join(names))


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


def computing_type(tensors: Iterable[Tensor]) -> torch.dtype | None:
    """The first type of numbers in which a model computes; None if all are for storage only."""
    wide = (one.dtype for one in tensors if one.is_floating_point() and one.element_size() > 1)
    return next(wide, None)


def is_fused(attention: Any) -> bool:
    """Whether queries, keys and values of an attention are computed by one matrix."""
    if isinstance(attention, FluxAttention):
        return bool(attention.fused_projections)
    # `Attention` goes on saying that it is fused after it is not
    return type(attention.processor) in FUSED
