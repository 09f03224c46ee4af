"""DiT with PixArt's weights is diffusers' PixArt transformer."""

import json

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from safetensors.torch import load_file, save_file

from gensynth.convert.families.pixart import converted, load
from gensynth.errors import CorruptError, UsageError
from gensynth.models import create_model

TINY = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,  # 24 wide: a third of it stands for the size, a quarter for positions
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 3,
    "cross_attention_dim": 24,
    "caption_channels": 20,
    "sample_size": 8,
}


def theirs(**settings) -> PixArtTransformer2DModel:
    """A tiny one in which every weight matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PixArtTransformer2DModel(**{**TINY, **settings}).eval()
        for parameter in model.parameters():
            parameter.data = torch.randn(parameter.shape) * 0.2
    return model


def inputs(height=8, width=8, words=(7, 3)):
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 4, height, width, generator=generator)
    sequence = torch.randn(2, 7, 20, generator=generator)
    mask = torch.arange(7)[None] < torch.tensor(words)[:, None]
    return sample, torch.tensor([3.0, 871.0]), sequence, mask


def both(reference, ours, given, **added):
    """Their output and ours."""
    sample, time, sequence, mask = given
    told = {"resolution": None, "aspect_ratio": None} | added
    expected = reference(
        sample,
        encoder_hidden_states=sequence,
        timestep=time,
        encoder_attention_mask=mask,
        added_cond_kwargs=told,
    ).sample
    text = {"encoder_hidden_states": sequence, "encoder_attention_mask": mask}
    return expected, ours(sample, time, **text)


@pytest.mark.parametrize(
    "settings", [{}, {"interpolation_scale": 2}, {"sample_size": 16}, {"out_channels": 4}]
)
@pytest.mark.parametrize("size", [(8, 8), (16, 16), (4, 12), (20, 8)])
def test_output(settings, size):
    reference = theirs(**settings)
    ours = converted(reference.state_dict(), reference.config)
    with torch.no_grad():
        for words in ((7, 3), (1, 7)):
            expected, output = both(reference, ours, inputs(*size, words=words))
            assert expected.std() > 0.1
            torch.testing.assert_close(output, expected, atol=2e-6, rtol=2e-5)


def test_gradients():
    reference = theirs()
    ours = converted(reference.state_dict(), reference.config)
    given = inputs()
    given[2].requires_grad_()
    gradients = []
    for output in both(reference, ours, given):
        gradients.append(torch.autograd.grad(output.square().sum(), given[2])[0])
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-4, rtol=1e-3)
    both(reference, ours, given)[1].square().sum().backward()
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("side", [8, 64, 128])
def test_a_folder(tmp_path, side):
    """Of the transformer or of the pipeline around it, in shards or not; fresh weights too."""
    reference = PixArtTransformer2DModel(
        **{**TINY, "sample_size": side}, use_additional_conditions=False
    ).eval()
    reference.save_pretrained(tmp_path / "transformer", max_shard_size="20KB")
    ours = load(tmp_path)
    assert (ours.config.input_size, ours.config.interpolation_scale) == (side, max(side // 64, 1))
    with torch.no_grad():
        expected, output = both(reference, ours, inputs())
        torch.testing.assert_close(output, expected, atol=2e-6, rtol=2e-5)
    ours.save_pretrained(tmp_path / "ours")
    again = type(ours).from_pretrained(tmp_path / "ours")
    with torch.no_grad():
        assert torch.equal(both(reference, again, inputs())[1], output)


@pytest.mark.parametrize("size", [(1024, 1024), (768, 1152)])
def test_a_model_that_is_told_a_size_is_made_one_of_that_size(size):
    reference = theirs(use_additional_conditions=True)
    ours = converted(reference.state_dict(), reference.config, size)
    height, width = size
    told = {
        "resolution": torch.tensor([[height, width]] * 2).float(),
        "aspect_ratio": torch.tensor([[height / width]] * 2),
    }
    with torch.no_grad():
        expected, output = both(reference, ours, inputs(), **told)
    torch.testing.assert_close(output, expected, atol=5e-6, rtol=5e-5)


def test_the_sizes_of_the_published_models():
    """The defaults of diffusers are those of XL/2, but for the words of T5-XXL."""
    with torch.device("meta"):
        reference = PixArtTransformer2DModel(
            caption_channels=4096, sample_size=32, use_additional_conditions=False
        )
        ours = create_model("PixArt-XL/2", input_size=32)
    counted = sum(p.numel() for p in ours.parameters() if p.requires_grad)
    assert counted == sum(p.numel() for p in reference.parameters()) == 610_856_096


@pytest.mark.parametrize(
    "change, message",
    [
        ({"norm_eps": 1e-5}, "norm_eps 1e-05 is not computed; only 1e-06"),
        ({"activation_fn": "geglu"}, "activation_fn 'geglu' is not computed"),
        ({"caption_channels": None}, "without caption_channels"),
        ({"out_channels": 6}, "out_channels must be 4 or 8, got 6"),
        ({"use_additional_conditions": True}, r"give size=\(height, width\) in pixels"),
    ],
)
def test_another_model_is_refused(change, message):
    reference = theirs()
    with pytest.raises(UsageError, match=message):
        converted(reference.state_dict(), {**reference.config, **change})


def test_a_size_for_a_model_that_is_told_none():
    reference = theirs()
    with pytest.raises(UsageError, match="is not told the size of its pictures; leave size out"):
        converted(reference.state_dict(), reference.config, (512, 512))


def test_other_weights_are_refused_by_their_names(tmp_path):
    reference = theirs()
    reference.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    state["proj_out.extra"] = state.pop("proj_out.bias")
    state["transformer_blocks.0.attn2.to_q.weight"] = torch.zeros(3, 2)
    save_file(state, file)
    with pytest.raises(CorruptError) as error:
        load(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "missing final_layer.proj.bias" in str(error.value)
    assert "unexpected proj_out.extra" in str(error.value)
    assert "transformer_blocks.0.attn2.to_q.weight is [3, 2], not [24, 24]" in str(error.value)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(CorruptError, match="is damaged"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(UsageError, match="does not hold a PixArtTransformer2DModel"):
        load(tmp_path)
    with pytest.raises(CorruptError, match=r"config\.json is missing"):
        load(tmp_path / "nowhere")
