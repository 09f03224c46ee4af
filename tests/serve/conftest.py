"""A tiny pipeline with random weights, as an object and as a model folder."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import gensynth
from gensynth.autoencoders.pixels import PixelAutoencoder
from gensynth.pipelines.class_conditional import ClassConditionalPipeline
from gensynth.samplers.registry import create_scheduler


def tiny_pipeline(
    pipeline_class: type[ClassConditionalPipeline] = ClassConditionalPipeline,
) -> ClassConditionalPipeline:
    """Ten classes, 32 x 32 grey pixels, a few thousand weights."""
    model = gensynth.create_model(
        "DiCo-nano", num_classes=10, learn_sigma=False, hidden_size=8, depth=[1, 1, 1, 1, 1]
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_(0, 0.2, generator=generator)
    scheduler = create_scheduler(None, "velocity")
    pipeline = pipeline_class(
        model.eval(), scheduler, PixelAutoencoder(1, 2), size=32, steps=5, guidance=2.0
    )
    pipeline.classes = [*"012345", "<b>Six</b>", "7", "Bag", "Ankle boot"]
    return pipeline


@pytest.fixture(scope="session")
def make_pipeline():
    """`tiny_pipeline`."""
    return tiny_pipeline


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pipeline on disk."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


START = """
import sys

def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect"):
        where = arguments[event == "socket.connect"]
        if isinstance(where, tuple):
            where = where[0]
        if where not in (None, "127.0.0.1", "localhost"):
            print("network", event, where, flush=True)

sys.addaudithook(watch)
from gensynth_serve.web.app import serve
serve(sys.argv[1:], port=0)
"""


class Server:
    """`serve()` in its own process, on a free port. It prints what it looks up or connects to."""

    def __init__(self, *models: Path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, *map(str, models)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.ready = self.process.stdout.readline()
        found = re.search(r"http://\S+", self.ready)
        assert found, f"the server did not start; exit code {self.process.wait(10)}"
        self.url = found[0]

    def stop(self) -> int:
        """The exit code after SIGTERM: within seconds, but for a busy machine.

        Connections that stay open, as those of a page do, must not keep it.
        """
        self.process.send_signal(signal.SIGTERM)  # does nothing after the end
        try:
            return self.process.wait(120)
        finally:
            self.process.kill()


def serving(model_folder: Path) -> Iterator[Server]:
    running = Server(model_folder)
    yield running
    assert running.stop() == 0
    assert "network" not in running.process.stdout.read()


@pytest.fixture(scope="module")
def server(model_folder: Path) -> Iterator[Server]:
    """A server for the tiny pipeline, which is never online."""
    yield from serving(model_folder)


@pytest.fixture
def own_server(model_folder: Path) -> Iterator[Server]:
    """One for a single test, which may stop it."""
    yield from serving(model_folder)


@pytest.fixture(scope="module")
def pretrained_server(pretrained_folder) -> Iterator[Server]:
    """A server for a tiny Stable Diffusion."""
    yield from serving(pretrained_folder("sd"))


@pytest.fixture(scope="module")
def words_server(text_model_folder: Path) -> Iterator[Server]:
    """A server for a tiny model of prompts."""
    yield from serving(text_model_folder)
