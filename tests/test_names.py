"""The names that code outside relies on, from nothing but `import gensynth`."""

import subprocess
import sys

NAMES = [
    "create_model",
    "load",
    "load_experiment",
    "convert.load_official",
    "objectives.ddpm.loss_terms",
    "ops.linear_attention",
    "ops.local_attention",
    "sampling.masked.halton_order",
]


def test_names_are_reachable_and_the_import_is_cheap():
    lines = ["import sys, gensynth", "assert 'torch' not in sys.modules"]
    lines += [f"assert callable(gensynth.{name})" for name in NAMES]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
