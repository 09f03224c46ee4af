"""The networks of each codec, layer by layer: the same calls in the same order as in its class."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from gensynth.autoencoders.dc import DCAutoencoder
from gensynth.autoencoders.kl import KLAutoencoder
from gensynth.autoencoders.latent_vq import LatentVQ
from gensynth.autoencoders.levels import from_levels, to_levels
from gensynth.autoencoders.pixels import PixelAutoencoder
from gensynth.autoencoders.quantizer import check_tokens
from gensynth.autoencoders.taesd import TaesdAutoencoder
from gensynth.autoencoders.tiling.chain import Stage, stage
from gensynth.autoencoders.tiling.field import Step
from gensynth.autoencoders.tiny import TinyAutoencoder
from gensynth.autoencoders.vq import VQAutoencoder
from gensynth.autoencoders.vqmodel import VQModelAutoencoder
from gensynth.errors import UsageError

Stages = Iterator[Stage]


def decoder_of(codec: Any) -> list[Stage]:
    """From latents or tokens to uint8 pixels, as `codec.decode`.

    Raises:
        UsageError: a codec, or a layer of one, that is not known here.
    """
    return [_to_device(codec), *_parts(codec)[1](codec)]


def encoder_of(codec: Any) -> list[Stage]:
    """From uint8 pixels to latents or tokens, as `codec.encode` without random numbers.

    Raises:
        UsageError: a codec, or a layer of one, that is not known here.
    """
    return [_to_device(codec), *_parts(codec)[0](codec)]


def _parts(codec: Any) -> "tuple[Callable[[Any], Stages], Callable[[Any], Stages]]":
    for kind, parts in CHAINS.items():
        if type(codec) is kind:
            return parts
    raise UsageError(
        f"a {type(codec).__name__} does not work in tiles; use its own encode and decode."
    )


def point(run: Callable[[Tensor], Tensor]) -> Stage:
    """A stage that looks at each position alone."""
    return Stage(run)


def _to_device(codec: Any) -> Stage:
    """Pictures and latents may lie elsewhere: windows of them are brought one by one."""
    return point(lambda window: window.to(codec.device))


def _to_network(codec: Any) -> Stage:
    return point(lambda images: from_levels(images).to(codec.dtype))


def _pixels_encode(codec: PixelAutoencoder) -> Stages:
    yield Stage(codec.encode, (Step(down=codec.patch),))


def _pixels_decode(codec: PixelAutoencoder) -> Stages:
    yield Stage(codec.decode, (Step(up=codec.patch),))


def _tiny_encode(codec: TinyAutoencoder) -> Stages:
    yield _to_network(codec)
    yield point(lambda pixels: (pixels + 1) / 2)
    yield from map(stage, codec.encoder)
    yield point(codec.scaled)


def _tiny_decode(codec: TinyAutoencoder) -> Stages:
    yield point(codec.unscaled)
    yield from map(stage, codec.decoder)
    yield point(lambda pixels: to_levels(2 * pixels - 1))


def _taesd_encode(codec: TaesdAutoencoder) -> Stages:
    yield _to_network(codec)
    yield point(lambda pixels: pixels.add(1).div(2))
    yield from map(stage, codec.encoder.layers)
    yield point(codec.scaled)


def _taesd_decode(codec: TaesdAutoencoder) -> Stages:
    yield point(codec.unscaled)
    yield point(lambda latents: torch.tanh(latents / 3) * 3)
    yield from map(stage, codec.decoder.layers)
    yield point(lambda pixels: to_levels(pixels.mul(2).sub(1)))


def _resnets(block: Any) -> Stages:
    """The layers of a block of diffusers' convolutional networks, in the order of its call."""
    attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
    for resnet, attention in zip(block.resnets, attentions, strict=True):
        yield _one_of_diffusers(resnet)
        if attention is not None:
            yield _one_of_diffusers(attention)
    for name in ("downsamplers", "upsamplers"):
        yield from map(stage, getattr(block, name, None) or [])


def _middle(block: Any) -> Stages:
    yield _one_of_diffusers(block.resnets[0])
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        if attention is not None:
            yield _one_of_diffusers(attention)
        yield _one_of_diffusers(resnet)


def _one_of_diffusers(layer: nn.Module) -> Stage:
    if isinstance(layer, ResnetBlock2D):
        return stage(layer, lambda copied, features: copied(features, None))
    if not isinstance(layer, Attention):
        return stage(layer)
    return stage(layer, lambda copied, features: copied(features))


def _convolutional_encoder(encoder: Any) -> Stages:
    yield stage(encoder.conv_in)
    for block in encoder.down_blocks:
        yield from _resnets(block)
    yield from _middle(encoder.mid_block)
    yield from map(stage, (encoder.conv_norm_out, encoder.conv_act, encoder.conv_out))


def _convolutional_decoder(decoder: Any) -> Stages:
    yield stage(decoder.conv_in)
    yield from _middle(decoder.mid_block)
    for block in decoder.up_blocks:
        yield from _resnets(block)
    yield from map(stage, (decoder.conv_norm_out, decoder.conv_act, decoder.conv_out))


def _kl_encode(codec: KLAutoencoder) -> Stages:
    yield _to_network(codec)
    yield from _convolutional_encoder(codec.encoder)
    if codec.quant_conv is not None:
        yield stage(codec.quant_conv)
    # the posterior's mean; its other half is the variance
    yield point(lambda moments: codec.scaled(moments.chunk(2, dim=1)[0]))


def _kl_decode(codec: KLAutoencoder) -> Stages:
    yield point(codec.unscaled)
    if codec.post_quant_conv is not None:
        yield stage(codec.post_quant_conv)
    yield from _convolutional_decoder(codec.decoder)
    yield point(to_levels)


def _over_channels(norm: nn.Module, features: Tensor) -> Tensor:
    normed: Tensor = norm(features.movedim(1, -1))
    return normed.movedim(-1, 1)


def _dc_encode(codec: DCAutoencoder) -> Stages:
    encoder: Any = codec.encoder
    yield _to_network(codec)
    yield stage(encoder.conv_in)
    for block in encoder.down_blocks:
        yield from map(stage, block)

    def with_means(convolution: Any, features: Tensor) -> Tensor:
        means = features.unflatten(1, (-1, encoder.out_shortcut_average_group_size)).mean(dim=2)
        return convolution(features) + means

    yield stage(encoder.conv_out, with_means if encoder.out_shortcut else None)
    yield point(codec.scaled)


def _dc_decode(codec: DCAutoencoder) -> Stages:
    decoder: Any = codec.decoder

    def with_copies(convolution: Any, latents: Tensor) -> Tensor:
        copies = latents.repeat_interleave(decoder.in_shortcut_repeats, dim=1)
        return convolution(latents) + copies

    yield point(codec.unscaled)
    yield stage(decoder.conv_in, with_copies if decoder.in_shortcut else None)
    for block in reversed(decoder.up_blocks):
        yield from map(stage, block)
    yield stage(decoder.norm_out, _over_channels)
    yield from map(stage, (decoder.conv_act, decoder.conv_out))
    yield point(to_levels)


def _vq_encode(codec: VQAutoencoder) -> Stages:
    yield _to_network(codec)
    yield from _features(codec)


def _features(codec: VQAutoencoder) -> Stages:
    yield from _convolutional_encoder(codec.encoder)
    yield stage(codec.before)
    yield point(codec.quantizer.nearest)


def _codes(codec: VQAutoencoder) -> Stages:
    def looked_up(tokens: Tensor) -> Tensor:
        check_tokens(tokens, codec.codebook_size)
        return codec.quantizer.lookup(tokens)

    yield point(looked_up)
    yield stage(codec.after)
    yield from _convolutional_decoder(codec.decoder)


def _vq_decode(codec: VQAutoencoder) -> Stages:
    yield from _codes(codec)
    yield point(to_levels)


def _latent_vq_encode(codec: LatentVQ) -> Stages:
    yield from encoder_of(codec.held())
    yield point(lambda latents: latents.to(codec.dtype))
    yield from _features(codec)


def _latent_vq_decode(codec: LatentVQ) -> Stages:
    yield from _codes(codec)
    yield from decoder_of(codec.held())


def _vqmodel_encode(codec: VQModelAutoencoder) -> Stages:
    def nearest(features: Tensor) -> Tensor:
        _, _, (_, _, tokens) = codec.quantize(features)
        return tokens.view(len(features), *features.shape[2:])

    yield _to_network(codec)
    yield from _convolutional_encoder(codec.encoder)
    yield stage(codec.quant_conv)
    yield point(nearest)


def _vqmodel_decode(codec: VQModelAutoencoder) -> Stages:
    def looked_up(tokens: Tensor) -> Tensor:
        check_tokens(tokens, codec.codebook_size)
        return codec.quantize.embedding(tokens).permute(0, 3, 1, 2).contiguous()

    yield point(looked_up)
    yield stage(codec.post_quant_conv)
    yield from _convolutional_decoder(codec.decoder)
    yield point(to_levels)


CHAINS: dict[type, tuple[Callable[[Any], Stages], Callable[[Any], Stages]]] = {
    PixelAutoencoder: (_pixels_encode, _pixels_decode),
    TinyAutoencoder: (_tiny_encode, _tiny_decode),
    TaesdAutoencoder: (_taesd_encode, _taesd_decode),
    KLAutoencoder: (_kl_encode, _kl_decode),
    DCAutoencoder: (_dc_encode, _dc_decode),
    VQAutoencoder: (_vq_encode, _vq_decode),
    LatentVQ: (_latent_vq_encode, _latent_vq_decode),
    VQModelAutoencoder: (_vqmodel_encode, _vqmodel_decode),
}


def stages_of(codec: Any) -> Sequence[tuple[list[Stage], int]]:
    """Both chains, each with the positions of its input for a latent position."""
    return [(decoder_of(codec), 1), (encoder_of(codec), codec.patch)]
