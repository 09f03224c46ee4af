"""Which widths of DiC there are: those whose norms and halvings come out even, as published."""

import pytest
import torch
from torch import nn

from gensynth.models.dic import DiC

DEPTH = [2, 1, 1, 1, 2]


def published_layers_exist(width: int) -> bool:
    """Whether each layer of dic_models.py can be called, one by one; to be asked on "meta"."""
    try:
        for channels, inner in ((width, 2 * width), (2 * width, 4 * width)):
            if inner < 4:
                return False
            conv = nn.Conv2d(channels, inner // 4, 3, padding=1)
            halved = nn.PixelUnshuffle(2)(conv(torch.zeros(1, channels, 2, 2)))
            nn.Conv2d(inner, inner, 3, padding=1)(halved)
        for channels in (width, 2 * width, 4 * width):
            image = torch.zeros(1, channels, 2, 2)
            nn.functional.group_norm(image, min(32, channels // 4))
    except (RuntimeError, ValueError, ZeroDivisionError):
        return False
    return True


def test_the_widths_are_the_published_ones_and_all_of_them_run():
    taken = []
    with torch.device("meta"):
        sample, time = torch.empty(1, 4, 8, 8), torch.empty(1)
        for width in range(1, 150):
            try:
                model = DiC(hidden_size=width, depth=DEPTH, num_classes=3)
            except ValueError as error:
                assert f"hidden_size {width} is not possible" in str(error)
                continue
            assert model(sample, time).shape == (1, 8, 8, 8)
            taken.append(width)
        published = [width for width in range(1, 150) if published_layers_exist(width)]
    assert taken == published
    assert taken == [4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128]


@pytest.mark.parametrize(
    ("width", "nearest"),
    [(1, "4"), (5, "4 or 6"), (14, "12 or 16"), (72, "64 or 80"), (100, "96 or 112")],
)
def test_a_refusal_names_widths_that_work(width, nearest):
    with pytest.raises(ValueError, match=f"hidden_size {width} is not possible.*{nearest}.$"):
        DiC(hidden_size=width, depth=DEPTH)
    for word in nearest.split(" or "):
        DiC(hidden_size=int(word), depth=DEPTH, num_classes=2)


def test_a_level_without_blocks_has_no_norm():
    model = DiC(hidden_size=36, depth=[1, 0, 0, 0, 1], num_classes=2)  # 4 * 36 is no 32 groups
    assert model(torch.zeros(1, 4, 4, 4), torch.zeros(1)).shape == (1, 8, 4, 4)
    with pytest.raises(ValueError, match="Nearest: 32 or 40"):
        DiC(hidden_size=36, depth=[1, 0, 1, 0, 1], num_classes=2)


@pytest.mark.parametrize("width", [True, 0, -8, 8.0, "8", None])
def test_what_is_no_width_is_refused(width):
    with pytest.raises(ValueError, match="hidden_size must be a whole number from 1"):
        DiC(hidden_size=width, depth=DEPTH)


@pytest.mark.parametrize("width", [6, 10, 20])
def test_a_block_of_another_width_is_the_published_function(width):
    torch.manual_seed(0)
    model = DiC(hidden_size=width, depth=DEPTH, num_classes=2)
    block = model.levels[4][0]  # takes a skip: 2 C channels
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    sample, condition = torch.randn(2, 2 * width, 8, 8), torch.randn(2, width)

    def norm(layer, image):
        groups = min(32, image.shape[1] // 4)
        image = image.unflatten(1, (groups, -1))
        mean = image.mean((2, 3, 4), keepdim=True)
        variance = image.var((2, 3, 4), keepdim=True, unbiased=False)
        image = ((image - mean) / (variance + 1e-5).sqrt()).flatten(1, 2)
        return image * layer.weight[:, None, None] + layer.bias[:, None, None]

    gate, scale, shift = block.modulation(condition)[..., None, None].chunk(3, dim=1)
    hidden = block.conv_in(nn.functional.gelu(norm(block.norm_in, sample)))
    hidden = nn.functional.gelu(norm(block.norm_out, hidden) * (1 + scale) + shift)
    expected = gate * block.conv_out(hidden) + block.shortcut(sample)
    torch.testing.assert_close(block(sample, condition), expected, atol=2e-5, rtol=1e-4)
