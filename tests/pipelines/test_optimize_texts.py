"""Tables of modulations for models of texts."""

import pytest
import torch
from optimized import TEXT, text_model, tiny_model

from gensynth.errors import UsageError
from gensynth.pipelines.acceleration import optimize as optimizing
from gensynth.pipelines.acceleration.step_tables import Modulations
from gensynth.pipelines.model_call import asked, with_rows


def some(conditions, *numbers: int) -> dict[str, torch.Tensor]:
    """Some rows of conditions."""
    return {name: tensor[list(numbers)] for name, tensor in conditions.items()}


OWN_TEXT = {"width": 8, "pooled_width": 8, "encoder": {"vocab_size": 9, "layers": 1, "heads": 2}}


@torch.inference_mode()
@pytest.mark.parametrize(
    "name, changes",
    [
        *((name, {}) for name in ("DiCo", "DiC", "DiT", "MDTv2", "MaskGIT")),
        *((name, OWN_TEXT) for name in ("DiCo", "MaskGIT")),
        ("DiC", {"cross": False}),
        ("MDTv2", {"pooled_width": 0}),
    ],
)
def test_texts_go_along(name, changes):
    """The summary is in the table, the words are looked at; those of the pictures and of none."""
    model, text = text_model(name, **changes), {**TEXT, **changes}
    optimized = optimizing.OptimizedModel(model, tables=True, graphs=False)
    generator = torch.Generator().manual_seed(0)
    if text["encoder"] is not None:
        ids = torch.tensor([[1, 4, 5, 3], [1, 6, 3, 0], [1, 3, 0, 0]])
        told = {"input_ids": ids, "attention_mask": ids > 0}
    else:
        told = {
            "encoder_hidden_states": torch.randn(3, 4, text["width"], generator=generator),
            "encoder_attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]) > 0,
            "pooled_projections": torch.randn(3, text["pooled_width"], generator=generator),
        }
    walk, none = with_rows(some(told, 0, 1), some(told, 2))
    products = [0]
    for layer in Modulations(model).layers:
        layer.register_forward_hook(lambda *_: products.__setitem__(0, products[0] + 1))
    ask = optimized.at([100.0, 200.0], walk, none)
    before = products[0]
    sample = torch.randn(2, 4, 16, 16, generator=generator)
    if name == "MaskGIT":
        sample = torch.randint(31, (2, 16, 16), generator=generator)
    for conditions in (
        walk,
        some(walk, 1, 0),
        {n: t.expand(2, *t.shape[1:]) for n, t in none.items()},
    ):
        time = torch.tensor([200.0, 200.0])
        found = ask(sample, time, conditions)
        assert products[0] == before
        expected = asked(model, sample, time, conditions)
        before = products[0]
        torch.testing.assert_close(found, expected)


def test_a_modulation_for_all_blocks_has_no_table():
    model = tiny_model("DiT", text={**TEXT, "pooled_width": 0}, shared_modulation=True)
    assert optimizing.use_tables(model, None) == (
        False,
        "no tables of modulations: the blocks of the model share one modulation, which is computed "
        "once a step anyway",
    )
    with pytest.raises(UsageError, match="tables cannot be True: the blocks of the model share"):
        optimizing.use_tables(model, True)
