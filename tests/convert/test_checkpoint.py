"""Synthetic states under the official names -> pipeline folders, and everything that is refused."""

import argparse
import pathlib

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import save_file
from states import SMALL, changes, gensynth_main, official, random_model, small, store

import gensynth
from gensynth import create_model
from gensynth.convert import SYSTEMS, rename
from gensynth.convert.checkpoint import convert
from gensynth.convert.drawing import DRAWN
from gensynth.convert.matching import FAMILIES, matching_size
from gensynth.convert.reading import read_state
from gensynth.errors import CorruptError, InputError, OutputError, RefusedError, UsageError
from gensynth.models import MODELS

every_system = pytest.mark.parametrize("system", DRAWN)


@pytest.fixture
def vae(tiny_vae_folder) -> str:
    return str(tiny_vae_folder)


@every_system
def test_a_known_size_is_found_by_its_shapes(system, vae, tmp_path):
    name = SMALL[system][0]
    model = random_model(name, num_classes=1000)
    file = store(tmp_path / "model.pt", official(system, model))
    done = convert(system, file, tmp_path / "out", vae=vae)
    assert (done.system, done.model, done.part) == (system, name, None)
    assert done.parameters == sum(p.numel() for p in model.parameters())
    pipeline = gensynth.load(tmp_path / "out", device="cpu")
    loaded = pipeline.model.state_dict()
    assert all(torch.equal(loaded[k], tensor) for k, tensor in model.state_dict().items())
    settings = pipeline.config
    assert (settings.size, settings.steps, settings.guided_channels) == (256, 250, 3)
    assert settings.prediction == ("velocity" if system == "sit" else "epsilon")
    assert settings.guidance_schedule == ("power-cosine" if system == "mdt" else "constant")
    scheduler = "FlowSDEScheduler" if system == "sit" else "DDPMScheduler"
    assert type(pipeline.scheduler).__name__ == scheduler
    assert (len(pipeline.classes), pipeline.classes[207]) == (1000, "golden retriever")


@pytest.mark.parametrize(
    "system",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in ("dit", "dico")))
        for name in DRAWN
    ],
)
def test_the_whole_chain_to_one_picture(system, vae, tmp_path):
    file = store(
        tmp_path / "model.pt",
        {
            "ema": official(
                system,
                small(system, input_size=8) if system in ("dit", "sit", "mdt") else small(system),
            )
        },
    )
    out, drawn = tmp_path / "out", tmp_path / "drawn"
    done = convert(system, file, out, SMALL[system][0], vae, size=64, changes=changes(system))
    assert done.part == "ema"
    assert not list(tmp_path.glob(".*"))
    gensynth_main(
        "sample",
        "--model",
        out,
        "-n",
        1,
        "--labels",
        2,
        "--steps",
        2,
        "--guidance",
        1.5,
        "--out",
        drawn,
    )
    with Image.open(drawn / "000000.png") as picture:
        assert picture.size == (64, 64)
        assert picture.mode == "RGB"


def test_the_command_prints_what_it_did(vae, tmp_path):
    state = official("dit", small("dit"))
    file = store(tmp_path / "m.pt", {"model": state, "ema": state})
    out = tmp_path / "out"
    shown = gensynth_main(
        *("convert", "--from", "dit", "--checkpoint", file, "--out", out, "--vae", vae),
        *("--model", "dit-nano/2", *(x for change in changes("dit") for x in ("--config", change))),
    )
    for words in ("dit: DiT-nano/2 at 256 pixels", "EMA weights", f"sample --model {out}"):
        assert words in shown


# What the tensors say


@pytest.mark.parametrize("system", ["dit", "sit", "mdt", "dico", "dic"])
@pytest.mark.parametrize(
    "keywords",
    [
        {"learn_sigma": False},
        {"null_label": False, "num_classes": 1000},
    ],
    ids=["no variance", "no null label"],
)
def test_keywords_are_read_off_the_shapes(system, vae, tmp_path, keywords):
    name, size = SMALL[system]
    model = random_model(name, **{"num_classes": 3, **size, **keywords})
    file = store(tmp_path / "model.pt", official(system, model))
    convert(system, file, tmp_path / "out", name, vae, changes=changes(system))
    pipeline = gensynth.load(tmp_path / "out", device="cpu")
    for key, value in keywords.items():
        assert pipeline.model.config[key] == value
    if system == "sit":
        assert pipeline.model.config.discard_sigma == keywords.get("learn_sigma", True)
    if not pipeline.model.config.null_label:
        assert pipeline.config.guidance == 1


# PixArt's come with their settings, in diffusers' folders: test_pixart.py. LatentVQ is ours.
TOLD = [name for name in MODELS if name.startswith(tuple(FAMILIES.values()))]


@pytest.mark.parametrize("name", TOLD)
def test_every_size_is_told_from_the_others(name):
    assert len(TOLD) > 40
    system = next(key for key, start in FAMILIES.items() if name.startswith(start))
    with torch.device("meta"):
        model = create_model(name, **({} if system == "llamagen" else {"num_classes": 10}))
        tensors = rename(system, official(system, model))
    assert matching_size(system, tensors, None, {})[0] == name


@pytest.mark.parametrize(("patch", "side"), [(2, 16), (4, 32), (8, 64)])
def test_patch_and_size_are_read_off_the_shapes(vae, tmp_path, patch, side):
    model = random_model(f"DiT-S/{patch}", input_size=side, num_classes=7)
    file = store(tmp_path / "model.pt", official("dit", model))
    done = convert("dit", file, tmp_path / "out", vae=vae)
    assert (done.model, done.size) == (f"DiT-S/{patch}", side * 8)


def test_the_number_of_decoder_blocks_is_read_off_the_names(vae, tmp_path):
    model = random_model("MDTv2-nano/2", decode_layer=3)
    file = store(tmp_path / "model.pt", official("mdt", model))
    convert("mdt", file, tmp_path / "out", vae=vae)
    assert gensynth.load(tmp_path / "out", device="cpu").model.config.decode_layer == 3


def test_a_table_of_1000_rows_may_be_said_to_have_a_null_label(vae, tmp_path):
    model = small("dit")
    state = official("dit", model)
    file = store(tmp_path / "model.pt", state)
    extra = [*changes("dit"), "null_label=false"]
    convert("dit", file, tmp_path / "out", "DiT-nano/2", vae, changes=extra)
    assert gensynth.load(tmp_path / "out", device="cpu").model.config.num_classes == 4


# What files hold


def marked(value):
    """A state that says which one it is."""
    state = official("dico", small("dico"))
    state["x_embedder.proj.bias"] = torch.full_like(state["x_embedder.proj.bias"], value)
    return state


@pytest.mark.parametrize(
    ("content", "part", "value"),
    [
        (marked(1.0), None, 1),
        ({"ema": marked(2.0)}, "ema", 2),
        ({"model": marked(1.0), "ema": marked(2.0), "opt": {"lr": [1]}, "steps": 5}, "ema", 2),
        ({"model": marked(1.0), "opt": {}}, "model", 1),
        ({"state_dict": marked(3.0)}, "state_dict", 3),
        ({f"module.{k}": v for k, v in marked(1.0).items()}, None, 1),
        ({"ema": {f"_orig_mod.module.{k}": v for k, v in marked(2.0).items()}}, "ema", 2),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_averaged_weights_are_preferred(content, part, value, zipped, tmp_path):
    path = tmp_path / "model.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    state = read_state(path)
    assert state.part == part
    assert state.tensors["x_embedder.proj.bias"].unique().item() == value


def test_safetensors_are_read(tmp_path):
    save_file(marked(4.0), tmp_path / "model.safetensors")
    assert read_state(tmp_path / "model.safetensors").tensors.keys() == marked(4.0).keys()


def test_settings_in_a_namespace_are_let_pass(tmp_path):
    content = {"ema": marked(1.0), "args": argparse.Namespace(lr=1e-4, model="DiT-XL/2")}
    assert read_state(store(tmp_path / "model.pt", content)).part == "ema"


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def test_a_pickle_that_runs_code_is_refused_and_not_run(vae, tmp_path):
    file = store(tmp_path / "m.pt", {"ema": marked(1.0), "args": Touch(tmp_path / "touched")})
    with pytest.raises(RefusedError, match="safetensors") as caught:
        convert("dico", file, tmp_path / "out", vae=vae)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "touched").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content",
    [{}, {"a": 1}, [1, 2], {"ema": {}}, {"ema": {"a": 1}}, torch.zeros(3)],
    ids=["empty", "numbers", "list", "empty ema", "numbers in ema", "tensor"],
)
def test_a_file_without_weights_is_refused(content, tmp_path):
    with pytest.raises(InputError, match="holds no weights"):
        read_state(store(tmp_path / "model.pt", content))


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_file_is_refused(tmp_path, name, damage):
    path = tmp_path / name
    if name.endswith(".pt"):
        store(path, marked(1.0))
    else:
        save_file(marked(1.0), path)
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "text": b"hello there", "empty": b""}[damage])
    with pytest.raises(CorruptError) as caught:
        read_state(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no checkpoint file"):
        read_state(tmp_path / "nowhere.pt")


# What does not fit


@pytest.mark.parametrize("system", FAMILIES)
@pytest.mark.parametrize("given", FAMILIES)
def test_a_checkpoint_of_another_system_is_recognised(system, given, vae, tmp_path):
    if system == given or {system, given} == {"dit", "sit"}:  # those have the same names
        pytest.skip("the same names")
    file = store(tmp_path / "model.pt", official(system, small(system)))
    with pytest.raises(UsageError, match=f"looks like a.*--from {system}"):
        convert(given, file, tmp_path / "out", vae=None if given == "llamagen" else vae)


def test_a_checkpoint_of_nothing_known(vae, tmp_path):
    file = store(tmp_path / "model.pt", {"conv1.weight": torch.zeros(3), "fc.bias": torch.ones(2)})
    with pytest.raises(UsageError, match=r"not a checkpoint of.*conv1\.weight"):
        convert("dit", file, tmp_path / "out", vae=vae)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            lambda s: s.pop("final_layer.linear.bias"),
            r"1 missing \(missing final_layer.linear.bias",
        ),
        (lambda s: s.update({"blocks.0.extra": torch.zeros(2)}), r"1 unexpected"),
        (
            lambda s: s.update({"final_layer.linear.bias": torch.zeros(5)}),
            r"1 of another shape \(final_layer.linear.bias is \[5\], not \[32\]",
        ),
        (lambda s: s.pop("x_embedder.proj.weight"), "1 missing"),
        (lambda s: s.pop("y_embedder.embedding_table.weight"), "1 missing"),
        (lambda s: s.pop("pos_embed"), "1 missing"),
        (lambda s: s.update({"pos_embed": torch.zeros(1, 6, 160)}), "1 of another shape"),
    ],
)
def test_a_state_that_fits_no_size_lists_the_differences(edit, words, vae, tmp_path):
    state = official("dit", random_model("DiT-nano/2", num_classes=1000))
    edit(state)
    file = store(tmp_path / "model.pt", state)
    with pytest.raises(UsageError, match=rf"nearest: DiT-nano/2: {words}.*--config") as caught:
        convert("dit", file, tmp_path / "out", vae=vae)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_differences_to_a_named_size(vae, tmp_path):
    file = store(tmp_path / "model.pt", official("dit", random_model("DiT-nano/2")))
    with pytest.raises(UsageError, match=r"not the weights of DiT-S/2: \d+ missing, \d+ of anoth"):
        convert("dit", file, tmp_path / "out", "dit-s/2", vae=vae)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "DiT-SX/2"}, "unknown model"),
        ({"model": "DiCo-S"}, "is not a DiT"),
        ({"changes": ["depth=2"]}, "give --model"),
        ({"model": "DiT-nano/2", "changes": ["deep=2"]}, "no keyword 'deep'"),
        ({"model": "DiT-nano/2", "changes": ["depth"]}, "key=value"),
        ({"model": "DiT-nano/2", "changes": ["hidden_size=7"]}, "cannot be built"),
        ({"model": "DiT-nano/2", "changes": ["hidden_size=wide"]}, "cannot be built"),
        ({"size": 100}, "multiple of 16"),
        ({"size": 0}, "--size must be at least 1"),
        ({"system": "pit"}, "--from must be one of"),
    ],
)
def test_arguments_that_do_not_fit(arguments, words, vae, tmp_path):
    file = store(tmp_path / "model.pt", official("dit", random_model("DiT-nano/2")))
    given = {"system": "dit", "vae": vae, **arguments}
    with pytest.raises(UsageError, match=words) as caught:
        convert(checkpoint=file, out=tmp_path / "out", **given)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_a_vae_of_other_channels_is_refused(tmp_path):
    vae = AutoencoderKL(block_out_channels=[8], norm_num_groups=2, latent_channels=2)
    vae.save_pretrained(tmp_path / "vae")
    file = store(tmp_path / "model.pt", official("dico", small("dico")))
    with pytest.raises(UsageError, match=r"4 channels and the VAE .* has 2"):
        convert(
            "dico",
            file,
            tmp_path / "out",
            "DiCo-nano",
            str(tmp_path / "vae"),
            changes=changes("dico"),
        )


def test_a_vae_that_cannot_be_fetched_says_to_give_a_folder(tmp_path):
    file = store(tmp_path / "model.pt", official("dit", random_model("DiT-nano/2")))
    with pytest.raises(InputError, match=r"stabilityai/sd-vae-ft-ema.*--vae FOLDER"):
        convert("dit", file, tmp_path / "out")


def test_weights_that_are_not_finite_are_refused(vae, tmp_path):
    state = official("dit", random_model("DiT-nano/2"))
    state["final_layer.linear.bias"][3] = float("nan")
    with pytest.raises(CorruptError, match="not finite"):
        convert("dit", store(tmp_path / "model.pt", state), tmp_path / "out", vae=vae)


# Where it goes


@pytest.mark.parametrize("kind", ["file", "folder with a file"])
def test_what_is_there_is_not_overwritten(kind, vae, tmp_path):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine").write_text("mine")
    file = store(tmp_path / "model.pt", official("dit", random_model("DiT-nano/2")))
    with pytest.raises(RefusedError, match="choose another --out"):
        convert("dit", file, out, vae=vae)
    assert (out if kind == "file" else out / "mine").read_text() == "mine"


def test_an_empty_folder_is_filled(vae, tmp_path):
    (tmp_path / "out").mkdir()
    file = store(tmp_path / "model.pt", official("dit", random_model("DiT-nano/2")))
    convert("dit", file, tmp_path / "out", vae=vae)
    assert gensynth.load(tmp_path / "out").classes[-1].startswith("toilet tissue, ")


def test_a_place_that_cannot_be_written(vae, tmp_path):
    (tmp_path / "a").write_text("a file")
    file = store(tmp_path / "model.pt", official("dit", random_model("DiT-nano/2")))
    with pytest.raises(OutputError, match="is a file, so it can hold no folder"):
        convert("dit", file, tmp_path / "a" / "out", vae=vae)


def test_half_a_folder_is_never_left(vae, tmp_path, monkeypatch):
    from gensynth.pipelines.class_conditional import ClassConditionalPipeline

    def full(self, folder):
        (folder / "model_index.json").write_text("{}")
        raise OSError("No space left on device")

    monkeypatch.setattr(ClassConditionalPipeline, "save_pretrained", full)
    file = store(tmp_path / "model.pt", official("dit", random_model("DiT-nano/2")))
    with pytest.raises(OutputError, match="No space left"):
        convert("dit", file, tmp_path / "out", vae=vae)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_every_system_has_a_family():
    assert FAMILIES.keys() == SYSTEMS.keys() == SMALL.keys()
