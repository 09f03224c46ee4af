"""How far networks look, against their gradients."""

import pytest
import torch
from tiny_codecs import convolutional_dc, made, plain_tiny, taesd
from torch import nn

from gensynth.autoencoders import open_autoencoder
from gensynth.autoencoders.tiling import default_tiles
from gensynth.autoencoders.tiling.chain import segments
from gensynth.autoencoders.tiling.codecs import decoder_of, encoder_of
from gensynth.autoencoders.tiling.field import Step, needs, steps_of


def alive(network: nn.Module) -> nn.Module:
    """With weights that let everything through, so that no gradient is lost."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


def seen(network, source: torch.Tensor, rows: slice) -> tuple[int, int]:
    """Rows of the input that rows of the output depend on, from the first to behind the last."""
    source = source.clone().requires_grad_()
    network(source)[..., rows, :].double().sum().backward()
    found = source.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    return int(found.min()), int(found.max()) + 1


networks = pytest.mark.parametrize("create", [plain_tiny, taesd, convolutional_dc])


@networks
def test_a_decoder_looks_as_far_as_its_gradients_say(create):
    codec = made(create)
    steps = [step for stage in decoder_of(codec) for step in stage.steps]
    rows = slice(24 * codec.patch, 25 * codec.patch)  # of the latent row in the middle
    assert seen(alive(codec.decoder), torch.ones(1, 4, 49, 3), rows) == needs(
        steps, (rows.start, rows.stop)
    )


@networks
def test_an_encoder_looks_no_further_than_it_says(create):
    codec = made(create)
    steps = [step for stage in encoder_of(codec) for step in stage.steps]
    low, high = needs(steps, (24, 25))
    found = seen(alive(codec.encoder), torch.ones(1, 3, 49 * codec.patch, 8), slice(24, 25))
    # Not equal: where resolution is lost, windows are cut between two positions of the output.
    assert low <= found[0] < low + 2 * codec.patch
    assert high - 2 * codec.patch < found[1] <= high


def test_taef2_looks_nineteen_latent_rows_far():
    # by hand: 10 convolutions at the latents' resolution, 10 at each of the next two, 5 at pixels
    assert 10 + 10 / 2 + 10 / 4 + 5 / 8 == 18.125
    codec = open_autoencoder("taef2", "kl")
    (segment,) = segments(decoder_of(codec), 1)
    assert segment.reach() == 19
    tiles = default_tiles(codec)
    assert tiles.overlap >= 19 and tiles.side == 64


@pytest.mark.parametrize(
    ("layer", "window", "expected"),
    [
        (nn.Conv2d(1, 1, 5, padding=2), (3, 4), (1, 6)),
        (nn.Conv2d(1, 1, 3, padding=2, dilation=2), (3, 4), (1, 6)),
        (nn.Conv2d(1, 1, 3, stride=2, padding=1), (3, 4), (4, 10)),  # 5 to 8, and even
        (nn.Conv2d(1, 1, 1), (3, 4), (3, 4)),
        (nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 3)), (4, 6), (1, 4)),
    ],
)
def test_windows_by_hand(layer, window, expected):
    assert needs(steps_of(layer), window) == expected


def test_steps_are_taken_from_the_last():
    assert needs([Step(1), Step(up=4), Step(2)], (8, 12)) == (0, 5)  # 6..14 -> 1..4 -> 0..5
