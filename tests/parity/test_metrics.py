"""Distances and scores of features: torch-fidelity 0.4.0, ADM's evaluator (openai/guided-diffusion,
evaluations/evaluator.py), and what the latter returned under TensorFlow."""

import importlib.util

import numpy as np
import pytest
import torch
from reference import load_reference, reference_path

from gensynth.metrics import (
    Statistics,
    frechet_distance,
    inception_score,
    inception_score_in_order,
    kernel_distance,
    nearest,
    polynomial,
    precision_recall,
    rbf,
)
from gensynth.metrics.extractors.inception_features import inception_shapes
from gensynth.metrics.manifold import squared_radii


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    moments = [Statistics.of(rows) for rows in (one, other)]
    return frechet_distance(*(part for m in moments for part in (m.mean, m.covariance)))


def near(reference, name: str):
    """The stored number or numbers, within the stored tolerance."""
    return pytest.approx(reference.output[name].tolist(), rel=reference.rtol, abs=reference.atol)


@pytest.fixture(scope="module")
def fidelity():
    return load_reference("metrics/torch_fidelity.safetensors")


def test_moments(fidelity):
    found = Statistics.of(fidelity.input["real"])
    fidelity.check("mu_real", found.mean)
    fidelity.check("sigma_real", found.covariance)


def test_frechet(fidelity):
    x = fidelity.input
    assert distance(x["real"], x["fake"]) == near(fidelity, "fid")


@pytest.mark.parametrize("run", range(4))
def test_kernel(fidelity, run):
    config, x = fidelity.config["kid_runs"][run], fidelity.input
    if config.get("kid_kernel") == "rbf":
        kernel = rbf(config["kid_kernel_rbf_sigma"])
    else:
        names = ("degree", "gamma", "coef0")
        given = {name: config.get(f"kid_kernel_poly_{name}") for name in names}
        kernel = polynomial(**{name: value for name, value in given.items() if value is not None})
    found = kernel_distance(
        x["real"],
        x["fake"],
        subsets=config["kid_subsets"],
        subset_size=config["kid_subset_size"],
        seed=config.get("rng_seed", fidelity.config["defaults"]["rng_seed"]),
        kernel=kernel,
    )
    assert list(found) == near(fidelity, f"kid{run}")


@pytest.mark.parametrize("run", range(3))
def test_inception_score(fidelity, run):
    config = fidelity.config["isc_runs"][run]
    seed = config["rng_seed"] if config["samples_shuffle"] else None
    found = inception_score(fidelity.input["logits"], config["isc_splits"], seed=seed)
    assert list(found) == near(fidelity, f"isc{run}")


@pytest.mark.parametrize("k", [3, 5])
def test_precision_and_recall(fidelity, k):
    x = fidelity.input
    precision, recall = precision_recall(x["real"], x["fake"], k)
    found = [precision, recall, 2 * precision * recall / (precision + recall)]
    for variant in ("", "_part"):
        stored = fidelity.output[f"prc{k}{variant}"].tolist()
        assert [np.float32(share) for share in found[:2]] == stored[:2]  # fractions in float32
        assert found[2] == pytest.approx(stored[2], rel=2**-22)


@pytest.fixture(scope="module")
def adm():
    return load_reference("metrics/adm.safetensors")


def test_frechet_of_adm(adm):
    x = adm.input
    assert distance(x["sample"], x["ref"]) == near(adm, "fid")


def test_frechet_of_adm_with_fewer_images_than_features(adm):
    """What its evaluator returns, with scipy 1.17's `sqrtm`, to the stated tolerance.

    One covariance has half the rank and the other all of it, where `sqrtm` keeps eight digits.
    Where both lack rank it is wrong in the fifth, so there tests/metrics/test_frechet.py compares
    with singular values of the features instead.
    """
    few = adm.input["ref"][: adm.input["ref"].shape[1] // 2]
    assert distance(adm.input["sample"], few) == near(adm, "fid_rank_deficient")


def test_inception_score_of_adm(adm):
    logits = adm.input["sample"] @ adm.input["softmax_weight"]
    found = inception_score_in_order(logits, adm.config["is_split_size"])
    assert found == near(adm, "inception_score")
    assert inception_score_in_order(logits, 100) == near(adm, "inception_score_split100")


def test_radii_and_neighbours_of_adm(adm):
    x = adm.input
    adm.check("radii_ref_single", squared_radii("real", x["ref"], adm.config["k"]))
    _, numbers = nearest(x["sample"], x["ref"])
    assert torch.equal(numbers[:, 0], adm.output["nearest_single"])


def test_precision_and_recall_of_adm(adm):
    """Exactly those of its single precision."""
    found = precision_recall(adm.input["ref"], adm.input["sample"], adm.config["k"])
    assert list(found) == adm.output["prec_recall_single"].tolist()
    assert found[0] == adm.output["evaluate_fraction_single"].item()


def test_half_precision_of_adm(adm):
    """Its evaluator rounds norms and products to half precision; ours are exact.

    Distances differ by roundings of the norms, and the shares by a sample or two.
    """
    real, sample = adm.input["ref"], adm.input["sample"]
    radii = squared_radii("real", real, adm.config["k"])
    ulp = 2**-10 * real.double().square().sum(1).max()
    assert (radii - adm.output["radii_ref_half"]).abs().max() < ulp
    precision, recall = precision_recall(real, sample, adm.config["k"])
    half = adm.output["prec_recall_half"].tolist()
    assert round(len(sample) * abs(precision - half[0])) <= 2
    assert round(len(real) * abs(recall - half[1])) <= 2


@pytest.fixture(scope="module")
def tensorflow():
    """What ADM's unmodified evaluator returned for the features of its recipe, and these."""
    folder = reference_path("metrics/adm_tensorflow")
    spec = importlib.util.spec_from_file_location("recipe", folder / "recipe.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    with np.load(folder / "golden.npz") as golden:
        output = dict(golden)
    return recipe.features(**recipe.REF), recipe.features(**recipe.GEN), output, recipe


def test_frechet_under_tensorflow(tensorflow):
    real, fake, output, _ = tensorflow
    np.testing.assert_allclose((real**2).sum(1).mean(), output["norm2_mean"], rtol=1e-5)
    assert distance(fake, real) == pytest.approx(float(output["fid"]), rel=1e-6)


def test_inception_score_under_tensorflow(tensorflow):
    _, fake, output, recipe = tensorflow
    logits = fake @ recipe.weights(inception_shapes())["fc.weight"].T
    for size, name in ((5000, "is_gen_5000"), (480, "is_gen_split480")):
        found = inception_score_in_order(logits, size)
        assert found == pytest.approx(float(output[name]), rel=1e-5)


def test_precision_and_recall_under_tensorflow(tensorflow):
    """Exactly those of plain numpy; TensorFlow's half precision counts a few more as inside."""
    real, fake = (part.astype(np.float64) for part in tensorflow[:2])
    output = tensorflow[2]

    def squared(one, other):
        return (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T

    radii = [np.partition(squared(rows, rows), 3, axis=1)[:, 3] for rows in (real, fake)]
    between = squared(real, fake)
    inside = (between <= radii[0][:, None]).any(0).mean(), (between <= radii[1]).any(1).mean()
    precision, recall = precision_recall(*tensorflow[:2])
    assert (precision, recall) == inside
    assert 0 < float(output["precision_fp16"]) - precision < 0.03
    assert 0 < float(output["recall_fp16"]) - recall < 0.03
