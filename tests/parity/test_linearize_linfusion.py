"""`gensynth.linearize(..., "linfusion")` is the published function: Huage001/LinFusion."""

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from reference import load_reference, reference_path
from safetensors.torch import save_file

import gensynth


def published(folder, modules, state):
    """A folder as LinFusion is released in."""
    folder.mkdir()
    config = {"_class_name": "LinFusion", "modules_list": modules}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    return folder


def starting_with(prefix, state):
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def test_unet(tmp_path):
    """Softmax before, linear attention with the released weights, and softmax after, to the bit."""
    reference = load_reference("linfusion/unet.safetensors")
    unet = UNet2DConditionModel(**reference.config["unet"]).eval()
    mounted = starting_with("unet.", reference.state)
    own = {name: mounted[name] for name in unet.state_dict() if ".attn1." not in name}
    unet.load_state_dict({**own, **starting_with("softmax.", reference.state)})
    inputs = [reference.input[name] for name in ("x", "t", "context")]
    with torch.no_grad():
        before = unet(*inputs).sample
        reference.check("out_softmax", before)
        state = starting_with("linfusion.", reference.state)
        weights = published(tmp_path / "weights", reference.config["modules_list"], state)
        gensynth.linearize(unet, "linfusion", weights)
        reference.check("out", unet(*inputs).sample)
        assert unet.state_dict().keys() == mounted.keys()
        gensynth.restore(unet)
        assert torch.equal(unet(*inputs).sample, before)


@pytest.mark.parametrize("name", ["attention", "attention_identity", "attention_mid"])
def test_attention(name, tmp_path):
    """One attention of a UNet, with itself and with another sequence."""
    reference = load_reference(f"linfusion/{name}.safetensors")
    config = reference.config
    unet = UNet2DConditionModel(
        block_out_channels=(config["query_dim"],),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("UpBlock2D",),
        mid_block_type=None,
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=12,
        attention_head_dim=config["heads"],
    )
    modules = [
        {
            "module_name": "down_blocks.0.attentions.0.transformer_blocks.0.attn1",
            "dim_n": config["query_dim"],
            "heads": config["heads"],
            "projection_mid_dim": config["projection_mid_dim"],
        }
    ]
    state = {f"0.{key}": value for key, value in reference.state.items()}
    done = gensynth.linearize(unet, weights=published(tmp_path / "weights", modules, state))
    attention = unet.get_submodule(done.replaced[0].name)
    for count in config["token_counts"]:
        reference.check(f"out{count}", attention(reference.input[f"x{count}"]))
    x = reference.input[f"x{config['context_query']}"]
    reference.check("out_context", attention(x, reference.input["context"]))


@pytest.mark.parametrize("name", ["SD-1.5", "SD-2.1", "SDXL"])
def test_replaced_modules(name):
    """Which attentions of a real UNet, in their order, and how many parameters that adds."""
    file = reference_path("linfusion/replaced_modules.json")
    unets = json.loads(file.read_text(encoding="utf-8"))["unets"]
    assert sorted(unets) == ["SD-1.5", "SD-2.1", "SDXL"]
    expected = unets[name]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**expected["unet_config"])
    before = sum(p.numel() for p in unet.parameters())
    assert before == expected["unet_params"]
    done = gensynth.linearize(unet, "linfusion")
    assert [list(one) for one in done.replaced] == expected["modules"]
    assert sum(p.numel() for p in unet.parameters()) - before == expected["added_params"]
    gensynth.restore(unet)
    assert sum(p.numel() for p in unet.parameters()) == before
