"""What is trained: one recipe, of which each row changes the backbone."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.modeling_utils import ModelMixin

from gensynth.config import Experiment
from gensynth.errors import InputError
from gensynth.experiments.build import build_condition, build_model
from gensynth.experiments.read import load_experiment
from gensynth.models.counting import multiply_adds
from gensynth_benchmarks.ledger import Row
from gensynth_benchmarks.measuring import ROOT

CONFIG = ROOT / "configs" / "emoji" / "equal_budget.yaml"
# What differs from the recipe. Depths and widths are such that all have as many parameters; the
# linear mixer has more of its own than the others.
_DIT = "name: DiT-nano/2, patch_size: 1"
ROWS: dict[str, tuple[str, ...]] = {
    "dico": (),
    "dico-pooled": ("model.hidden_size=44", "condition.cross=false"),
    "dic": ("model={name: DiC-nano}",),
    "dit-softmax": (f"model={{{_DIT}}}",),
    "dit-linear": (f"model={{{_DIT}, depth: 8, mlp_ratio: 3.25, mixer: linear}}",),
    "dit-local": (f"model={{{_DIT}, mixer: local, window: 3}}",),
}
TITLES = {
    "dico": "DiCo",
    "dico-pooled": "DiCo, pooled text only",
    "dic": "DiC",
    "dit-softmax": "DiT, softmax",
    "dit-linear": "DiT, linear",
    "dit-local": "DiT, local",
}
TRAINED, HELD_OUT = "train.parquet", "test.parquet"
# Everything tiny but the backbones, for seconds on a CPU; the numbers say nothing.
MINIATURE = (
    *("training.batch_size=4", "training.log_every=1", "checkpoint.every=2", "sampling.steps=2"),
    *("condition.width=32", "condition.layers=1", "condition.vocabulary=300"),
)


@dataclass(frozen=True)
class Trial:
    """What all rows have in common.

    Attributes:
        data: folder with `train.parquet` and `test.parquet`, pictures of 64x64 with captions.
        work: folder for latents and runs, which a later command goes on with.
        steps: of training; None for those of the recipe.
    """

    data: Path
    work: Path
    steps: int | None = None
    miniature: bool = False

    def experiment(self, name: str, *overrides: str) -> Experiment:
        """The experiment of a row, with the pictures as they are."""
        path = json.dumps(str(self.data / TRAINED))
        given = ["data.source=parquet", f"data.path={path}", *ROWS[name]]
        if self.steps is not None:
            given.append(f"training.steps={self.steps}")
        given += MINIATURE if self.miniature else ()
        return load_experiment(CONFIG, [*given, *overrides])

    def fingerprint(self) -> str:
        """Of the pictures and captions.

        Raises:
            InputError: they are not there.
        """
        digest = hashlib.sha256()
        for name in (TRAINED, HELD_OUT):
            try:
                digest.update((self.data / name).read_bytes())
            except OSError as error:
                raise InputError(
                    f"{self.data / name} cannot be read: {error.strerror or error}. Give as --data "
                    "a folder such as tools/build_emoji.py --size 64 makes, or leave it out."
                ) from error
        return digest.hexdigest()[:12]

    def recipe(self, name: str, fingerprint: str) -> str:
        """A digest of all that decides the numbers of a row."""
        experiment = self.experiment(name).model_dump(mode="json", exclude={"output"})
        del experiment["data"]["path"]  # wherever they lie
        text = json.dumps([experiment, fingerprint], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def counted(experiment: Experiment) -> Row:
    """Parameters, those of the text encoder among them, and multiply-adds of one pass.

    A pass is one of the backbone; the text is encoded once for a picture.
    """
    with torch.device("meta"):
        condition = build_condition(experiment, [], ["a caption"])
        model = build_model(experiment, condition)
    return {
        "parameters": numbers(model),
        "encoder_parameters": numbers(model.text_input.encoder),
        "multiply_adds": multiply_adds(model, experiment.data.size),
    }


def numbers(module: torch.nn.Module | ModelMixin) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
