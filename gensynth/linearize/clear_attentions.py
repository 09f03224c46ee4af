"""diffusers' attentions with CLEAR's neighbourhood: queries, keys and values stay theirs.

An attention becomes one of these by its class (see `swap`), so that LoRA on its layers and
IP-Adapters in its processor go on working, whether they came before or come after.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, SD3IPAdapterJointAttnProcessor2_0
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttention, FluxIPAdapterAttnProcessor
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.linearize.attentions import check_processor, put_out, warn_of_unknown
from gensynth.linearize.clear import NAME, attend
from gensynth.models.layers.grid import Grid, merge_heads, split_heads
from gensynth.ops import local_attention


class ClearFluxAttention(FluxAttention):
    """Of FLUX: double blocks, to which text comes apart, and single ones, where it is in front."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        grid: Grid | None = None,
        ip_hidden_states: list[Tensor] | None = None,
        **unknown: Any,
    ) -> Tensor | tuple[Tensor, ...]:
        check_call(self, attention_mask, unknown)
        q = self.norm_q(self.heads_of(self.to_q(hidden_states)))
        k = self.norm_k(self.heads_of(self.to_k(hidden_states)))
        v = self.heads_of(self.to_v(hidden_states))
        image_q = q
        if encoder_hidden_states is not None:
            text_q = self.norm_added_q(self.heads_of(self.add_q_proj(encoder_hidden_states)))
            text_k = self.norm_added_k(self.heads_of(self.add_k_proj(encoder_hidden_states)))
            text_v = self.heads_of(self.add_v_proj(encoder_hidden_states))
            q, k, v = (torch.cat(x, dim=2) for x in ((text_q, q), (text_k, k), (text_v, v)))
        if image_rotary_emb is not None:
            q, k = (apply_rotary_emb(x, image_rotary_emb, sequence_dim=2) for x in (q, k))
        output = attend(self, q, k, v, grid)
        if encoder_hidden_states is None:
            return output
        lengths = [encoder_hidden_states.shape[1], hidden_states.shape[1]]
        text, image = output.split(lengths, dim=1)
        image, text = put_out(self, image), self.to_add_out(text)
        processor = self.processor
        if not isinstance(processor, FluxIPAdapterAttnProcessor) or ip_hidden_states is None:
            return image, text
        return image, text, self.of_pictures(processor, image_q, ip_hidden_states)

    def heads_of(self, tokens: Tensor) -> Tensor:
        """[B, N, C] -> [B, H, N, D], whatever part of the heads this process holds."""
        return tokens.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def of_pictures(self, processor: Any, q: Tensor, pictures: list[Tensor]) -> Tensor:
        """What an IP-Adapter adds: attention to the tokens of its pictures, as it is published."""
        layers = zip(pictures, processor.scale, processor.to_k_ip, processor.to_v_ip, strict=False)
        added = torch.zeros_like(merge_heads(q))
        for tokens, scale, to_k, to_v in layers:
            tokens = tokens.flatten(1, -2)  # of all pictures that one adapter is shown
            k, v = self.heads_of(to_k(tokens)), self.heads_of(to_v(tokens))
            added = added + scale * merge_heads(F.scaled_dot_product_attention(q, k, v))
        return added


class ClearJointAttention(Attention):
    """Of Stable Diffusion 3: with text (`attn`), and of the image alone (`attn2` of 3.5)."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        grid: Grid | None = None,
        ip_hidden_states: Tensor | None = None,
        temb: Tensor | None = None,
        **unknown: Any,
    ) -> Tensor | tuple[Tensor, Tensor]:
        check_call(self, attention_mask, unknown)
        own = [split_heads(layer(hidden_states), self.heads) for layer in self.layers()]
        q, k, v = normed(own, self.norm_q, self.norm_k)
        if encoder_hidden_states is not None:
            added = (self.add_q_proj, self.add_k_proj, self.add_v_proj)
            text = [split_heads(layer(encoder_hidden_states), self.heads) for layer in added]
            text = normed(text, self.norm_added_q, self.norm_added_k)
            # text comes first in our operator; attention does not mind the order
            q, k, v = (torch.cat(x, dim=2) for x in zip(text, (q, k, v), strict=True))
        output = attend(self, q, k, v, grid)
        image = output[:, -hidden_states.shape[1] :]
        processor = self.processor
        if (
            isinstance(processor, SD3IPAdapterJointAttnProcessor2_0)
            and ip_hidden_states is not None
            and processor.scale != 0
        ):
            pictures = processor.norm_ip(ip_hidden_states, temb=temb)
            image = image + self.of_pictures(processor, own, pictures, grid) * processor.scale
        image = put_out(self, image)
        if encoder_hidden_states is None:
            return image
        words = output[:, : encoder_hidden_states.shape[1]]
        return image, words if self.context_pre_only else self.to_add_out(words)

    def layers(self) -> tuple[Any, Any, Any]:
        return self.to_q, self.to_k, self.to_v

    def of_pictures(
        self, processor: Any, own: list[Tensor], pictures: Tensor, grid: Grid | None
    ) -> Tensor:
        """What an IP-Adapter adds: attention to the neighbourhood and the tokens of its pictures.

        These are seen from everywhere, as text is, and their own queries are not asked for.
        """
        q, k, v = normed(own, processor.norm_q, processor.norm_k)
        picture_k = processor.norm_ip_k(split_heads(processor.to_k_ip(pictures), self.heads))
        picture_v = split_heads(processor.to_v_ip(pictures), self.heads)
        assert grid is not None  # `attend` has refused it
        output = local_attention(
            torch.cat([torch.zeros_like(picture_k), q], dim=2),
            torch.cat([picture_k, k], dim=2),
            torch.cat([picture_v, v], dim=2),
            height=grid.height,
            width=grid.width,
            window=self.clear.window,
            text_length=pictures.shape[1],
        )
        return merge_heads(output[:, :, pictures.shape[1] :])


class ClearSelfAttention(Attention):
    """Of PixArt: of the image alone; its words have an attention of their own."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        grid: Grid | None = None,
        **unknown: Any,
    ) -> Tensor:
        check_call(self, attention_mask, unknown)
        layers = (self.to_q, self.to_k, self.to_v)
        q, k, v = (split_heads(layer(hidden_states), self.heads) for layer in layers)
        return put_out(self, attend(self, q, k, v, grid))


def normed(heads: list[Tensor], norm_q: Any, norm_k: Any) -> list[Tensor]:
    """Queries, keys and values, the first two normalised where the model does so."""
    q, k, v = heads
    return [q if norm_q is None else norm_q(q), k if norm_k is None else norm_k(k), v]


def check_call(attention: Any, attention_mask: Tensor | None, unknown: Mapping[str, Any]) -> None:
    """Refuses what would be left out in silence; of keywords that nothing knows it warns.

    Raises:
        UsageError: there is a mask, or a processor that does more than softmax attention.
    """
    check_processor(attention, NAME)
    if unknown:
        warn_of_unknown(attention, unknown)
    if attention_mask is not None:
        raise UsageError(
            "CLEAR's attention has no masks beside its window; call the model without "
            "attention_mask, or gensynth.restore it first."
        )
