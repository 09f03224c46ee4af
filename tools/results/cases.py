"""Every case: a few commands in an empty folder, and what came out of them."""

import runpy
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from results import lists
from results.reading import (
    Results,
    pictures,
    pictures_in,
    pixels_of,
    scores,
    training,
)

CONFIGS = Path("configs")
EDIT_IMAGES = Path("docs/images/edit")


@dataclass(frozen=True)
class Shared:
    """What cases need beside the code: the data sets, and folders of autoencoders."""

    data: Path
    tokenizer: Path
    vae: Path


@dataclass(frozen=True)
class Case:
    """`run` takes an empty folder."""

    name: str
    run: Callable[[Path], Results]


def all_cases(shared: Shared) -> Iterator[Case]:
    """Every case, those that take long first."""
    yield Case("evaluate", evaluate)
    for config in sorted(CONFIGS.glob("*/*.yaml")):
        ways = lists.RUN_WAYS.get(config.relative_to(CONFIGS).as_posix(), ("",))
        yield training_case(shared, config, "", ways)
    for name, changes in lists.VARIANTS:
        yield training_case(shared, CONFIGS / name, changes)
    for model, model_ways in lists.WAYS.items():
        for way in model_ways:
            yield Case(f"sample {model} {way}".strip(), partial(sample_twice, model, way))
    for options in lists.EDITS:
        yield Case(f"edit {options}", partial(edit, options))
    yield Case("python", python)
    yield Case("web", web)


def gensynth(*arguments: object) -> None:
    """Runs `python -m gensynth ARGUMENTS` in this process.

    Raises:
        RuntimeError: it ended with an error, which it has printed.
    """
    sys.argv = ["gensynth", *map(str, arguments)]
    try:
        runpy.run_module("gensynth", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"exit code {end.code}") from end


def prefixed(prefix: str, results: Results) -> Results:
    return {f"{prefix} {name}".strip(): value for name, value in results.items()}


def sample(folder: Path, model: object, options: str, num: int = 4) -> Results:
    """Pictures of `gensynth sample`; of an option that is given twice the last counts."""
    usual = f"--labels 0,3,7,9 --seed 5 --num {num} --batch-size 4 --steps 4".split()
    gensynth("sample", "--model", model, "--out", folder, *usual, *options.split())
    return pictures_in(folder)


def sample_twice(model: str, options: str, folder: Path) -> Results:
    """Pictures of a bundled model with two scales of guidance."""
    found: Results = {}
    for scale in lists.SCALES_WITH_GUIDE if "--guide " in options else lists.SCALES:
        drawn = sample(folder / scale, model, f"--guidance {scale} {options}")
        found |= prefixed(f"guidance {scale}", drawn)
    return found


def edit(options: str, folder: Path) -> Results:
    """Results of `gensynth edit` and their sheet."""
    words = [EDIT_IMAGES / word if word.endswith(".png") else word for word in options.split()]
    gensynth("edit", *words, "--seed", 3, "--steps", 6, "--out", folder / "edited")
    return pictures_in(folder / "edited")


def evaluate(folder: Path) -> Results:
    """Numbers of `gensynth evaluate` for pictures drawn before, and for models that draw."""
    drawn, report = folder / "drawn", folder / "report.json"
    sample(drawn, lists.VELOCITY, "--batch-size 16", num=64)
    found: Results = {}
    for options in lists.EVALUATIONS:
        words = options.split() if "--model" in options else [drawn, *options.split()]
        gensynth("evaluate", *words, "--reference", "fashion_mnist:test", "--out", report)
        found |= prefixed(options, scores(report))
    return found


def training_case(shared: Shared, config: Path, changes: str, ways: Sequence[str] = ("",)) -> Case:
    """Five steps of an experiment, and pictures of the result in each of the `ways`."""

    def run(folder: Path) -> Results:
        experiment = yaml.safe_load(config.read_text(encoding="utf-8"))
        given = [*overrides(experiment, shared), *changes.replace("encode", "").split()]
        if changes == "encode" or experiment["data"]["source"] == "encoded":
            given = encode(config, given, folder / "encoded")
        gensynth("train", "--config", config, *given, f"output='{folder / 'run'}'")
        found = training(folder / "run")
        if experiment["objective"]["name"] == "reconstruction":
            return found  # a tokenizer draws nothing
        for number, way in enumerate(ways):
            drawn = sample(folder / f"drawn-{number}", folder / "run", way, num=2)
            found |= prefixed(f"drawn {way}".strip(), without_model(drawn))
        return found

    return Case(f"train {config.relative_to(CONFIGS).as_posix()} {changes}".strip(), run)


def overrides(experiment: Results, shared: Shared) -> Iterator[str]:
    """What makes an experiment small enough for seconds, and free of the network."""
    yield from lists.SMALL
    yield from lists.small_model(experiment["model"])
    data, codec = experiment["data"], experiment.get("autoencoder", {})
    if data["source"] == "hub":
        file = shared.data / lists.DATA[data["path"]] / "train.parquet"
        yield from ("data.source=parquet", f"data.path='{file}'")
    elif data["source"] != "fashion_mnist":
        yield from ("data.source=fashion_mnist", "data.path=null")
    if codec.get("kind") == "vq":
        yield f"autoencoder.path='{shared.tokenizer}'"
    if codec.get("kind") == "kl":
        yield from (f"autoencoder.path='{shared.vae}'", f"data.size={data['size'] // 4}")


def encode(config: Path, given: list[str], folder: Path) -> list[str]:
    """The overrides that train on what `gensynth encode` makes of the images."""
    images = ["data={source: fashion_mnist, split: test, size: 32, channels: 1, fit: pad}"]
    gensynth("encode", "--config", config, "--out", folder, *given, *images)
    return [*given, *images, "data.source=encoded", f"data.path='{folder}'"]


def without_model(drawn: Results) -> Results:
    """Recipes without the name of a model that lies in a temporary folder."""
    for value in drawn.values():
        if isinstance(value, dict):
            del value["model"]
    return drawn


def python(folder: Path) -> Results:
    """Pictures of `gensynth.load`."""
    from gensynth import load

    found: Results = {}
    for model in lists.MODELS:
        images = load(model, device="cpu")(labels=[1, 8], seeds=[4, 2], steps=4, guidance=2.0)
        found |= {f"{model} {number}": pixels_of(image) for number, image in enumerate(images)}
    return found


def web(folder: Path) -> Results:
    """Pictures of a request to the page of `gensynth serve`, for each bundled model."""
    from gradio_client import Client

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gensynth", "serve", *lists.MODELS, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    request = {"labels": [8, 2], "num": 2, "seed": 7, "steps": 4, "guidance": 2.0}
    found: Results = {}
    try:
        assert server.stdout is not None
        server.stdout.readline()  # it says where it is when it is ready
        for model in lists.MODELS:
            downloads = str(folder / model)
            client = Client(f"http://127.0.0.1:{port}", verbose=False, download_files=downloads)
            _, gallery = client.predict(model, **request, api_name="/generate")
            found |= prefixed(model, pictures(Path(item["image"]) for item in gallery))
    finally:
        server.terminate()
        server.wait(20)
    return found
