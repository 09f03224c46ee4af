"""EDM2's power-function averages and their reconstruction; no weights are needed."""

from functools import partial

import numpy as np
import pytest
import torch
from reference import load_reference
from torch import nn

from gensynth.config import EMA
from gensynth.training.averages.ema import Average, WeightAverage
from gensynth.training.averages.posthoc import (
    coefficients,
    correlation,
    exponent_to_std,
    halflife_beta,
    power_beta,
    response,
    std_to_exponent,
)


@pytest.fixture(scope="module")
def reference():
    return load_reference("edm2/power_ema.safetensors")


def given(reference, *names):
    return [reference.input[name].numpy() for name in names]


def check(reference, name, actual):
    reference.check(name, torch.as_tensor(actual))


def test_exponents(reference):
    exponents, stds = given(reference, "exps", "stds")
    check(reference, "exp_to_std_of_exps", exponent_to_std(exponents))
    check(reference, "std_to_exp", std_to_exponent(stds))
    check(reference, "exp_to_std", exponent_to_std(std_to_exponent(stds)))


def test_betas(reference):
    stds = np.array(reference.config["stds"])[:, None]
    steps, images = given(reference, "t_next", "t_next_img")
    check(reference, "beta_delta1", power_beta(stds, steps))
    check(reference, "beta_batch2048", power_beta(stds, images, 2048))


def test_response(reference):
    # The file does not name these; its curves end at 20 and 32.
    check(reference, "response", response([20, 32], [0.10, 0.05], 40))


def test_coefficients(reference):
    t, std, out_t, out_std = given(reference, "snapshot_t", "snapshot_std", "out_t", "out_std")
    check(reference, "correlation", correlation(t[:, None], std[:, None], t, std))
    check(reference, "coefficients", coefficients(t, std, out_t, out_std))


def tracked(reference, stds):
    """The averages after each of the reference's steps: [step, std]."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, reference.input["start"].item())
    average = WeightAverage(model, EMA(decay=None, stds=stds))
    rows = []
    for value in reference.input["values"]:
        nn.init.constant_(model.weight, value.item())
        average.update()
        rows.append(torch.stack([power.tensors[0].flatten()[0] for power in average.powers]))
    return torch.stack(rows)


def test_tracked_averages(reference):
    check(reference, "ema", tracked(reference, reference.config["stds"]))
    wanted = reference.input["out_std"].tolist()
    check(reference, "tracked_directly", tracked(reference, wanted)[-1])


def test_reconstruction(reference):
    t, std, out_t, out_std = given(reference, "snapshot_t", "snapshot_std", "out_t", "out_std")
    rows = tracked(reference, reference.config["stds"])
    column = [reference.config["stds"].index(value) for value in std]
    snapshots = rows[torch.as_tensor(t) - 1, column].double().numpy()
    check(reference, "reconstructed", snapshots @ coefficients(t, std, out_t, out_std))


def test_traditional_average(reference):
    config = reference.config["traditional"]
    length = config["halflife_Mimg"] * 1e6  # in images, of which a step takes one
    beta = partial(halflife_beta, length, ramp=config["rampup_ratio"])
    average = Average("classic", beta, [reference.input["start"].clone()])
    rows = []
    for number, value in enumerate(reference.input["values"], 1):
        average.update([value], number)
        rows.append(average.tensors[0].clone())
    check(reference, "traditional_ema", torch.stack(rows))
