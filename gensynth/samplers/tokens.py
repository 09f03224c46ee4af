"""The family of token decoders, which decide some masked tokens in every step."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from gensynth.conditions import Conditions
from gensynth.samplers.contract import Meaning, Predict, Step, WholeWalks
from gensynth.samplers.token_decoders import Draws, TokenDecoder, TokenStep


class TokenSampler(WholeWalks):
    """Decoding of masked tokens; the time of a model call is the progress in [0, 1]."""

    def __init__(self, scheduler: TokenDecoder, meaning: Meaning):
        self.scheduler, self.meaning = scheduler, meaning

    def start(self, shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
        """An image of masked tokens; nothing is drawn for it."""
        count = (len(generators), *shape)
        return torch.full(count, self.meaning.mask_token, device=self.meaning.device)

    def times(self, steps: int) -> list[float]:
        return [0.0]  # the model is told nothing

    def noise_level(self, time: Tensor) -> Tensor:
        return 1 - time

    def steps_range(self, positions: int) -> tuple[int, int]:
        return 1, positions

    def adapted(self, ask: Predict) -> Predict:
        """float32 [B, codebook + 1, h, w] for tokens [B, h, w], whatever the progress."""

        def predict(tokens: Tensor, progress: Tensor, conditions: Conditions) -> Tensor:
            logits = ask(tokens, torch.zeros_like(progress), conditions)
            logits = logits.to(tokens.device, torch.float32)  # [B, h * w, codebook + 1]
            return logits.transpose(1, 2).unflatten(2, tokens.shape[1:])  # [B, K, h, w]

        return predict

    def walk(
        self,
        predict: Predict,
        sample: Tensor,
        steps: int,
        conditions: Conditions,
        generators: Sequence[torch.Generator],
        done: int = 0,
    ) -> Iterator[Step]:
        assert not done, "a whole walk"
        draws = Draws.of(list(generators), steps, sample[0].numel(), sample.device)

        def logits(tokens: Tensor, progress: float) -> Tensor:
            # On the CPU: what depends on it is decided without waiting for the device.
            output = predict(tokens, torch.full((len(tokens),), progress), conditions)
            return output.flatten(2).transpose(1, 2)  # [B, h * w, codebook + 1] again

        mask_token = self.meaning.mask_token
        for state in self.scheduler.decode(logits, sample, mask_token, steps, draws):
            yield Step(state.index, state.steps, state.tokens, partial(self.guess, state))

    def guess(self, state: TokenStep) -> Tensor:
        """The tokens so far, the masked ones as they would be drawn now."""
        masked = state.tokens == self.meaning.mask_token
        return torch.where(masked, state.drawn, state.tokens)
