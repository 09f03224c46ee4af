"""Other pipelines around a linearized network: image to image, inpainting, ControlNet."""

import diffusers
import pytest
import torch
from linear_models import CASES, draw, network, tiny

import gensynth
from gensynth.errors import UsageError

PICTURE = torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64)
MASK = torch.zeros(1, 1, 64, 64)
MASK[..., 20:50] = 1
TO_IMAGE = {"image": PICTURE, "strength": 0.9}
INPAINT = {**TO_IMAGE, "mask_image": MASK}
KINDS = {
    "sd to image": ("sd", "StableDiffusionImg2ImgPipeline", TO_IMAGE),
    "sd inpaint": ("sd", "StableDiffusionInpaintPipeline", INPAINT),
    "sdxl to image": ("sdxl", "StableDiffusionXLImg2ImgPipeline", TO_IMAGE),
    "sdxl inpaint": ("sdxl", "StableDiffusionXLInpaintPipeline", INPAINT),
    "flux to image": ("flux", "FluxImg2ImgPipeline", TO_IMAGE),
    "flux inpaint": ("flux", "FluxInpaintPipeline", INPAINT),
    "sd3 to image": ("sd3", "StableDiffusion3Img2ImgPipeline", TO_IMAGE),
    "sd3 inpaint": ("sd3", "StableDiffusion3InpaintPipeline", INPAINT),
    "sd controlnet": ("sd", "StableDiffusionControlNetPipeline", {"image": PICTURE}),
    "sdxl controlnet": ("sdxl", "StableDiffusionXLControlNetPipeline", {"image": PICTURE}),
    "flux controlnet": ("flux", "FluxControlNetPipeline", {"control_image": PICTURE}),
    "sd3 controlnet": ("sd3", "StableDiffusion3ControlNetPipeline", {"control_image": PICTURE}),
}


class AsPublished:
    """Linear attention of a UNet's own queries and keys, with which LinFusion begins."""

    def __call__(self, attention, tokens, encoder_hidden_states=None, attention_mask=None):
        layers = (attention.to_q, attention.to_k, attention.to_v)
        q, k, v = (layer(tokens).unflatten(2, (attention.heads, -1)) for layer in layers)
        q, k = torch.nn.functional.elu(q) + 1, torch.nn.functional.elu(k) + 1
        states = torch.einsum("bnhd,bnhe->bhde", k, v) / tokens.shape[1]
        total = torch.einsum("bnhd,bhd->bnh", q, k.mean(1)) + 1e-4
        output = torch.einsum("bnhd,bhde->bnhe", q, states) / total[..., None]
        return attention.to_out[0](output.flatten(2))


def controlnet(name, pipe):
    """One of the network's own shapes whose last layers are not zero, as after a training."""
    model = network(pipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        if name in ("sd", "sdxl"):
            net = diffusers.ControlNetModel.from_unet(
                model, conditioning_embedding_out_channels=(4, 4, 4, 4)
            )
        elif name == "flux":
            keys = ("guidance_embeds", "in_channels", "axes_dims_rope", "joint_attention_dim")
            keys += ("attention_head_dim", "num_attention_heads", "pooled_projection_dim")
            config = {key: model.config[key] for key in keys}
            net = diffusers.FluxControlNetModel(num_layers=1, num_single_layers=1, **config)
        else:
            net = diffusers.SD3ControlNetModel.from_transformer(
                model, num_layers=1, num_extra_conditioning_channels=0
            )
        for parameter in net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return net.eval()


def with_published_channels(pipe):
    """Stable Diffusion 3 of 16 channels of latents; its inpainting refuses others."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = type(pipe.vae).from_config({**pipe.vae.config, "latent_channels": 16})
        channels = {"in_channels": 16, "out_channels": 16}
        model = type(pipe.transformer).from_config({**pipe.transformer.config, **channels})
    parts = {**pipe.components, "vae": vae.eval(), "transformer": model.eval()}
    return type(pipe)(**parts)


@pytest.mark.parametrize("case", KINDS)
def test_pipelines_that_share_the_network(case):
    name, kind, keywords = KINDS[case]
    pipe = tiny(name)
    if case == "sd3 inpaint":
        pipe = with_published_channels(pipe)
    added = {"controlnet": controlnet(name, pipe)} if "controlnet" in case else {}
    other = getattr(diffusers, kind).from_pipe(pipe, **added)
    other.set_progress_bar_config(disable=True)
    softmax = draw(other, **keywords)
    method, options = CASES[name]
    gensynth.linearize(other, method, **options)
    linear = draw(other, **keywords)
    assert not torch.equal(linear, softmax)
    assert network(other) is network(pipe)
    with pytest.raises(UsageError, match="linearized already"):
        gensynth.linearize(pipe, method, **options)
    gensynth.restore(pipe)
    assert torch.equal(draw(other, **keywords), softmax)
    if method == "clear":
        gensynth.linearize(other, method, window=9)  # of 4 x 4 tokens, so all of them
        expected, drawn = softmax, draw(other, **keywords)
    else:
        for name, attention in other.unet.named_modules():
            if name.endswith("attn1"):
                attention.set_processor(AsPublished())
        expected, drawn = draw(other, **keywords), linear
    torch.testing.assert_close(drawn, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["sd", "flux", "sd3"])
def test_a_control_net_steers_a_linear_student(name):
    """And with a window over the whole grid it steers as it does the teacher."""
    pipe = tiny(name)
    kind = next(one for case, (_, one, _) in KINDS.items() if case == f"{name} controlnet")
    other = getattr(diffusers, kind).from_pipe(pipe, controlnet=controlnet(name, pipe))
    other.set_progress_bar_config(disable=True)
    image = KINDS[f"{name} controlnet"][2]
    dark = {key: torch.zeros_like(value) for key, value in image.items()}
    softmax = draw(other, **image)
    if name == "sd":
        gensynth.linearize(other)
    else:
        gensynth.linearize(other, "clear", window=9)
        torch.testing.assert_close(draw(other, **image), softmax, atol=1e-4, rtol=1e-4)
    assert not torch.equal(draw(other, **image), draw(other, **dark))
