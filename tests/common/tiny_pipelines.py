"""Pipelines of diffusers' own classes with a few random weights and tokenizers made here.

Their parts have the shapes and settings of the published ones where these matter: latents of an
eighth of the side (Sana: of a 32nd), three kinds of text encoders, the published schedulers. All
but FLUX, whose own size is 1024x1024 whatever its weights, draw 64x64 pixels unless told otherwise.
"""

import functools
from collections.abc import Callable
from typing import Any

import diffusers
import torch
from tiny_encoders import WIDTH, clip, clip_tokenizer, gemma, gemma_tokenizer, t5, t5_tokenizer

SIDE = 64  # pixels


def _vae(**settings: Any) -> Any:
    """Pixels to four channels of latents of an eighth of the side."""
    return diffusers.AutoencoderKL(
        block_out_channels=(4, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIDE,
        **settings,
    )


def _unet(**settings: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=SIDE // 8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8,
        **settings,
    )


def _seeded(make: Callable[..., Any]) -> Callable[..., Any]:
    """The same weights for the same seed, without touching torch's own generator."""

    @functools.wraps(make)
    def seeded(seed: int = 0, **settings: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            pipeline = make(**settings)
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval()
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return seeded


@_seeded
def tiny_sd(**unet: Any) -> Any:
    """As Stable Diffusion 1.5: UNet, one CLIP, PNDM."""
    tokenizer = clip_tokenizer()
    return diffusers.StableDiffusionPipeline(
        vae=_vae(scaling_factor=0.18215),
        text_encoder=clip(tokenizer),
        tokenizer=tokenizer,
        unet=_unet(cross_attention_dim=WIDTH, attention_head_dim=4, **unet),
        scheduler=diffusers.PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@_seeded
def tiny_sdxl(**unet: Any) -> Any:
    """As SDXL: UNet with linear projections, two CLIPs, sizes as a condition, Euler."""
    tokenizer = clip_tokenizer()
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(scaling_factor=0.13025, force_upcast=True),
        text_encoder=clip(tokenizer),
        text_encoder_2=clip(tokenizer, projected=True),
        tokenizer=tokenizer,
        tokenizer_2=clip_tokenizer(),
        unet=_unet(
            cross_attention_dim=2 * WIDTH,
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
            transformer_layers_per_block=(1, 2),
            **unet,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
    )


@_seeded
def tiny_sd3(with_t5: bool = True, **transformer: Any) -> Any:
    """As Stable Diffusion 3: joint attention, two CLIPs and, unless left out, a T5."""
    tokenizer, words = clip_tokenizer(), t5_tokenizer()
    sizes = {
        "sample_size": SIDE // 8,
        "patch_size": 2,
        "in_channels": 4,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 4,
        "caption_projection_dim": 32,
        "joint_attention_dim": 2 * WIDTH,  # the two CLIPs side by side
        "pooled_projection_dim": 2 * WIDTH,
        "out_channels": 4,
        "pos_embed_max_size": 16,
    }
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(**{**sizes, **transformer}),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=clip(tokenizer, projected=True),
        tokenizer=tokenizer,
        text_encoder_2=clip(tokenizer, projected=True),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(words, 2 * WIDTH) if with_t5 else None,
        tokenizer_3=words if with_t5 else None,
    )


@_seeded
def tiny_flux(guidance: bool = True, **transformer: Any) -> Any:
    """As FLUX.1-dev, or without `guidance` as FLUX.1-schnell."""
    tokenizer, words = clip_tokenizer(), t5_tokenizer()
    sizes = {
        "patch_size": 1,
        "in_channels": 16,  # two by two latents of four channels
        "num_layers": 1,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": WIDTH,
        "pooled_projection_dim": WIDTH,
        "axes_dims_rope": (4, 6, 6),
        "guidance_embeds": guidance,
    }
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            shift=3.0 if guidance else 1.0, use_dynamic_shifting=guidance
        ),
        vae=_vae(
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=clip(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=t5(words),
        tokenizer_2=words,
        transformer=diffusers.FluxTransformer2DModel(**{**sizes, **transformer}),
    )


@_seeded
def tiny_pixart(sigma: bool = False, **transformer: Any) -> Any:
    """As PixArt-Alpha, or PixArt-Sigma: cross attention, a T5, DPM-Solver++."""
    words = t5_tokenizer()
    sizes = {
        "sample_size": SIDE // 8,
        "num_layers": 2,
        "patch_size": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 4,
        "cross_attention_dim": 32,
        "caption_channels": WIDTH,
        "in_channels": 4,
        "out_channels": 8,  # with the variance
        "attention_bias": True,
        "activation_fn": "gelu-approximate",
        "norm_type": "ada_norm_single",
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
        "num_embeds_ada_norm": 1000,
        "use_additional_conditions": False,
    }
    kind = diffusers.PixArtSigmaPipeline if sigma else diffusers.PixArtAlphaPipeline
    return kind(
        tokenizer=words,
        text_encoder=t5(words),
        vae=_vae(scaling_factor=0.13025 if sigma else 0.18215),
        transformer=diffusers.PixArtTransformer2DModel(**{**sizes, **transformer}),
        scheduler=diffusers.DPMSolverMultistepScheduler(
            beta_start=0.0001, beta_end=0.02, beta_schedule="linear"
        ),
    )


@_seeded
def tiny_sana(**transformer: Any) -> Any:
    """As Sana: linear attention, a Gemma, the deep compression autoencoder, DPM-Solver++."""
    words = gemma_tokenizer()
    levels = 6  # a 32nd of the side
    sizes = {
        "sample_size": SIDE // 32,
        "patch_size": 1,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 2,
        "num_attention_heads": 4,
        "attention_head_dim": 8,
        "num_cross_attention_heads": 4,
        "cross_attention_head_dim": 8,
        "cross_attention_dim": 32,
        "caption_channels": WIDTH,
    }
    return diffusers.SanaPipeline(
        tokenizer=words,
        text_encoder=gemma(words),
        vae=diffusers.AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock",) * levels,
            decoder_block_types=("ResBlock",) * levels,
            encoder_block_out_channels=(8,) * levels,
            decoder_block_out_channels=(8,) * levels,
            encoder_layers_per_block=(1,) * levels,
            decoder_layers_per_block=(1,) * levels,
            encoder_qkv_multiscales=((),) * levels,
            decoder_qkv_multiscales=((),) * levels,
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ),
        transformer=diffusers.SanaTransformer2DModel(**{**sizes, **transformer}),
        scheduler=diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )
