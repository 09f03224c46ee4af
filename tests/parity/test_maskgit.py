"""The masked token transformer is the published function: valeoai/Halton-MaskGIT."""

import hashlib
import json

import pytest
import torch
from reference import load_reference, reference_path

from gensynth.config import Masked
from gensynth.convert import load_official
from gensynth.convert.families.maskgit import NAMES, build
from gensynth.objectives.masked import MaskedObjective


@pytest.mark.parametrize("name", ["proj1", "proj2", "noreg"])
def test_forward(name):
    reference = load_reference(f"maskgit/transformer_{name}.safetensors")
    model = load_official("maskgit", reference.state, **reference.config).eval()
    x = reference.input
    output = model(x["x"], x["y"], x["drop_label"])
    reference.check("logits", output)
    output.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


SIZES = ["tiny-16", "small-16", "base-16", "large-16", "large-24", "xlarge-16"]


@pytest.mark.parametrize("size", SIZES)
def test_names_shapes_and_counts(size):
    """Every official parameter has its place in ours, and there are no others."""
    published = json.loads(reference_path("maskgit/sizes.json").read_text())["sizes"][size]
    with torch.device("meta"):
        model = build(**published["config"])
    own = dict(model.named_parameters())
    assert sum(parameter.numel() for parameter in own.values()) == published["params_total"]
    lines = {NAMES.official(name): "x".join(map(str, p.shape)) for name, p in own.items()}
    assert all(NAMES.ours(NAMES.official(name)) == name for name in own)
    assert len(lines) == len(own) == published["tensors"]
    text = "\n".join(sorted(f"{name}:{shape}" for name, shape in lines.items()))
    assert hashlib.sha256(text.encode()).hexdigest() == published["sha256"]


def test_three_training_steps():
    """Masking, dropped labels, loss, clipping, AdamW and average as in the official trainer."""
    reference = load_reference("maskgit/train_steps.safetensors")
    config, x = reference.config, reference.input
    model = load_official("maskgit", reference.state, **config["model"]).train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config["lr"],
        betas=tuple(config["betas"]),
        weight_decay=config["weight_decay"],
        eps=config["eps"],
    )
    settings = Masked(
        name="masked", schedule=config["sched_mode"], label_dropout=config["drop_label"]
    )
    null = {"class_labels": torch.tensor([model.config.num_classes])}
    objective = MaskedObjective(settings, config["model"]["codebook_size"], null)
    average = [parameter.detach().clone() for parameter in model.parameters()]
    for step in range(3):
        draws = Replayed([x["rand_r"][step], x["rand_mask"][step], x["rand_drop"][step]])
        rate = config["lr"] * (config["first_iter"] + step) / config["warm_up"]
        assert rate == pytest.approx(float(reference.output["lr"][step]))
        optimizer.param_groups[0]["lr"] = rate
        loss = objective.loss(model, x["code"][step], {"class_labels": x["y"][step]}, draws)
        torch.testing.assert_close(
            loss.total, reference.output["loss"][step], atol=reference.atol, rtol=reference.rtol
        )
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config["grad_clip"])
        optimizer.step()
        optimizer.zero_grad()
        torch._foreach_lerp_(average, list(model.parameters()), 1 - config["ema_decay"])
    own = dict(model.named_parameters())
    averages = dict(zip(own, average, strict=True))
    for name in reference.output:
        kind, _, official = name.partition(".")
        if kind in ("after", "ema"):
            ours = NAMES.ours("tok_emb.weight" if official == "head.weight" else official)
            actual = (own if kind == "after" else averages)[ours]
            reference.check(name, actual.detach())


class Replayed:
    """Stored uniform numbers in the order in which the objective asks for them."""

    rows = slice(None)

    def __init__(self, numbers):
        self.numbers = iter(numbers)

    def all_rows(self):
        return self

    def uniform(self, *shape):
        return next(self.numbers)
