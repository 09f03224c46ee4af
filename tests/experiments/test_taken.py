"""What a model takes over of another one, by its kind and size."""

import pytest
import torch
from torch import nn

from gensynth import create_model
from gensynth.experiments.beginning.taken import table, take_over

SMALL = {"hidden_size": 32, "num_heads": 2, "num_classes": 3}
KINDS = {
    "maskgit": ("MaskGIT-nano", {**SMALL, "depth": 1, "codebook_size": 30}),
    "mdt": ("MDTv2-nano/2", {**SMALL, "depth": 3, "decode_layer": 1, "mask_ratio": None}),
    "dit": ("DiT-nano/2", {**SMALL, "depth": 1}),
}


def model_of(kind, size, seed):
    name, keywords = KINDS[kind]
    model = create_model(name, **keywords, input_size=size)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "token_positions.table" not in name or kind == "mdt":
            weight.data = torch.randn(weight.shape, generator=generator)
    return model.eval()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("maskgit", ["positions"]),
        ("mdt", ["token_positions.table", "decoder_positions.table", "side.mixer.bias_table"]),
    ],
)
def test_learned_positions_of_another_grid_are_interpolated(kind, names):
    """As the model itself does where it draws at another size: the outputs are the same."""
    small, large = model_of(kind, 8, 0), model_of(kind, 16, 1)
    taken = take_over(large, small, (), {})
    assert set(names) <= taken.resampled.keys() and not taken.anew
    if kind == "maskgit":
        inputs = (torch.arange(256).reshape(1, 16, 16) % 31, torch.tensor([1]))
    else:
        sample = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2))
        inputs = (sample, torch.tensor([3.0]), torch.tensor([1]))
    torch.testing.assert_close(large(*inputs), small(*inputs), atol=1e-4, rtol=1e-4)


def test_as_many_places_in_another_shape_are_not_the_same_places():
    """4 x 16 tokens are 8 x 8 in number."""
    square, wide = model_of("maskgit", [8, 8], 0), model_of("maskgit", [4, 16], 1)
    before = square.positions.detach().clone()
    assert "positions" in take_over(wide, square, (), {}).resampled
    assert not torch.equal(wide.positions, before)


def test_positions_that_nobody_learned_are_computed():
    small, large = model_of("dit", 8, 0), model_of("dit", 16, 1)
    before = large.token_positions.table.detach().clone()
    taken = take_over(large, small, (), {})
    assert list(taken.computed) == ["token_positions.table"]
    assert torch.equal(large.token_positions.table, before)


class Told(nn.Module):
    def __init__(self, **parts: nn.Module):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def test_text_in_place_of_classes_is_said_by_part():
    """A part that only one of both has: left behind, or drawn anew."""
    classes = Told(stem=nn.Linear(2, 3), class_embedder=nn.Embedding(4, 3))
    text = Told(stem=nn.Linear(2, 3), text=nn.Linear(5, 3))
    taken = take_over(text, classes, ("class_embedder.",), {})
    assert torch.equal(text.stem.weight, classes.stem.weight)
    lines = table(taken, list(text.state_dict()), [], {})
    assert [" ".join(line.split()) for line in lines] == [
        "part taken over drawn anew why",
        "stem 2 tensors -",
        "text - 2 tensors not in that model",
        "class_embedder left behind - 1 tensor that this model has not",
    ]
