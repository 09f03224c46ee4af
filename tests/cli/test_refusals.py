"""Cheap mistakes are refused before torch is imported, with advice that works when it is taken."""

import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
CONFIG = "fashion_mnist/dico_nano"
TRAIN = ["train", "--config", CONFIG]
EVALUATE = ["evaluate", "PICTURES", "--reference", "fashion_mnist:test"]
CLASSES = ["sample", "--model", "dico-nano-fashion"]
EDIT = ["edit", "PICTURE", "--out", "NEW"]
SIZE = ["--model", "DiT-X/2", "--config", "depth=1"]
CONVERT = ["convert", "--out", "NEW", "--checkpoint"]
# Arguments, exit code and words. PICTURES, PICTURE, FILE and NEW stand for places made here.
REFUSED = [
    # names of models
    (["sample", "--model", "nowhere"], 3, "there is no model 'nowhere'"),
    (["sample", "--model", "DiT-XL/2"], 3, "DiT-XL/2 is an architecture, without weights"),
    (["sample", "--model", "dico-nano"], 3, "gensynth train --config"),
    (["sample", "--model", "VQ-f16"], 3, "gensynth convert --from llamagen"),
    (["sample", "--model", "PICTURES"], 3, "neither a model folder nor a run"),
    (["sample", "--model", "FILE"], 3, "is a file; give the model's folder"),
    (["sample", "--guide", "nowhere"], 3, "there is no model 'nowhere'"),
    (["evaluate", "--model", "SiT-B/2", "--reference", "x"], 3, "SiT-B/2 is an architecture"),
    (["serve", "nowhere"], 3, "there is no model 'nowhere'"),
    (["serve", "dico-nano-fashion", "MDTv2-S/2"], 3, "is an architecture"),
    (["serve", "--port", "PORT"], 6, "PORT"),
    (["serve", "--host", "no.such.host.invalid"], 2, "cannot listen on no.such.host.invalid"),
    (["edit", "PICTURE", "--model", "nowhere", "--out", "NEW"], 3, "there is no model"),
    (["models", "nope"], 2, "no model's name contains 'nope'"),
    (["models", "DiT-nano", "--mixer", "liner"], 2, "unknown mixer 'liner'"),
    # adapters
    (["sample", "--lora", "nowhere"], 3, "there is no adapter at nowhere: it is no folder"),
    (["sample", "--lora", "PICTURES"], 3, "has no adapter_config.json"),
    (["sample", "--lora", "PICTURES:much"], 2, "the scale 'much' is no number"),
    (["evaluate", "--model", "maskgit-fashion", "--lora", "nowhere", *EVALUATE[2:]], 3, "adapter"),
    ([*EVALUATE, "--lora", "nowhere"], 2, "--lora are for --model"),
    ([*EDIT, "--lora", "nowhere"], 3, "there is no adapter"),
    (["serve", "--lora", "nowhere"], 2, "--lora is of one model"),
    (["serve", "dico-nano-fashion", "--lora", "nowhere"], 3, "there is no adapter"),
    (["lora", "merge", "dico-nano-fashion", "nowhere", "--out", "NEW"], 3, "there is no adapter"),
    ([*TRAIN, "lora={rank: 4}"], 2, "set init_from to one"),
    # values of options
    (["sample", "--num", "0"], 2, "--num must be at least 1"),
    (["sample", "--seed", "-1"], 2, "--seed must be a whole number from 0"),
    (["sample", "-b", "0"], 2, "--batch-size must be at least 1"),
    (["sample", "--format", "bmp"], 2, "--format must be one of png, webp, tif, npz, got 'bmp'"),
    (["sample", "--labels", "Sneaker"], 2, "this model is told prompts and knows no classes"),
    ([*CLASSES, "--labels", "Sneeker"], 2, "there is no class 'Sneeker'"),
    ([*CLASSES, "--labels", "10"], 2, "10"),
    ([*CLASSES, "--prompt", "a bag"], 2, "none is called 'a bag'. Did you mean 'Bag'?"),
    (["sample", "--steps", "0"], 2, "steps must be at least 1"),
    (["sample", "--guidance", "nan"], 2, "guidance must be from 0 upwards"),
    (["sample", "--guidance-interval", "0.7,0.2"], 2, "0 <= low < high <= 1"),
    (["sample", "--size", "30"], 2, "Nearest: 32x32"),
    (["sample", "--size", "4x64"], 2, "Nearest: 32x64"),
    ([*CLASSES, "--size", "4x64"], 2, "Nearest: 8x64"),
    (["sample", "--size", "100000"], 2, "it takes 112 GiB of memory"),
    (["sample", "--size", "8x1048584"], 2, "a side may have 1,048,576 pixels at most"),
    (["sample", "--size", "16384x16392"], 2, "268,435,456 pixels, such as 16384x16384"),
    ([*EVALUATE, "--size", "100000"], 2, "is too large"),
    (["reference", "PICTURES", "--out", "NEW.npz", "--size", "100000"], 2, "is too large"),
    ([*EDIT, "--outpaint", "100000"], 2, "is too large"),
    ([*TRAIN, "data.size=100000"], 2, "'data.size': Input should be less than or equal to 16384"),
    (["sample", "--scheduler", "FlowODESheduler"], 2, "scheduler 'FlowODESheduler' does not fit"),
    (["sample", "--scheduler", "DDPMScheduler"], 2, "does not fit a model that predicts velocity"),
    (["sample", "--out", "FILE"], 6, "is a file, so it can hold no folder; choose another --out"),
    (["edit", "nowhere.png", "--out", "NEW"], 3, "nowhere.png cannot be read"),
    (["edit", "FILE", "--out", "NEW"], 3, "is not an image of a known kind"),
    ([*EDIT, "--mask", "nowhere.png"], 3, "nowhere.png cannot be read"),
    ([*EDIT, "--anchor", "middle"], 2, "anchor must be one of center, top"),
    ([*EDIT, "--strength", "1.5"], 2, "strength must be above 0 and at most 1"),
    ([*EDIT, "--label", "Sneeker"], 2, "there is no class 'Sneeker'"),
    ([*EDIT, "--model", "dico-nano-fashion"], 2, "such as maskgit-fashion"),
    (["edit", "PICTURE", "--out", "a.jpg"], 2, "must end in .png or .webp"),
    (["edit", "PICTURE", "-n", "2", "--out", "a.png"], 2, "2 variants need a folder"),
    (["edit", "PICTURE", "--out", "PICTURES"], 4, "not empty; choose another --out"),
    # places that cannot be written; nobody can make a file in /proc, root neither
    (["sample", "--out", "/proc/new"], 6, "cannot write to /proc: "),
    (["sample", "--out", "FILE/new"], 6, "is a file, so it can hold no folder"),
    ([*EDIT[:-1], "/proc/new/a.png"], 6, "cannot write to /proc: "),
    ([*EVALUATE, "--out", "/proc/new"], 6, "; choose another --out"),
    ([*EVALUATE, "--out", "FILE/report.json"], 6, "is a file, so it can hold no folder"),
    (["reference", "PICTURES", "--out", "/proc/new.npz"], 6, "cannot write to /proc: "),
    (["demo", "--out", "/proc/new"], 6, "cannot write to /proc: "),
    (["encode", "--config", CONFIG, "--out", "FILE/new"], 6, "is a file"),
    (["bench", "ops", "--out", "/proc/new"], 6, "cannot write to /proc: "),
    (["convert", "--checkpoint", "FILE", "--from", "dit", "--out", "/proc/new"], 6, "cannot write"),
    ([*TRAIN, "output=/proc/new"], 6, "set output to a folder that can be written"),
    ([*TRAIN, "output=FILE/new"], 6, "is a file, so it can hold no folder; set output to"),
    # experiments
    ([*TRAIN, "model.name=DiCo-nono"], 2, "unknown model 'DiCo-nono'"),
    ([*TRAIN, "model.hiden_size=3"], 2, "unknown key 'model.hiden_size'"),
    ([*TRAIN, "data.siez=32"], 2, "unknown key 'data.siez'"),
    ([*TRAIN, "condition.kind=clases"], 2, "there is no kind of condition 'clases'"),
    ([*TRAIN, "sampling.scheduler=HeunDiscreteScheduler"], 2, "does not fit a model"),
    ([*TRAIN, "objective.label_dropout=0"], 2, "needs a model that has seen dropped labels"),
    ([*TRAIN, "condition.kind=none", "sampling.guidance=2"], 2, "set sampling.guidance=1"),
    ([*TRAIN, "data.source=imagefolder", "data.path=nowhere"], 3, "no image folder nowhere"),
    ([*TRAIN, "data.source=parquet", "data.path=nowhere"], 3, "no parquet files at nowhere"),
    ([*TRAIN, "data.source=encoded", "data.path=nowhere"], 3, "gensynth encode makes such"),
    ([*TRAIN, "output=FILE"], 6, "is a file; set output to a folder"),
    (["train", "--config", "fashion_mnist/dico_nan"], 3, "no configuration file"),
    (["train", "--config", "fashion_mnist/maskgit_nano"], 3, "there is no autoencoder at"),
    (["encode", "--config", CONFIG, "--out", "PICTURES"], 4, "not an empty folder"),
    (["encode", "--config", CONFIG, "--out", "NEW", "--batch-size", "0"], 2, "at least 1"),
    (["config"], 2, "gensynth config --list"),
    (["config", CONFIG, "model.depht=2"], 2, "unknown key 'model.depht'"),
    # measuring
    (["evaluate", "nowhere", "--reference", "fashion_mnist:test"], 3, "there are no images"),
    (["evaluate", "PICTURES", "--reference", "nowhere"], 3, "there are no images at 'nowhere'"),
    (["evaluate", "PICTURES", "--reference", "x.npz"], 3, "gensynth reference IMAGES --out x.npz"),
    ([*EVALUATE, "--floor", "nowhere"], 3, "there are no images at 'nowhere'"),
    ([*EVALUATE, "--trained-on", "nowhere"], 3, "there are no images at 'nowhere'"),
    ([*EVALUATE, "--prompts", "nowhere"], 3, "there are no images at 'nowhere'"),
    ([*EVALUATE, "--extractor", "lite0-65"], 2, "there is no extractor 'lite0-65'"),
    ([*EVALUATE, "--metrics", "is,precison"], 2, "Did you mean precision-recall?"),
    ([*EVALUATE, "--weights", "nowhere.pth"], 3, "there is no weights file nowhere.pth"),
    ([*EVALUATE, "--extractor", "inception-2015"], 3, "--weights FILE"),
    (["evaluate", "PICTURES", "--protocol", "dit-xl2-256-cfg1.6"], 2, "mean dit-xl2-256-cfg1.5?"),
    (["reference", "nowhere", "--out", "NEW.npz"], 3, "there are no images at 'nowhere'"),
    (["reference", "PICTURES", "--out", "NEW.npz", "--extractor", "x"], 2, "no extractor 'x'"),
    (["compare", "nowhere", "PICTURES"], 3, "there are no numbers in nowhere"),
    # the rest
    ([*CONVERT, "x.pt", "--from", "vit"], 2, "--from must be one of dico, dic, dit"),
    ([*CONVERT, "x.pt", "--from", "dit"], 3, "there is no checkpoint file x.pt"),
    ([*CONVERT, "FILE", "--from", "dit", "--config", "depth=2"], 2, "give --model too"),
    ([*CONVERT, "FILE", "--from", "maskgit"], 2, "gensynth convert --from llamagen"),
    ([*CONVERT, "FILE", "--from", "dit", *SIZE, "--vae", "PICTURES"], 2, "DiT-X"),
    (["ema", "nowhere"], 3, "is not the output folder of a run"),
    (["bench", "evaluation", "--part", "lader"], 2, "no part 'lader'"),
    (["bench", "evaluation", "--data", "nowhere"], 3, "there is no folder nowhere"),
    (["ops", "tune", "attention"], 2, "no operator 'attention'"),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("places")
    (folder / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "pictures" / "a.png")
    (folder / "file").write_text("x", encoding="utf-8")
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        yield {
            "PORT": str(used.getsockname()[1]),
            "PICTURES": str(folder / "pictures"),
            "PICTURE": str(folder / "pictures" / "a.png"),
            "FILE": str(folder / "file"),
            "NEW": str(folder / "new"),
            "NEW.npz": str(folder / "new.npz"),
        }


def placed(arguments: list[str], places: dict[str, str]) -> list[str]:
    def word(given: str) -> str:
        key, equals, value = given.rpartition("=")
        first, slash, rest = value.partition("/")
        return f"{key}{equals}{places.get(value, places.get(first, first) + slash + rest)}"

    return [word(argument) for argument in arguments]


@pytest.fixture(scope="module")
def ended(guarded, places) -> list:
    commands = [placed(arguments, places) for arguments, _, _ in REFUSED]
    return guarded([*commands, ["sample", "-n", "1", "--out", places["NEW"]]])


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=lambda n: " ".join(REFUSED[n][0]))
def test_a_cheap_mistake_is_refused_before_anything_heavy(ended, places, number):
    done, (_, code, words) = ended[number], REFUSED[number]
    words = places.get(words, words)
    assert done.returncode == code, done.stderr
    assert done.stdout == "" and done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1 and words in done.stderr


def test_an_order_without_mistake_goes_on(ended):
    assert ended[-1].returncode == 99  # it would draw


OK = (0, 99)  # it ended well, or would import torch


def followed(said: str, arguments: list[str], new: str) -> list[str] | None:
    """The command that an error advises; None where it leaves the choice to the reader."""
    if command := re.search(r"(?:[:.,?] |`)(gensynth [^`]*?)(?:\. |\.$|`| names |$)", said):
        return command[1].split()[1:]
    wrong = re.search(r"'([^']+)'", said)
    meant = re.search(r"Did you mean '?([^'?]+)'?\?|Nearest: (\w+)\.|such as ([\w-]+);", said)
    if meant:
        right = next(filter(None, meant.groups()))
        if "such as" in meant[0]:
            return [*arguments, "--model", right]
        if "Nearest" in meant[0]:
            return [right if re.fullmatch(r"[0-9x]+", word) else word for word in arguments]
        bad = wrong[1] if wrong else arguments[-1]
        return [word.replace(bad, right) for word in arguments]
    if setting := re.search(r"set ((?:[\w.]+=\S+?))(?: or [\w.=]+)?\.?\n?$", said):
        return [*arguments, setting[1]]
    if "choose another --out" in said:
        return [*arguments, "--out", new]
    return None


def test_the_advice_of_each_error_works(ended, guarded, places):
    """What an error advises is done, and is not refused: it ends, or goes on to import torch."""
    advised = {}
    for done in ended[:-1]:
        command = followed(done.stderr, done.args, places["NEW"])
        if command is not None:
            fetched = [word.replace("vq_ds16_c2i.pt", places["FILE"]) for word in command]
            advised[done.stderr] = fetched
    assert len(advised) > 15, advised
    shutil.rmtree(places["NEW"], ignore_errors=True)
    taken = zip(advised, guarded(list(advised.values())), strict=True)
    refused = [(said, done.args, done.stderr) for said, done in taken if done.returncode not in OK]
    assert refused == []
