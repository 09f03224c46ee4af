"""The VQ tokenizer is the published function: LlamaGen's, as used by Halton-MaskGIT."""

import json

import torch
from reference import load_reference, reference_path

from gensynth.convert.families.vq import IGNORED, build, ours


def official(reference):
    config = reference.config
    keys = ("ch", "num_res_blocks", "z_channels", "codebook_embed_dim", "codebook_size")
    model = build(**{key: config[key] for key in keys}, encoder_ch_mult=config["encoder_ch_mult"])
    own = model.state_dict()
    state = {
        ours(name): tensor.reshape(own[ours(name)].shape)  # 1x1 convolutions as matrices
        for name, tensor in reference.state.items()
        if not name.endswith(IGNORED)
    }
    model.load_state_dict(state)
    return model


def test_encode_and_decode():
    reference = load_reference("maskgit/vq_model.safetensors")
    model, image = official(reference).eval(), reference.input["image"]
    reference.check("pre_quant", model.features(image))
    pixels, quantized = model(image)
    assert torch.equal(quantized.indices, reference.output["indices"])
    reference.check("quant", quantized.features)
    reference.check("forward", pixels)
    indices = reference.output["indices"]
    reference.check("decode_code", model.pixels(model.quantizer.lookup(indices)))
    assert torch.equal(model.quantizer.nearest(model.features(image)), indices)


def test_losses():
    reference = load_reference("maskgit/vq_model.safetensors")
    model = official(reference).train()
    pixels, quantized = model(reference.input["image"])
    reference.check("vq_loss", quantized.codebook)
    reference.check("commit_loss", 0.25 * quantized.commitment)
    ratio = reference.config["entropy_loss_ratio"]
    reference.check("entropy_loss", ratio * quantized.entropy())
    (pixels.square().mean() + quantized.codebook + 0.25 * quantized.commitment).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        if not name.endswith("to_k.bias"):  # softmax does not see a shift of all scores
            assert parameter.grad.abs().max() > 0, name


def test_names_and_counts():
    published = json.loads(reference_path("maskgit/sizes.json").read_text())["sizes"]["VQ-16"]
    with torch.device("meta"):
        model = build()
    own = dict(model.named_parameters())
    assert sum(parameter.numel() for parameter in own.values()) == published["params_total"]
    assert len(own) == published["tensors"]
    for line in published["parameters"]:
        name, shape = line.rsplit(":", 1)
        count = torch.Size(map(int, shape.split("x"))).numel()
        assert own[ours(name)].numel() == count, name
    assert len({ours(line.rsplit(":", 1)[0]) for line in published["parameters"]}) == len(own)
