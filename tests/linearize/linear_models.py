"""Tiny models of each family, what they are called with, and what is linearized how."""

import copy
import functools

import tiny_pipelines
import torch

CASES = {
    "sd": ("linfusion", {}),
    "sdxl": ("linfusion", {"projection_dim": 5}),
    "flux": ("clear", {"window": 2, "down_factor": 2}),
    "sd3": ("clear", {"window": 2}),
    "sd35": ("clear", {"window": 2, "down_factor": 2, "proportional_attention": True}),
    "pixart": ("clear", {"window": 2, "down_factor": 2}),
}
MADE = {
    "sd": tiny_pipelines.tiny_sd,
    "sdxl": tiny_pipelines.tiny_sdxl,
    "flux": tiny_pipelines.tiny_flux,
    "sd3": tiny_pipelines.tiny_sd3,
    "sd35": functools.partial(
        tiny_pipelines.tiny_sd3, dual_attention_layers=(0,), qk_norm="rms_norm"
    ),
    "pixart": tiny_pipelines.tiny_pixart,
}


@functools.cache
def _first(name):
    return MADE[name]()


def tiny(name):
    """A pipeline of its own; those of one name are equal."""
    return copy.deepcopy(_first(name))


def network(pipe):
    """Of a pipeline; a network is its own."""
    if isinstance(pipe, torch.nn.Module):
        return pipe
    return pipe.unet if hasattr(pipe, "unet") else pipe.transformer


def bare(name):
    """A network of its own without a pipeline around it; those of one name are equal."""
    return copy.deepcopy(network(_first(name)))


def call(model, height=8, width=8, **keywords):
    """What a network says of latents of that size, twice the size in tokens but for UNets."""
    generator = torch.Generator().manual_seed(9)
    inner = getattr(model, "_orig_mod", model)  # of a compiled network the one inside
    config, kind = inner.config, type(inner).__name__

    def noise(*shape):
        return torch.randn(*shape, generator=generator).to(inner.dtype)

    told = {"timestep": torch.tensor([0.5])}
    if kind == "UNet2DConditionModel":
        told["encoder_hidden_states"] = noise(1, 5, config.cross_attention_dim)
        if config.addition_embed_type is not None:
            wide = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            sizes = {"text_embeds": noise(1, wide), "time_ids": noise(1, 6)}
            told["added_cond_kwargs"] = sizes
        sample = noise(1, config.in_channels, height, width)
    elif kind == "PixArtTransformer2DModel":
        told["encoder_hidden_states"] = noise(1, 5, config.caption_channels)
        sample = noise(1, config.in_channels, height, width)
    else:
        told["encoder_hidden_states"] = noise(1, 5, config.joint_attention_dim)
        told["pooled_projections"] = noise(1, config.pooled_projection_dim)
        sample = noise(1, config.in_channels, height, width)
    if kind == "FluxTransformer2DModel":
        rows, columns = torch.arange(height // 2), torch.arange(width // 2)
        ids = torch.zeros(len(rows), len(columns), 3)
        ids[..., 1], ids[..., 2] = rows[:, None], columns
        told |= {"img_ids": ids.view(-1, 3), "txt_ids": torch.zeros(5, 3)}
        told["guidance"] = torch.tensor([2.0])
        sample = noise(1, len(rows) * len(columns), config.in_channels)
    with torch.no_grad():
        return model(sample, **told, **keywords).sample


def draw(pipe, height=64, width=64, **keywords):
    """Two steps of one seed, float32 [H, W, 3]."""
    if "PixArt" in type(pipe).__name__:
        # or it would draw another size, and asks for a library
        keywords |= {"use_resolution_binning": False, "clean_caption": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)  # some pipelines encode a picture with torch's own generator
        picture = pipe(
            "a red apple",
            height=height,
            width=width,
            num_inference_steps=2,
            output_type="pt",
            generator=torch.Generator().manual_seed(1),
            **keywords,
        ).images
    assert picture.isfinite().all()
    return picture


def shaken(pipe):
    """The pipeline with other weights in its new parts, as after a training."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in network(pipe).named_parameters():
        if any(new in name for new in ("to_q_.", "to_k_.", "spatial_weight", "attn1.to_q")):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.add_(noise * 0.3)
    return pipe
