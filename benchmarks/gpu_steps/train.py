"""Training: images per second and MFU of whole steps, at published widths, as large as fits.

A step is what a run does (`gensynth.training`): loss, gradient, clipping where the recipe says so,
optimiser (AdamW, fused; Adan for MDTv2) and the average of the weights, in bfloat16 autocast. The
recipes are those of configs/imagenet256 without the autoencoder: what is learned are random latents
of 32x32x4, or 16x16 random tokens, that lie in the memory of the GPU. So neither a disk nor an
encoder counts. Every image has a label of its own.

Paths: "eager" has the definitions of our operators in plain PyTorch; "compiled" the same with
compiled blocks; "gensynth" compiled blocks and the operators as they choose by themselves.

MFU is 3 x the operations of a forward pass x images/s over the measured product of matrices. The
forward pass is counted once, also for MDTv2, whose step has a second one over the unmasked tokens.
"""

import gc
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from gensynth import ops
from gensynth.autoencoders import VQAutoencoder
from gensynth.config import Experiment
from gensynth.data.training import Batch
from gensynth.experiments.assemble import assemble
from gensynth.experiments.read import load_experiment
from gensynth.seeding import StepRandom
from gensynth.training.averages.ema import WeightAverage
from gensynth.training.learning.learner import Learner
from gensynth_benchmarks.gpu_steps.backbones import COMPILED, EAGER, OURS, flops
from gensynth_benchmarks.gpu_steps.common import Bench, fresh_memory, timed, verdict
from gensynth_benchmarks.ledger import Row
from gensynth_benchmarks.machine import peak_gib
from gensynth_benchmarks.measuring import ROOT, Table, number, share

CLASSES, CODES = 1000, 16384
BATCHES = (256, 128, 64, 32, 16)
# Path -> how operators choose, whether blocks are compiled, seconds that a row may take.
PATHS = {
    EAGER: ("reference", False, 60.0),
    COMPILED: ("reference", True, 120.0),
    OURS: ("auto", True, 120.0),
}
# Model -> recipe in configs/imagenet256, and what differs from it.
MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "DiT-XL/2": ("dit_xl2", ()),
    "DiC-XL": ("dic_xl", ()),
    "DiCo-XL": ("dico_xl", ()),
    "SiT-XL/2": ("sit_xl2", ()),
    "MDTv2-XL/2": ("mdtv2_xl2", ()),
    "DiT-XL/2 linear": ("dit_xl2", ("model.mixer=linear",)),
    "DiT-XL/2 local": ("dit_xl2", ("model.mixer=local", "model.window=8")),
    "MaskGIT-L": ("dit_xl2", ("objective={name: masked}", "sampling={steps: 8}")),
}
GAIN = "gensynth over the faster of eager and compiled"
LEAST_MFU = {"DiT-XL/2": 0.45, "DiC-XL": 0.45, "DiCo-XL": 0.30}
# For an H200, calculated before anything had been measured.
PREDICTED = {
    ("DiT-XL/2", COMPILED): "400 to 450",
    ("DiCo-XL", COMPILED): "450",
    ("DiCo-XL", OURS): "600",
}


def run(bench: Bench) -> None:
    """Every path of a model, then the next model; the targets' models first."""
    for model in MODELS:
        for path, (_, _, needs) in PATHS.items():
            work = partial(row, bench, model, path)
            bench.ledger.measure(work, needs, path == OURS, model=model, path=path)


def row(bench: Bench, model: str, path: str) -> Row:
    """A row at the largest batch that fits; compiled it is hardly above twice the eager one."""
    eager = bench.ledger.find(model=model, path=EAGER) or {}
    most = 2 * eager.get("batch", BATCHES[0])
    batches = (2,) if bench.miniature else [batch for batch in BATCHES if batch <= most]
    return largest(batches, partial(measured, bench, model, path), bench.device)


def largest(batches: Iterable[int], work: Callable[[int], Row], device: str) -> Row:
    """What `work` gives for the first of some batches that fits into memory.

    Raises:
        torch.OutOfMemoryError: none does.
    """
    for batch in batches:
        try:
            return work(batch)
        except torch.OutOfMemoryError:
            pass
        # Not in the handler: the error holds the tensors of every frame that it came through.
        gc.collect()
        fresh_memory(device)
    raise torch.OutOfMemoryError(f"not even {batch} images fit")


def measured(bench: Bench, model: str, path: str, batch: int) -> Row:
    """Speed, memory and parts of the steps of one path with so many images."""
    mode, compiled, _ = PATHS[path]
    experiment = recipe(bench, model, batch, compiled and not bench.miniature)
    forward = flops(model, 256, bench.miniature)
    seconds = 0.01 if bench.miniature else 1.0
    fresh_memory(bench.device)
    with ops.use(mode):
        steps = Steps(experiment, bench.device)
        for _ in range(1 if bench.miniature else 4):  # MDTv2 compiles again at a second length
            steps.step()
        times = timed(steps.step, bench.device, 4 * seconds)
        peak = peak_gib(bench.device)
        parts = {
            f"{name}_milliseconds": timed(part, bench.device, seconds)["milliseconds"]
            for name, part in steps.parts.items()
        }
    rate = 1000 * batch / times["milliseconds"]
    return {
        "batch": batch,
        "images_per_second": rate,
        **times,
        "peak_gib": peak,
        "forward_flops": forward,
        "mfu": 3 * forward * rate / bench.best.flops_per_second,
        **parts,
    }


def recipe(bench: Bench, model: str, batch: int, compiled: bool) -> Experiment:
    """The published recipe on random latents or tokens; nano models in miniature."""
    file, changes = MODELS[model]
    name = model.split()[0]
    side = 8 if bench.miniature else 32  # of the latents
    where = [f"data={{size: {2 * side}, channels: 1}}", "autoencoder={kind: none, patch: 2}"]
    if name.startswith("MaskGIT"):
        codec = f"{{kind: vq, path: '{codec_folder(bench.work)}', codebook_size: {CODES}}}"
        where = [f"data={{size: {8 * side}, channels: 3}}", f"autoencoder={codec}"]
    chosen = f"model.name={name}"
    if bench.miniature:
        kind, _, _ = name.partition("-")
        chosen = f"model={{name: {kind}-nano{'/2' if '/' in name else ''}}}"
    return load_experiment(
        ROOT / "configs" / "imagenet256" / f"{file}.yaml",
        [
            chosen,
            *where,
            *changes,
            f"training.batch_size={batch}",
            "training.mixed_precision=bf16",
            f"training.compile={str(compiled).lower()}",
        ],
    )


def codec_folder(work: Path) -> Path:
    """A tokenizer of as many codes as MaskGIT's; it encodes nothing here."""
    folder = work / "codec"
    if not folder.is_dir():
        VQAutoencoder(widths=[4] * 5, layers=1, codebook_size=CODES, norm_groups=2).save_pretrained(
            folder
        )
    return folder


class Steps:
    """Training steps on one random batch that stays in memory."""

    def __init__(self, experiment: Experiment, device: str):
        AcceleratorState._reset_state()  # an earlier row may have set another precision
        self.experiment, self.number = experiment, 0
        self.accelerator = Accelerator(mixed_precision=experiment.training.mixed_precision)
        # Random weights are made on the device, which is faster; a codec is read from files.
        latents = experiment.autoencoder.gives == "latents"
        with torch.device(device) if latents else nullcontext():
            names = [str(number) for number in range(CLASSES)]
        parts = assemble(experiment, names, self.accelerator.device)
        self.learner = Learner(parts, self.accelerator)
        self.average = WeightAverage(self.learner.bare_model, experiment.ema)
        self.batch = random_batch(experiment, device)
        self.learner.model.train()
        self.parts: dict[str, Callable[[], None]] = {
            "gradient": self.gradient,
            "optimizer": self.update,
            "average": self.average.update,
        }

    def step(self) -> None:
        """One whole step."""
        self.gradient()
        self.update()
        self.learner.optimizer.zero_grad()
        self.average.update()
        self.number += 1

    def gradient(self) -> None:
        size = len(self.batch.labels)
        random = StepRandom(0, self.number, slice(0, size), size, self.learner.device)
        self.learner.backward(self.batch, random, parts=1, last=True)

    def update(self) -> None:
        clip = self.experiment.optimizer.clip
        if clip is not None:
            self.accelerator.clip_grad_norm_(self.learner.weights, clip)
        self.learner.optimizer.step()


def random_batch(experiment: Experiment, device: str) -> Batch:
    """Latents, or tokens, and labels, as if they had been encoded before."""
    generator = torch.Generator(device).manual_seed(0)
    size, codec = experiment.training.batch_size, experiment.autoencoder
    side = experiment.data.size // codec.patch
    labels = torch.randint(CLASSES, (size,), generator=generator, device=device)
    if codec.gives == "tokens":
        tokens = torch.randint(CODES, (size, side, side), generator=generator, device=device)
        return Batch(None, labels, [], latents=tokens)
    shape = (size, codec.channels(experiment.data.channels), side, side)
    latents = torch.randn(shape, generator=generator, device=device)
    return Batch(None, labels, [], latents=latents.contiguous(memory_format=torch.channels_last))


def tables(rows: Sequence[Row], about: Row) -> list[Table]:
    """A line for each path; what failed is in the place of its batch."""
    lines = [
        [
            row["model"],
            row["path"],
            row.get("failed", str(row.get("batch", ""))),
            number(row.get("images_per_second"), 0),
            PREDICTED.get((row["model"], row["path"]), ""),
            share(row.get("mfu")),
            number(row.get("milliseconds"), 1),
            share(row.get("spread")),
            *(number(row.get(f"{name}_milliseconds"), 1) for name in PARTS),
            number(row.get("peak_gib"), 1),
        ]
        for row in rows
    ]
    columns = ["model", "path", "batch", "images/s", "predicted", "MFU", "step ms", "spread"]
    columns += [f"{name} ms" for name in PARTS.values()] + ["peak GiB"]
    title = "Training steps in bfloat16, random latents of 256x256 pixels"
    return [Table(title, columns, lines, names=2)]


PARTS = {"gradient": "forward and backward", "optimizer": "optimiser", "average": "average"}


def verdicts(rows: Sequence[Row]) -> list[str]:
    """The share of the ceiling of three models, and ours beside the faster of the others."""
    lines = []
    for model, least in LEAST_MFU.items():
        shares = [row["mfu"] for row in rows if row["model"] == model and "mfu" in row]
        lines.append(verdict(f"MFU of {model}, its best path", max(shares, default=None), least))
    for model in MODELS:
        rates = {
            row["path"]: row["images_per_second"]
            for row in rows
            if row["model"] == model and "images_per_second" in row
        }
        others = [rates[path] for path in (EAGER, COMPILED) if path in rates]
        ratio = rates[OURS] / max(others) if others and OURS in rates else None
        lines.append(verdict(f"{model}, {GAIN}", ratio, 1.0, digits=3))
    return lines
