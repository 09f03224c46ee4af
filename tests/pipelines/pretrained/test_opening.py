"""Folders that diffusers saved: variants, shards, damage, and what could run code."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import gensynth
from gensynth.errors import CorruptError, DivergedError, InputError, RefusedError, UsageError
from gensynth.pipelines.pretrained.opening import dtype_of
from gensynth.pipelines.pretrained.options import LoadOptions
from gensynth.pipelines.pretrained.pipeline import PretrainedPipeline
from gensynth.settings import Settings

HOW = {"steps": 2, "size": 64}
WEIGHTS = "diffusion_pytorch_model.safetensors"


def picture(pipe, **how):
    return np.asarray(pipe("a red apple", [1], **{**HOW, **how})[0]).astype(int)


@pytest.fixture
def copied(pretrained_folder, tmp_path):
    """A copy of the folder of Stable Diffusion, or of another kind, to be changed."""

    def of(kind="sd"):
        return shutil.copytree(pretrained_folder(kind), tmp_path / kind)

    return of


def changed(file, **content):
    file.write_text(json.dumps({**json.loads(file.read_text()), **content}))


@pytest.mark.parametrize("kind", ["sd", "sdxl", "sd3", "flux", "pixart", "sana"])
def test_a_saved_pipeline_draws_as_before(kind, pretrained_folder):
    import tiny_pipelines

    pipe = gensynth.load(pretrained_folder(kind))
    made = PretrainedPipeline(getattr(tiny_pipelines, f"tiny_{kind}")())
    assert np.array_equal(picture(pipe), picture(made))
    assert pipe.name == str(pretrained_folder(kind)) and pipe.channels == 3
    assert pipe.device.type == "cpu" and pipe.dtype == torch.float32
    assert type(pipe.inner) is type(made.inner) and pipe.lora is None
    assert not any(network.training for network in (pipe.network, pipe.inner.vae))


def test_stable_diffusion_3_may_lack_its_t5(tmp_path):
    import tiny_pipelines

    made = tiny_pipelines.tiny_sd3(with_t5=False)
    made.save_pretrained(tmp_path / "sd3")
    pipe = gensynth.load(tmp_path / "sd3")
    assert pipe.inner.text_encoder_3 is None
    assert np.array_equal(picture(pipe), picture(PretrainedPipeline(made)))


def test_shards_and_variants(copied, tmp_path):
    before = picture(gensynth.load(copied()))
    saved = gensynth.load(tmp_path / "sd").inner
    saved.save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    for part in ("unet", "text_encoder"):
        assert len(list((tmp_path / "shards" / part).glob("*-of-*.safetensors"))) > 1
    assert np.array_equal(picture(gensynth.load(tmp_path / "shards")), before)

    saved.to(torch.float16).save_pretrained(
        tmp_path / "half", variant="fp16", max_shard_size="60KB"
    )
    half = gensynth.load(tmp_path / "half")  # the only variant there is
    assert half.dtype == torch.float32 and 0 < np.abs(picture(half) - before).max() < 3
    saved.to(torch.float32)
    for name, number in saved.unet.named_parameters():
        if name.startswith("conv_out"):
            number.data.zero_()
    saved.save_pretrained(tmp_path / "plain")  # others, put beside the variant
    shutil.copytree(tmp_path / "plain", tmp_path / "half", dirs_exist_ok=True)
    assert np.array_equal(picture(gensynth.load(tmp_path / "half", variant="fp16")), picture(half))
    assert not np.array_equal(picture(gensynth.load(tmp_path / "half")), picture(half))
    with pytest.raises(InputError, match="no weights of variant 'bf16'; there are fp16"):
        gensynth.load(tmp_path / "half", variant="bf16")


@pytest.mark.parametrize(
    ("part", "name"), [("unet", WEIGHTS), ("text_encoder", "model.safetensors")]
)
def test_pickles_of_parts_are_refused(copied, part, name):
    folder = copied()
    stored = load_file(folder / part / name)
    (folder / part / name).unlink()
    torch.save(stored, folder / part / "pytorch_model.bin")
    with pytest.raises(RefusedError, match=rf"{part} has its weights as a pickle \(pytorch_model"):
        gensynth.load(folder)


def test_nothing_of_a_folder_is_imported(copied, tmp_path, monkeypatch):
    folder = copied()
    (folder / "evil.py").write_text("raise SystemExit('code has run')")
    (folder / "unet" / "evil.py").write_text("raise SystemExit('code has run')")
    monkeypatch.syspath_prepend(folder)
    index = folder / "model_index.json"
    changed(index, unet=["evil", "UNet2DConditionModel"])
    with pytest.raises(RefusedError, match="its unet wants to import 'evil', which is refused"):
        gensynth.load(folder)
    changed(index, unet=["diffusers", "pipelines"])
    with pytest.raises(InputError, match="its unet is a pipelines, which the diffusers"):
        gensynth.load(folder)
    changed(index, unet=["diffusers", "UNet2DConditionModel"])
    changed(folder / "text_encoder/config.json", auto_map={"AutoModel": "evil.Model"})
    picture(gensynth.load(folder))


def test_what_blackens_pictures_is_left_out(copied):
    folder = copied()
    changed(
        folder / "model_index.json",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
        requires_safety_checker=True,
    )
    pipe = gensynth.load(folder)  # though neither is there
    assert pipe.inner.safety_checker is None and not pipe.inner.config.requires_safety_checker


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"unet": [None, None]}, "names no unet, which a StableDiffusionPipeline needs"),
        ({"unet": ["diffusers"]}, "unet should name a module and a class"),
        ({"image_prompts": ["diffusers", "AutoencoderKL"]}, "has no part 'image_prompts'"),
        ({"vae": ["diffusers", "UNet2DConditionModel"]}, "its vae is a UNet2DConditionModel; kno"),
        ({"unet": ["diffusers", "DDIMScheduler"]}, "unet is a DDIMScheduler, which the diffusers"),
        ({"unet": ["diffusers", "UNetOfTomorrow"]}, "does not know as such. A newer one may"),
    ],
)
def test_parts_are_what_they_should_be(copied, index, words):
    folder = copied()
    changed(folder / "model_index.json", **index)
    with pytest.raises((CorruptError, InputError), match=words):
        gensynth.load(folder)


def without(place, some):
    stored = load_file(place)
    save_file({name: tensor for name, tensor in stored.items() if some not in name}, place)


def not_finite(place):
    stored = load_file(place)
    name = next(name for name in stored if name.endswith("weight"))
    stored[name].view(-1)[3] = torch.nan
    save_file(stored, place)


def cut(place):
    place.write_bytes(place.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("part", "damage", "words"),
    [
        ("unet", lambda file: without(file, "conv_out"), "missing .'conv_out.bias'"),
        ("text_encoder", lambda file: without(file, "layers.1"), "weights beside it lack"),
        ("unet", not_finite, "not finite"),
        ("text_encoder", not_finite, "not finite"),
        ("text_encoder", cut, "damaged"),
        ("vae", cut, "damaged"),
    ],
)
def test_damaged_weights(copied, part, damage, words):
    folder = copied()
    damage(next((folder / part).glob("*.safetensors")))
    with pytest.raises(CorruptError, match=words):
        gensynth.load(folder)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("text_encoder/config.json", {"hidden_size": 2**20}, "do not belong together"),
        ("text_encoder/config.json", {"num_hidden_layers": 10**6}, "more than the 3. tensors"),
        ("unet/config.json", {"in_channels": 9}, "not those of its config.json"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**9}, "cannot be as large"),
    ],
)
def test_configurations_of_other_weights(copied, file, content, words):
    folder = copied()
    changed(folder / file, **content)
    with pytest.raises(CorruptError, match=words):
        gensynth.load(folder)


def test_networks_of_pictures_as_prompts_are_told_apart(tmp_path):
    import tiny_pipelines

    tiny_pipelines.tiny_sd(in_channels=9).save_pretrained(tmp_path / "inpainting")
    with pytest.raises(CorruptError, match="works on 9 channels, and its vae gives 4; only pipel"):
        gensynth.load(tmp_path / "inpainting")


# Options


def test_the_format_goes_by_the_device():
    cpu = torch.device("cpu")
    assert dtype_of(LoadOptions(), cpu) == torch.float32
    assert dtype_of(LoadOptions(dtype="bf16"), cpu) == torch.bfloat16
    assert dtype_of(LoadOptions(dtype="float32"), torch.device("cuda")) == torch.float32


@pytest.mark.parametrize("kind", ["sd", "sdxl", "sd3", "flux", "pixart", "sana"])
def test_16_bits(kind, pretrained_folder):
    pipe = gensynth.load(pretrained_folder(kind), dtype="bf16")
    assert {pipe.dtype, pipe.inner.vae.dtype, pipe.inner.text_encoder.dtype} == {torch.bfloat16}
    exact = picture(gensynth.load(pretrained_folder(kind)))
    assert 0 < np.abs(picture(pipe) - exact).mean() < 3  # the same noise, made in float32
    assert pipe.facts() == {"dtype": "bfloat16"}


def test_slices_and_tiles(pretrained_folder):
    whole = gensynth.load(pretrained_folder("sd"))
    sliced = gensynth.load(pretrained_folder("sd"), vae_slicing=True)
    both = [np.asarray(pipe(["a", "b"], [1, 2], **HOW)[1]).astype(int) for pipe in (whole, sliced)]
    assert sliced.inner.vae.use_slicing and np.abs(both[0] - both[1]).max() <= 1
    tiled = gensynth.load(pretrained_folder("sd"), vae_tiling=True)
    assert tiled.inner.vae.use_tiling and tiled.facts()["vae_tiling"] is True
    large = {"size": 128}  # more than a tile of 64 pixels
    assert np.abs(picture(whole, **large) - picture(tiled, **large)).max() > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "int8"}, "dtype must be one of float32, bf16, fp16, got 'int8'"),
        ({"offload": "model"}, "there is no GPU here; leave it out"),
        ({"offload": "disk"}, "offload must be one of none, model, sequential"),
        ({"vae_tiling": "yes"}, "vae_tiling must be true or false, got 'yes'"),
        ({"tiling": True}, "no option 'tiling' of loading. Did you mean 'vae_tiling'"),
        ({"lora": "somewhere"}, r"load a LoRA that diffusers knows by pipe.inner.load_lora_w"),
    ],
)
def test_options_that_cannot_be(pretrained_folder, options, words):
    with pytest.raises(UsageError, match=words):
        gensynth.load(pretrained_folder("sd"), device="cpu", **options)


def test_models_of_our_own_take_no_options():
    with pytest.raises(UsageError, match=r"emoji is no pipeline of diffusers .* dtype"):
        gensynth.load(dtype="bf16")


def test_an_autoencoder_may_have_its_older_names(copied):
    before = picture(gensynth.load(folder := copied()))
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    file = folder / "vae" / WEIGHTS
    renamed = {}
    for name, tensor in load_file(file).items():
        start, mid, own = name.partition(".attentions.0.")
        for new, old in older.items():
            own = own.replace(new, old) if mid else own
        renamed[start + mid + own] = tensor
    assert any(".query." in name for name in renamed)
    save_file(renamed, file, {"format": "pt"})
    assert np.array_equal(picture(gensynth.load(folder)), before)


def test_weights_that_are_missing_are_not_drawn_at_random(copied):
    file = copied() / "vae" / WEIGHTS
    tensors = load_file(file)
    tensors["decoder.conv_out.unknown"] = tensors.pop("decoder.conv_out.bias")
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(CorruptError, match=r"lack decoder\.conv_out\.bias"):
        gensynth.load(file.parents[1])


def test_an_adapter_in_the_place_of_a_part_is_refused(copied):
    folder = copied()
    (folder / "text_encoder" / "adapter_config.json").write_text("{}")
    with pytest.raises(RefusedError, match=r"adapter_config\.json: an adapter in the place"):
        gensynth.load(folder)
    (folder / "text_encoder" / "adapter_config.json").unlink()
    assert gensynth.load(folder)


@pytest.mark.parametrize("kind", ["sd", "sana"])
def test_a_decoder_that_gives_no_numbers_is_no_black_picture(kind, pretrained_folder):
    pipe = gensynth.load(pretrained_folder(kind))
    last = pipe.inner.vae.decoder.conv_out
    last.weight.data.fill_(torch.nan)
    with pytest.raises(DivergedError, match="numbers that are not finite"):
        picture(pipe)


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler"])
def test_another_scheduler_cuts_no_latents_off(name, pretrained_folder):
    pipe = gensynth.load(pretrained_folder("pixart"))
    scheduler = pipe.resolve(Settings(scheduler=name)).sampler.scheduler
    assert not scheduler.config.clip_sample and not scheduler.config.get("thresholding")
