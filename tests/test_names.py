"""The names that code outside relies on, from nothing but `import gensynth`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import gensynth

ROOT = Path(__file__).parent.parent
NAMES = [
    "create_model",
    "linearize",
    "linearize.save",
    "load",
    "load_experiment",
    "autoencoders.open_autoencoder",
    "config.Flow",
    "convert.load_official",
    "data.images.decode",
    "errors.UsageError",
    "evaluation.evaluate.evaluate",
    "guidance.classifier_free",
    "metrics.FrechetDistance",
    "metrics.frechet_distance",
    "models.create_model",
    "objectives.ddpm.loss_terms",
    "ops.linear_attention",
    "ops.local_attention",
    "pipelines.PIPELINES.get",
    "restore",
    "sampling.masked.halton_order",
    "training.loop.train",
]
HEAVY = ["diffusers", "torchmetrics", "transformers", "matplotlib", "datasets", "gradio", "triton"]


def run(*lines: str) -> None:
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def in_documents() -> list[str]:
    """`gensynth.name(`, `gensynth.folder.name(` and the like, in the README and in docs/."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    found = set(re.findall(r"(?<![\w./])gensynth\.([a-zA-Z_]\w*(?:\.[a-zA-Z_]\w*)*)", text))
    assert {"load", "create_model", "metrics.FrechetDistance", "ops.use"} <= found
    return sorted(found)


def test_names_are_reachable_and_the_import_is_cheap():
    """Those above, every public one and those in the documents."""
    run(
        "import sys, gensynth",
        "assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)",
        *(f"assert callable(gensynth.{name})" for name in NAMES),
        *(f"gensynth.{name}" for name in [*gensynth.__all__, *in_documents()]),
    )


@pytest.mark.parametrize(
    "name", ["metrics.frechet_distance", "ops.use", "errors", "seeding", "samplers"]
)
def test_light_names_import_nothing_heavy(name):
    run(f"import sys, gensynth; gensynth.{name}", f"assert not set({HEAVY}) & set(sys.modules)")


def test_every_public_name_is_shown():
    assert dir(gensynth) == sorted(gensynth.__all__)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("metric", "metrics"), ("data.image", "images"), ("creat_model", "create_model")],
)
def test_a_misspelt_name_is_told_the_nearest(name, nearest):
    *parents, last = name.split(".")
    module = gensynth
    for parent in parents:
        module = getattr(module, parent)
    with pytest.raises(AttributeError, match=f"no attribute '{last}'. Did you mean '{nearest}'"):
        getattr(module, last)
