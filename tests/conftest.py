"""Small real objects that many tests share. Nothing here needs a network."""

import contextlib
import io
import os
import shutil
import signal
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CACHE = tempfile.mkdtemp(prefix="gensynth-tests-")
os.environ |= {
    "OMP_NUM_THREADS": "1",  # two busy threads on a shared machine wait for each other
    "GENSYNTH_CACHE": CACHE,
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_CACHE": CACHE,
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}

import torch  # noqa: E402 - Hugging Face libraries read the environment when they are imported

torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # kernels run on the CPU; read when Triton is imported

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup's "ignore" would reach what tests start

CLASSES = ["Ant", "Bear", "Cat", "Dog", "Eel", "Fox", "Goat", "Hare", "Ibex", "Jackal"]


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


def pytest_unconfigure() -> None:
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(scope="module")
def browser():
    """A running Chromium."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=CHROMIUM_FLAGS
        )
        yield chromium
        chromium.close()


@dataclass
class Done:
    """What a command left behind, under the names of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def command() -> Callable[..., Done]:
    """`gensynth ARGUMENTS` in this process, where torch has been imported already."""
    from gensynth.cli import main

    def run(*arguments) -> Done:
        out, errors = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "excepthook", sys.excepthook)  # the command sets its own
            streams = (contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors))
            with streams[0], streams[1], pytest.raises(SystemExit) as ended:
                main([str(word) for word in arguments])
        return Done(ended.value.code or 0, out.getvalue(), errors.getvalue())

    return run


@pytest.fixture(scope="session")
def make_model() -> Callable:
    """A DiCo in which no weight is zero, so that label, time and every layer matter."""
    from gensynth import create_model

    def make(learn_sigma: bool = False, hidden_size: int = 8, in_channels: int = 4):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = create_model(
                "DiCo-nano",
                num_classes=10,
                in_channels=in_channels,
                learn_sigma=learn_sigma,
                hidden_size=hidden_size,
                depth=[1, 1, 1, 1, 1],
            )
            for parameter in model.parameters():
                if not parameter.any():
                    torch.nn.init.normal_(parameter, std=0.1)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable:
    """A tokenizer of grey images, 4 pixels a token, whose codes are far enough apart to be used."""
    from gensynth.autoencoders import VQAutoencoder

    def make(seed: int = 0, codebook_size: int = 16, channels: int = 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tokenizer = VQAutoencoder(
                channels=channels,
                widths=(4, 4, 4),
                layers=1,
                latent_channels=4,
                codebook_size=codebook_size,
                codebook_dim=4,
                attention=False,
                norm_groups=2,
            )
            torch.nn.init.normal_(tokenizer.quantizer.embedding.weight)
        return tokenizer.eval().requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def make_token_model() -> Callable:
    """A MaskGIT of 16 tokens in which labels and the other tokens matter."""
    from gensynth import create_model

    def make(seed: int = 0, codebook_size: int = 16, hidden_size: int = 16, **keywords):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = create_model(
                "MaskGIT-nano",
                input_size=8,
                codebook_size=codebook_size,
                hidden_size=hidden_size,
                num_heads=2,
                depth=1,
                **{"num_classes": 10, **keywords},
            )
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def tokenizer_folder(make_tokenizer: Callable, tmp_path_factory) -> Path:
    """What a tokenizer's run leaves under `model/`. Copy it before changing anything in it."""
    from gensynth.pipelines.tokenizer import TokenizerPipeline

    folder = tmp_path_factory.mktemp("tokenizer") / "tiny"
    TokenizerPipeline(make_tokenizer(), size=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_pipeline(
    make_model: Callable, make_token_model: Callable, make_tokenizer: Callable
) -> Callable:
    """A class-conditional pipeline of 32 x 32 grey pixels, in 4 channels or in 8 x 8 tokens."""
    from gensynth.autoencoders import PixelAutoencoder
    from gensynth.pipelines.class_conditional import ClassConditionalPipeline
    from gensynth.samplers.registry import create_scheduler

    def make(
        prediction: str = "velocity", model=None, autoencoder=None, scheduler=None, **settings
    ):
        tokens = prediction == "tokens"
        own = make_token_model() if tokens else make_model(learn_sigma=prediction == "epsilon")
        pipeline = ClassConditionalPipeline(
            model or own,
            scheduler or create_scheduler(None, prediction),
            autoencoder or (make_tokenizer() if tokens else PixelAutoencoder(1, 2)),
            prediction=prediction,
            **{"size": 32, "steps": 3, "time_scale": 1000.0, **settings},
        )
        pipeline.classes = list(CLASSES)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return make


@pytest.fixture(scope="session")
def tiny_pipeline(make_pipeline: Callable):
    return make_pipeline()


@pytest.fixture(scope="session")
def tiny_model_folder(tiny_pipeline, tmp_path_factory) -> Path:
    """A saved pipeline. Copy it before changing anything in it."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_pipeline.save_pretrained(folder)
    return folder


CAPTIONS = ["red apple, fluent", "green apple, noto", "cat face, blob", "cat face, fluent"]


@pytest.fixture(scope="session")
def text_pipeline():
    """32 x 32 grey pixels of prompts, read by an encoder of the model's own. No weight is zero."""
    from gensynth import create_model
    from gensynth.autoencoders import PixelAutoencoder
    from gensynth.conditions import Texts
    from gensynth.config import Shown
    from gensynth.pipelines.text_conditional import TextConditionalPipeline
    from gensynth.samplers.registry import create_scheduler

    sizes = {"length": 8, "width": 16, "layers": 1, "heads": 2, "vocabulary": 400}
    texts = Texts.of_experiment(Shown(kind="text", **sizes), [], CAPTIONS)
    told = texts.model_keywords()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create_model(
            "DiCo-nano", learn_sigma=False, hidden_size=8, depth=[1, 1, 1, 1, 1], **told
        )
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    pipeline = TextConditionalPipeline(
        model.eval(),
        create_scheduler(None, "velocity"),
        PixelAutoencoder(1, 2),
        size=32,
        steps=2,
        guidance=2.0,
        time_scale=1000.0,
        condition_kind="text",
    )
    pipeline.condition = texts.for_model(model)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def text_model_folder(text_pipeline, tmp_path_factory) -> Path:
    """It, saved. Copy it before changing anything in it."""
    folder = tmp_path_factory.mktemp("model") / "words"
    text_pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pretrained_folder(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a tiny pipeline of diffusers: "sd", "flux", ... Copy it before changing it."""
    import tiny_pipelines

    place = tmp_path_factory.mktemp("pretrained")

    def saved(kind: str) -> Path:
        if not (place / kind).is_dir():
            getattr(tiny_pipelines, f"tiny_{kind}")().save_pretrained(place / kind)
        return place / kind

    return saved


@pytest.fixture(scope="session")
def tiny_vae_folder(tmp_path_factory) -> Path:
    """An AutoencoderKL with random weights, as diffusers saves one: 8 pixels a position."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            block_out_channels=[4, 4, 4, 8],
            norm_num_groups=2,
        )
    folder = tmp_path_factory.mktemp("vae") / "tiny"
    vae.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def lite0():
    from gensynth.metrics.extractors.lite0 import Lite0Features

    return Lite0Features()


@pytest.fixture(scope="session")
def fashion() -> torch.Tensor:
    """uint8 [300, 1, 32, 32]: the first images of the bundled test set."""
    from gensynth.data.files.image_set import open_images

    images = open_images("fashion_mnist:test")
    return torch.stack([images.read(index) for index in range(300)])


def encode(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope="session", name="encode")
def encode_fixture() -> Callable:
    """The bytes of an image file: `encode(pixels or image, kind, **options)`."""
    return encode


@pytest.fixture(scope="session")
def numbered() -> Callable:
    """The bytes of an 8 x 8 picture with grey level `number` and a white right column."""

    def make(number: int) -> bytes:
        pixels = np.full((8, 8), number, np.uint8)
        pixels[:, -1] = 255
        return encode(pixels)

    return make


@pytest.fixture(scope="session")
def write_tar() -> Callable[..., Path]:
    """Writes members by name into a tar file and returns its path."""

    def write(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
        with tarfile.open(path, mode) as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return path

    return write
