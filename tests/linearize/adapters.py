"""Random LoRA and IP-Adapters in the layouts that diffusers loads."""

import torch
from diffusers.models.attention_processor import (
    IPAdapterAttnProcessor,
    SD3IPAdapterJointAttnProcessor2_0,
)
from diffusers.models.embeddings import ImageProjection, IPAdapterTimeImageProjection
from diffusers.models.transformers.transformer_flux import FluxIPAdapterAttnProcessor
from linear_models import network
from torch import nn

LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "ff.net.2")
PICTURE = 6  # width of what an image encoder says


def lora(pipe):
    """Of rank 2 on attentions and feed-forwards, by the names of a file."""
    generator = torch.Generator().manual_seed(3)
    prefix = "unet" if hasattr(pipe, "unet") else "transformer"
    state = {}
    for name, layer in network(pipe).named_modules():
        if isinstance(layer, nn.Linear) and name.endswith(LAYERS):
            rows, columns = layer.weight.shape
            down = torch.randn(2, columns, generator=generator)
            up = torch.randn(rows, 2, generator=generator)
            state[f"{prefix}.{name}.lora_A.weight"] = down * 0.2
            state[f"{prefix}.{name}.lora_B.weight"] = up * 0.2
    return state


def load_ip_adapter(pipe):
    """Puts a random one on the network of a pipeline, as `load_ip_adapter` does with a file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network(pipe)._load_ip_adapter_weights(ip_state(network(pipe)))


def ip_state(model):
    kind = type(model).__name__
    if kind == "UNet2DConditionModel":
        return of_unet(model)
    return of_flux(model) if kind == "FluxTransformer2DModel" else of_sd3(model)


def projection(width):
    state = ImageProjection(PICTURE, width, num_image_text_embeds=4).state_dict()
    return {name.replace("image_embeds", "proj"): tensor for name, tensor in state.items()}


def of_unet(model):
    layers, number = {}, 1
    for name in model.attn_processors:
        if not name.endswith("attn2.processor"):
            continue
        attention = model.get_submodule(name.removesuffix(".processor"))
        width = model.config.cross_attention_dim
        own = IPAdapterAttnProcessor(attention.inner_dim, width).state_dict()
        for part in ("to_k_ip", "to_v_ip"):
            layers[f"{number}.{part}.weight"] = own[f"{part}.0.weight"]
        number += 2
    return {"image_proj": projection(model.config.cross_attention_dim), "ip_adapter": layers}


def of_flux(model):
    layers = {}
    for number in range(len(model.transformer_blocks)):
        width = model.config.joint_attention_dim
        own = FluxIPAdapterAttnProcessor(model.inner_dim, width).state_dict()
        for part in ("to_k_ip", "to_v_ip"):
            for kind in ("weight", "bias"):
                layers[f"{number}.{part}.{kind}"] = own[f"{part}.0.{kind}"]
    return {"image_proj": projection(model.config.joint_attention_dim), "ip_adapter": layers}


def of_sd3(model):
    width, layers = model.inner_dim, {}
    for number, _ in enumerate(model.attn_processors):
        dim = model.config.attention_head_dim
        own = SD3IPAdapterJointAttnProcessor2_0(width, width, dim, timesteps_emb_dim=64)
        layers |= {f"{number}.{name}": tensor for name, tensor in own.state_dict().items()}
    proj = IPAdapterTimeImageProjection(
        embed_dim=PICTURE, output_dim=width, hidden_dim=64, heads=1, num_queries=4
    ).state_dict()
    return {"image_proj": as_published(proj), "ip_adapter": layers}


def as_published(state):
    """Names of InstantX's file, which diffusers translates."""
    renamed = {}
    for name, tensor in state.items():
        for ours, theirs in (
            (".ln0", ".0.norm1"),
            (".ln1", ".0.norm2"),
            (".attn.to_q", ".0.to_q"),
            (".attn.to_kv", ".0.to_kv"),
            (".attn.to_out.0", ".0.to_out"),
            (".adaln_norm", ".1.0"),
            (".adaln_proj", ".2.1"),
            (".ff.net.0.proj", ".1.1"),
            (".ff.net.2", ".1.3"),
        ):
            name = name.replace(ours, theirs)
        renamed[name] = tensor
    return renamed
