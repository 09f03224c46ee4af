"""What is drawn, edited, trained and measured: the options of the commands, in words."""

import re
from collections.abc import Iterator
from typing import Any

VELOCITY, TOKENS = MODELS = ("dico-nano-fashion", "maskgit-fashion")
# Options of `gensynth sample`; every one is drawn with each scale of guidance.
SCALES, SCALES_WITH_GUIDE = ("1", "2"), ("1.5", "2")
WAYS = {
    VELOCITY: (
        "",
        "--scheduler FlowMatchEulerDiscreteScheduler",
        "--scheduler FlowMatchHeunDiscreteScheduler",
        "--scheduler DPMSolverMultistepScheduler",
        "--scheduler UniPCMultistepScheduler",
        *(
            f"--scheduler FlowODEScheduler --option method={method}"
            for method in ("euler", "heun", "midpoint", "rk4", "heun3", "dopri5")
        ),
        "--scheduler FlowSDEScheduler --option method=euler",
        "--scheduler FlowSDEScheduler --option method=heun",
        "--scheduler FlowSDEScheduler --option form=linear --option last_step=tweedie",
        "--scheduler FlowSDEScheduler --option form=constant --option last_step=null",
        f"--guide {VELOCITY}",
        "--guidance-interval 0.2,0.7",
        "--size 48x32",
        "--size 32x64 --scheduler FlowODEScheduler",
        "--format npz",
        "--format webp",
        "--batch-size 3 --labels Bag,Sneaker",
        "--optimize",
    ),
    TOKENS: (
        "",
        "--scheduler HaltonDecoder",
        "--option roll=false",
        "--option top_k=20 --option schedule=cosine",
        "--option greedy=true",
        "--option temperature=0.8 --option warmup_steps=2 --option temperature_power=2",
        "--scheduler ConfidenceDecoder",
        "--scheduler ConfidenceDecoder --option order_noise=random",
        "--scheduler ConfidenceDecoder --option order_noise=warmup",
        "--scheduler ConfidenceDecoder --option order_noise=none --option top_k=20",
        "--scheduler ConfidenceDecoder --option as_published=true",
        f"--guide {TOKENS}",
        "--guidance-interval 0.2,0.7",
        "--size 48x32",
        "--format npz",
        "--format webp",
        "--batch-size 3 --labels Bag,Sneaker",
        "--optimize",
    ),
}
# Options of `gensynth edit`; pictures and masks lie in docs/images/edit.
EDITS = (
    "pullover.png --mask sleeve_mask.png --label Pullover --num-variants 2",
    "pullover.png --mask sleeves_mask.png --num-variants 2 --similar --guidance 1",
    "pullover.png --mask sleeves_mask.png --label T-shirt --strength 0.5 --edge 0",
    "pullover.png --mask sleeve_mask.png --label 2 --scheduler ConfidenceDecoder --num-variants 2",
    "half_sneaker.png --outpaint 28x28 --anchor left --label Sneaker --num-variants 2",
    "half_sneaker.png --outpaint 40x48 --anchor bottom-right --similar --num-variants 2",
    "tshirt.png --label T-shirt --strength 0.5 --num-variants 2",
    "tshirt.png --strength 0.3 --num-variants 2 --similar --option roll=false",
    "shoe.png --label Sneaker --strength 0.6",
)
# Options of `gensynth evaluate`; without --model, of 64 pictures that were drawn before.
EVALUATIONS = (
    "",
    "--num 48 --seed 1 --metrics frechet,kid",
    f"--model {VELOCITY} --num 32 --steps 2 --guidance 1.5",
    f"--model {TOKENS} --num 32 --steps 2 --labels random --metrics frechet",
)

# Folders under the shared data, by the hub's names.
DATA = {
    "uoft-cs/cifar10": "cifar10",
    "zh-plus/tiny-imagenet": "tiny-imagenet-45",
    "ILSVRC/imagenet-1k": "imagenet1k-sample",
}
# Overrides of every training; what objective, optimiser, averages and sampling are stays.
SMALL = (
    "training.steps=5",
    "training.batch_size=4",
    "training.log_every=1",
    "training.compile=false",  # tens of seconds
    "data.workers=0",
    "sampling.every=0",  # grids take long
)
EPSILON_WAYS = (
    "",
    "--scheduler RespacedDDIMScheduler",
    "--scheduler DPMSolverMultistepScheduler",
    "--scheduler UniPCMultistepScheduler",
    "--scheduler EulerDiscreteScheduler",
    "--scheduler EulerAncestralDiscreteScheduler",
    "--scheduler HeunDiscreteScheduler",
)
DICO = "fashion_mnist/dico_nano.yaml"
DIT = "cifar10/dit_nano.yaml"
SIT = "cifar10/sit_nano.yaml"
VQ = "fashion_mnist/vq_nano.yaml"
MASKGIT = "fashion_mnist/maskgit_nano.yaml"
# Ways to draw with the results of trainings, by experiment; the others are drawn as they say.
RUN_WAYS = {DIT: EPSILON_WAYS, DICO: ("", f"--guide {VELOCITY} --guidance 2")}
# Further trainings, for what no configuration asks for: an experiment, and overrides.
VARIANTS = (
    (DICO, "objective.path=gvp objective.prediction=x objective.weighting=velocity"),
    (DICO, "objective.path=vp objective.prediction=noise objective.weighting=likelihood"),
    (
        DICO,
        "objective.prediction=score objective.time=uniform optimizer.name=adan optimizer.betas=",
    ),
    (DICO, "training.gradient_accumulation=2 training.gradient_checkpointing=true"),
    (DICO, "ema.decay=[0.9,0.99] ema.stds=[0.05] training.mixed_precision=bf16"),
    (DICO, 'regularizers=[{"name":"repa","block":"levels.2.0","projector_dim":64}]'),
    (DICO, "checkpoint.every=5 evaluation.every=5 evaluation.num=16 sampling.steps=2"),
    (DICO, "sampling.every=5 sampling.num=4 sampling.steps=2"),
    (SIT, 'regularizers=[{"name":"dispersive","block":"blocks.2","group_size":4}]'),
    (SIT, 'regularizers=[{"name":"layersync","pairs":[["blocks.2","blocks.6"]]}]'),
    *((SIT, f"model.mixer={mixer}") for mixer in ("linear", "rala", "inline", "nala")),
    (SIT, "model.mixer=local model.window=2"),
    (SIT, "data.zoom=[1,1.5] data.streaming=true data.shuffle_buffer=8"),
    (DIT, "objective.prediction=v objective.betas=cosine objective.loss=rescaled_mse"),
    (DIT, "objective.prediction=x objective.loss=kl"),
    (DIT, "encode"),
    ("tiny_imagenet/mdtv2_nano.yaml", "model.mask_ratio=0.3"),
    (MASKGIT, "objective.schedule=cosine objective.loss_on=masked objective.label_smoothing=0.1"),
    (VQ, "objective.adversarial_start=2 objective.revive_every=2 objective.entropy=0.1"),
    (VQ, "objective.pixel=l2 objective.perceptual=0 objective.adversarial=0 sampling.every=5"),
)


def small_model(section: dict[str, Any]) -> Iterator[str]:
    """Overrides that make the model of a `model:` section the smallest of its family."""
    yield f"model.name={re.sub(r'-(?:S|XL)', '-nano', section['name'])}"
    if "hidden_size" in section:
        yield "model.hidden_size=32"
        yield "model.depth=[1,1,1,1,1]"
    if "decode_layer" in section:
        yield "model.depth=8"  # an even number more
