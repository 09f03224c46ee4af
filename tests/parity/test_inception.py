"""Inception features are those of torch-fidelity, and of TensorFlow with ADM's evaluator."""

import hashlib
import importlib.util
from types import ModuleType

import numpy as np
import pytest
import torch
from reference import Reference, load_reference, reference_path
from safetensors import safe_open

from gensynth.metrics.extractors import open_extractor
from gensynth.metrics.extractors.inception_features import (
    InceptionFeatures,
    inception_shapes,
    random_inception,
)
from gensynth.metrics.extractors.resize import tf1_bilinear
from gensynth.metrics.extractors.weights import Weights

FILE = "metrics/inception.safetensors"


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference(FILE)


@pytest.fixture(scope="module")
def inception(reference):
    return open_extractor(f"random-inception-{reference.config['seed']}")


def test_names_and_shapes(inception):
    with safe_open(reference_path(FILE), "pt") as file:
        meta = file.metadata()
    state = inception.network.state_dict()
    lines = (f"{name}:{'x'.join(map(str, tensor.shape))}" for name, tensor in state.items())
    digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    assert len(state) == int(meta["state_keys_count"])
    assert digest == meta["state_keys_sha256"]


def test_the_recipe_gives_the_same_weights(reference):
    with safe_open(reference_path(FILE), "pt") as file:
        first, sums = file.get_tensor("check.first4"), file.get_tensor("check.sum")
    tensors = random_inception(reference.config["seed"]).tensors
    assert list(tensors) == sorted(tensors) and len(tensors) == len(sums)
    for row, tensor in enumerate(tensors.values()):
        assert torch.equal(tensor.flatten()[:4], first[row])
        torch.testing.assert_close(tensor.double().sum(), sums[row], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("number", [0, 1])
def test_features_of_torch_fidelity(reference, inception, number):
    network, stages = inception.network, {}
    # What the network pools before these modules is torch-fidelity's feature of that name.
    taps = {"64": network.Conv2d_3b_1x1, "192": network.Mixed_5b, "768": network.Mixed_7a}
    handles = [
        module.register_forward_pre_hook(
            lambda module, inputs, name=name: stages.update({name: inputs[0].mean(dim=(2, 3))})
        )
        for name, module in taps.items()
    ]
    features = inception(reference.input[f"image{number}"])
    for handle in handles:
        handle.remove()
    stages |= {"2048": features["pool"], "logits_unbiased": features["logits"]}
    stages["logits"] = features["logits"] + network.fc.bias
    assert set(stages) == set(reference.config["features"])
    for name, value in stages.items():
        reference.check(f"{name}.{number}", value)


def test_resize():
    reference = load_reference("metrics/resize_tf1.safetensors")
    image = reference.input["image"].float()
    reference.check("resized", tf1_bilinear(image, tuple(reference.config["size"])))
    reference.check("to299_crop", tf1_bilinear(image, (299, 299))[..., ::7, ::7])


def load_recipe() -> ModuleType:
    path = reference_path("metrics/adm_tensorflow/recipe.py")
    spec = importlib.util.spec_from_file_location("adm_recipe", path)
    assert spec is not None and spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    return recipe


@pytest.fixture(scope="module")
def tensorflow():
    """Features of the recipe's images, ours and those that ADM's graph gave under TensorFlow."""
    recipe = load_recipe()
    arrays = recipe.weights({name: tuple(shape) for name, shape in inception_shapes().items()})
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    extractor = InceptionFeatures("adm", Weights(tensors, "", False))
    batches = [
        extractor(torch.from_numpy(recipe.image(size)).permute(2, 0, 1)[None])
        for size in recipe.SIZES
    ]
    ours = {name: torch.cat([batch[name] for batch in batches]) for name in extractor.dims}
    return ours, np.load(reference_path("metrics/adm_tensorflow/golden.npz"), allow_pickle=False)


def distance(ours: torch.Tensor, theirs: np.ndarray) -> float:
    expected = torch.from_numpy(theirs)
    return float((ours - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", ["pool", "spatial", "logits"])
def test_features_of_tensorflow(tensorflow, name):
    ours, golden = tensorflow
    assert ours[name].shape == golden[name].shape
    assert distance(ours[name], golden[name]) < 1e-5
    worst = np.abs(ours[name].numpy() - golden[name]).max()
    assert worst < 1e-4 * np.abs(golden[name]).max()


def test_spatial_features_channel_by_channel_are_others(tensorflow):
    """The order that PyTorch's layout suggests, and that made others' sFID wrong."""
    ours, golden = tensorflow
    by_channel = ours["spatial"].unflatten(1, (17, 17, 7)).permute(0, 3, 1, 2).flatten(1)
    assert distance(by_channel, golden["spatial"]) > 0.1
