"""What published numbers depended on, by name: model, sampler, guidance, labels, reference, count.

Values come from the papers and from the repositories that belong to them, as each entry says. What
neither of them says, or where they disagree, is listed in `unverified`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gensynth.errors import UsageError, nearest
from gensynth.settings import Settings

LabelRule = Literal["balanced", "random"]

# How floats x in [-1, 1] became whole levels.
HALF_UP = "floor(127.5 x + 128)"  # DiT and what came from it; `gensynth.autoencoders.levels`
CUT_OFF = "floor(127.5 (x + 1))"
DDPM: dict[str, Any] = {
    "variance_type": "learned_range",
    "timestep_spacing": "linspace",
    "clip_sample": False,  # latents are not confined to [-1, 1]
}
EULER_MARUYAMA: dict[str, Any] = {
    "method": "euler",
    "form": "sigma",
    "norm": 1.0,
    "last_step": "mean",
    "last_step_size": 0.04,  # SiT's, for 250 steps
}
HALTON: dict[str, Any] = {
    "temperature": 1.0,
    "last_temperature": 1.0,
    "temperature_power": 1.0,
    "warmup_steps": 1,
    "top_k": None,
    "roll": False,
    "greedy": False,
    "schedule": "arccos",
}


# DiT's, from which the others differ.
USUAL = Settings(
    steps=250, guidance=1.5, size=256, scheduler="DDPMScheduler", scheduler_options=DDPM
)


@dataclass(frozen=True)
class Protocol:
    """Everything a published number depended on.

    Attributes:
        name: what a result that follows it is labelled with.
        model: the preset, a key of `gensynth.models.MODELS`.
        published: the numbers, by the keys of a report: fid, sfid, is, precision, recall.
        source: paper with table, and repository with file.
        settings: of the pipeline's call; guidance counts from 1 (no guidance).
        prediction: what the model says, as of a pipeline.
        guided_channels: how many leading channels guidance acts on; None for all.
        guidance_schedule, guidance_power: as of a pipeline.
        autoencoder: hub id of the VAE, or file of the tokenizer.
        labels: "random" (uniform) or "balanced" (the classes in turn).
        pixels: how floats became whole levels.
        seed: of the first picture. The authors' random numbers are not ours whatever the seed, so
            that numbers agree up to their standard error.
        count: number of samples.
        reference: name of a published file of statistics.
        extractor: the feature space.
        unmet: what the number depended on that is not available here.
        unverified: what is taken from somewhere else, or was not found.
        notes: what a reader of the number should know.
    """

    name: str
    model: str
    published: Mapping[str, float]
    source: str
    settings: Settings = USUAL
    prediction: str = "epsilon"
    guided_channels: int | None = 3
    guidance_schedule: str = "constant"
    guidance_power: float = 4.0
    autoencoder: str = "stabilityai/sd-vae-ft-ema"
    labels: LabelRule = "random"
    pixels: str = HALF_UP
    seed: int = 0
    count: int = 50_000
    reference: str = "imagenet256"
    extractor: str = "inception-2015"
    unmet: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether every value was found in the paper or in its repository."""
        return not self.unverified


DIT = "arXiv 2212.09748, {}, appendices A and D; facebookresearch/DiT, sample_ddp.py"
SIT = "arXiv 2401.08740v2, table 7 and appendices D and E; willisma/SiT, sample_ddp.py"
SIT_DECODER = "which decoder of the VAE: the paper does not say, ft-EMA is the repository's default"
MDT_RULE = "sail-sg/MDT, README.md, run_sample.sh and scripts/image_sample.py"
DICO = "arXiv 2505.11196, {}; shallowdream204/DiCo, README.md and sample_ddp.py"
DIC = "YuchuanTian/DiC, sample_ddp.py (defaults); numbers as printed in arXiv 2505.11196, table 1"
HALTON_SOURCE = "valeoai/Halton-MaskGIT, README.md and launch/eval_test_to_img.sh"
SCRIPT = "whether it was drawn as the script for MaskGIT-L at 384 pixels says"
EVALUATION = "whether the table was made with the evaluation in the repository, Metrics/"
OWN_EVALUATION = (
    "features of images resized as clean-fid does and then cut to whole levels",
    "a reference made of ImageNet's training images at 256 pixels, which is not published",
)


def halton(size: str, pixels: int, guidance: float, fid: float, score: float) -> Protocol:
    """A row of Halton-MaskGIT's table; its guidance counts from 0, ours from 1."""
    largest = (size, pixels) == ("L", 384)
    return Protocol(
        name=f"maskgit-{size.lower()}-{pixels}-halton-cfg{guidance:g}",
        model=f"MaskGIT-{size}",
        settings=USUAL.but(
            size=pixels,
            steps=32,
            guidance=guidance,
            scheduler="HaltonDecoder",
            scheduler_options=HALTON,
        ),
        published={"fid": fid, "is": score},
        source=HALTON_SOURCE,
        prediction="tokens",
        guided_channels=None,
        autoencoder="FoundationVision/LlamaGen, vq_ds16_c2i.pt",
        labels="balanced",  # those of the validation images, fifty of each class
        pixels=CUT_OFF,
        extractor="inception-2015-clean",
        unmet=OWN_EVALUATION,
        unverified=(EVALUATION,) if largest else (SCRIPT, EVALUATION),
        notes=("the repository runs the transformer in bfloat16",),
    )


_ENTRIES = (
    Protocol(
        name="dit-xl2-256-cfg1.5",
        model="DiT-XL/2",
        published={"fid": 2.27, "sfid": 4.60, "is": 278.24, "precision": 0.83, "recall": 0.57},
        source=DIT.format("tables 2 and 5"),
        notes=("the README reports 2.21 for the PyTorch weights in float32",),
    ),
    Protocol(
        name="dit-xl2-512-cfg1.5",
        model="DiT-XL/2",
        settings=USUAL.but(size=512),
        reference="imagenet512",
        published={"fid": 3.04, "sfid": 5.02, "is": 240.82, "precision": 0.84, "recall": 0.54},
        source=DIT.format("table 3"),
        notes=("precision and recall as printed are of 1,000 real images",),
    ),
    Protocol(
        name="sit-xl2-256-cfg1.5-ode",
        model="SiT-XL/2",
        settings=USUAL.but(
            scheduler="FlowODEScheduler",
            scheduler_options={"method": "heun", "sample_eps": None},
            steps=125,
        ),  # Heun calls the model twice in each
        prediction="velocity",
        published={"fid": 2.15, "sfid": 4.60, "is": 258.09, "precision": 0.81, "recall": 0.60},
        source=f"{SIT}; willisma/SiT issue 18 (125 steps)",
        unverified=(SIT_DECODER,),
        notes=("the repository's own default is dopri5, not Heun",),
    ),
    Protocol(
        name="sit-xl2-256-cfg1.5-sde",
        model="SiT-XL/2",
        settings=USUAL.but(scheduler="FlowSDEScheduler", scheduler_options=EULER_MARUYAMA),
        prediction="velocity",
        published={"fid": 2.06, "sfid": 4.49, "is": 277.50, "precision": 0.83, "recall": 0.59},
        source=SIT,
        unverified=(
            SIT_DECODER,
            "the diffusion coefficient: table 7 does not say, sigma is the repository's default, "
            "and section 3.2 calls w_KL,eta the best for this model",
        ),
        notes=("the README prints an Inception Score of 270.27",),
    ),
    Protocol(
        name="repa-sit-xl2-256-cfg1.8",
        model="SiT-XL/2",
        settings=USUAL.but(
            scheduler="FlowSDEScheduler",
            scheduler_options=EULER_MARUYAMA,
            guidance=1.8,
            guidance_interval=(0.0, 0.7),
        ),
        prediction="velocity",
        guided_channels=None,
        pixels=CUT_OFF,
        published={"fid": 1.42, "sfid": 4.70, "is": 305.7, "precision": 0.80, "recall": 0.65},
        source="arXiv 2410.06940; sihyun-yu/REPA, README.md, generate.py and samplers.py",
        unverified=("the numbers: taken from the table in LightningDiT's README",),
    ),
    Protocol(
        name="dico-xl-256-cfg1.4",
        model="DiCo-XL",
        settings=USUAL.but(guidance=1.4),
        seed=1234,
        published={"fid": 2.05, "is": 282.17, "precision": 0.83, "recall": 0.59},
        source=DICO.format("tables 1 and 7"),
    ),
    Protocol(
        name="dico-xl-256-400k",
        model="DiCo-XL",
        settings=USUAL.but(guidance=1.0),
        seed=1234,
        published={"fid": 11.67, "sfid": 5.38, "is": 100.42, "precision": 0.71, "recall": 0.61},
        source=DICO.format("tables 1, 7 and 8"),
    ),
    Protocol(
        name="dic-xl-256-400k",
        model="DiC-XL",
        settings=USUAL.but(guidance=1.0),
        published={"fid": 13.11, "is": 100.15},
        source=DIC,
        unverified=("DiC's own paper was not at hand",),
    ),
    Protocol(
        name="dic-h-256-cfg1.5",
        model="DiC-H",
        published={"fid": 2.25},
        source=DIC,
        unverified=(
            "DiC's own paper was not at hand",
            "the guidance scale: 1.5 is the repository's default",
        ),
    ),
    Protocol(
        name="mdtv2-xl2-256-cfg3.8",
        model="MDTv2-XL/2",
        settings=USUAL.but(guidance=3.8),
        guidance_schedule="power-cosine",
        guidance_power=4.0,
        pixels=CUT_OFF,
        published={"fid": 1.58, "sfid": 4.52, "is": 314.73, "precision": 0.79, "recall": 0.65},
        source=f"arXiv 2303.14389; {MDT_RULE}",
        unverified=(
            "sFID, precision and recall: taken from the table in LightningDiT's README",
            "which decoder of the VAE: ft-EMA is the repository's default",
        ),
    ),
    halton("T", 256, 2.5, 10.2, 185),
    halton("S", 256, 2.0, 6.40, 255),
    halton("B", 256, 1.7, 4.17, 263),
    halton("S", 384, 2.0, 6.11, 241),
    halton("B", 384, 1.7, 4.15, 257),
    halton("L", 384, 1.5, 2.59, 281),
)
PROTOCOLS: dict[str, Protocol] = {entry.name: entry for entry in _ENTRIES}


def find_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        UsageError: no protocol has that name; the message names the nearest.
    """
    if name not in PROTOCOLS:
        begun = next((known for known in PROTOCOLS if known.startswith(name)), None)
        close = begun or nearest(name, PROTOCOLS)
        hint = f" Did you mean {close}?" if close else ""
        raise UsageError(f"there is no protocol {name!r}.{hint} Known: {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
