"""While tokens are decided, the host never waits for the device."""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from gensynth.samplers.registry import create_scheduler

every_decoder = pytest.mark.parametrize("decoder", ["HaltonDecoder", "ConfidenceDecoder"])


class OnDevice(TorchFunctionMode):
    """Follows what is computed from a model's weights, and notes where the host looks at it.

    On a GPU all of this is there, and the host would wait for it.
    """

    LOOKS = {"__bool__", "__int__", "__float__", "__index__", "item", "tolist", "cpu", "numpy"} | {
        *("nonzero", "equal", "allclose", "masked_select", "unique", "argwhere")
    }

    def __init__(self, *models):
        super().__init__()
        self.there, self.looks, self.active = WeakIdKeyDictionary(), [], True
        for model in models:
            for tensor in model.state_dict(keep_vars=True).values():
                self.there[tensor] = True

    def __torch_function__(self, func, types, args=(), kwargs=None):
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        result = func(*args, **(kwargs or {}))
        if any(tensor in self.there for tensor in given):
            name = getattr(func, "__name__", "")
            items = name in ("__getitem__", "__setitem__")
            masks = items and any(tensor.dtype == torch.bool for tensor in given[1:])
            if self.active and (name in self.LOOKS or masks):
                self.looks.append(name)
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    self.there[leaf] = True
        return result


def test_looks_of_the_host_are_noticed(make_token_model):
    model = make_token_model()
    with OnDevice(model) as watch, torch.inference_mode():
        logits = model(
            torch.zeros(1, 8, 8, dtype=torch.long), torch.tensor([1]), torch.tensor([False])
        )
        masked = logits.argmax(dim=-1) == 3
        torch.arange(3).tolist()  # on the CPU
        assert watch.looks == []
        for look in (lambda: bool(masked.any()), lambda: int(masked.sum()), lambda: logits[masked]):
            look()
    assert watch.looks == ["__bool__", "__int__", "__getitem__"]


@pytest.mark.parametrize("schedule", ["constant", "linear"])
@pytest.mark.parametrize("guided_by", ["null label", "guide"])
@every_decoder
def test_no_step_waits_for_the_device(make_pipeline, schedule, guided_by, decoder):
    draw = make_pipeline("tokens", steps=5, guidance=2.0, guidance_schedule=schedule)
    draw.scheduler = create_scheduler(decoder, "tokens", {"top_k": 4})
    guide = {"guide": make_pipeline("tokens")} if guided_by == "guide" else {}
    seen: list[tuple[torch.Tensor, ...]] = []
    draw.model.register_forward_pre_hook(lambda module, given: seen.append(given))

    def finish(progress):
        assert progress.step == 5 or watch.active
        watch.active = progress.step < 5

    with OnDevice(draw.model) as watch:
        draw([1, 2], [1, 2], on_step=finish, **guide)
    assert watch.looks == []
    assert len(seen) == 5 and not watch.active
    assert all(tokens in watch.there for tokens, *_ in seen[1:])  # the decoder's are followed


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_decoder
def test_no_step_waits_for_a_gpu(make_pipeline, decoder):
    draw = make_pipeline("tokens", steps=5, guidance=2.0, guidance_schedule="linear").to("cuda")

    def watch(progress):
        torch.cuda.set_sync_debug_mode("error" if progress.step < 5 else "default")

    try:
        draw([1, 2], [1, 2], scheduler=decoder, on_step=watch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
