"""What valeoai/Halton-MaskGIT does in a step besides calling its transformer, as a peer to time.

Written from reading Sampler/halton_sampler.py and Sampler/confidence_sampler.py. Left out to their
advantage: the argument checks of `torch.distributions`, progress bars, and stored past codes.
"""

import math

import numpy as np
import torch
from torch import Tensor

from gensynth.samplers.masking import decided_counts, halton_order


class PublishedSampler:
    """A decoding of square images of masked tokens from logits that are given.

    Args:
        batch, tokens, steps: images, tokens of an image, steps of a decoding.
        weight: w of the paper, one less than our guidance scale.
    """

    def __init__(self, batch: int, tokens: int, steps: int, weight: float, device: str):
        side = math.isqrt(tokens)
        self.steps, self.weight, self.index = steps, weight, 0
        self.side, self.masked_tokens = side, torch.ones(batch, tokens, dtype=torch.bool)
        self.masked_tokens = self.masked_tokens.to(device)
        self.code = torch.zeros(batch, tokens, dtype=torch.long, device=device)
        self.generator = torch.Generator(device).manual_seed(0)
        self.counts = [0, *decided_counts("arccos", steps, tokens)]

    def step(self, output: Tensor) -> None:
        """Decides some tokens from the transformer's [2B, N, V], with labels and then without."""
        raise NotImplementedError

    def guided(self, output: Tensor, weight: float) -> Tensor:
        conditional, unconditional = output.chunk(2)
        return (1 + weight) * conditional - weight * unconditional

    def drawn(self, probability: Tensor) -> Tensor:
        """A token for every place, [B, N] from [B, N, V]."""
        flat = probability.flatten(0, 1)
        return torch.multinomial(flat, 1, generator=self.generator).view(self.code.shape)


class PublishedHalton(PublishedSampler):
    """Draws all tokens and keeps those of a mask that is built on the CPU, image by image."""

    def __init__(self, batch: int, tokens: int, steps: int, weight: float, device: str):
        super().__init__(batch, tokens, steps, weight, device)
        self.order = halton_order(self.side).expand(batch, -1, -1)

    def step(self, output: Tensor) -> None:
        batch = len(self.code)
        places = self.order.clone()[:, self.counts[self.index] : self.counts[self.index + 1]]
        mask = torch.zeros(batch, self.side, self.side, dtype=torch.long)
        for image in range(batch):
            mask[image, places[image, :, 0], places[image, :, 1]] = 1
        chosen = mask.bool().flatten(1).to(self.code.device)
        drawn = self.drawn(torch.softmax(self.guided(output, self.weight), dim=-1))
        self.code[chosen] = drawn[chosen]
        self.index += 1


class PublishedConfidence(PublishedSampler):
    """Draws all tokens and keeps the most confident, with Gumbel noise drawn by numpy."""

    def __init__(self, batch: int, tokens: int, steps: int, weight: float, device: str):
        super().__init__(batch, tokens, steps, weight, device)
        self.numpy = np.random.default_rng(0)

    def step(self, output: Tensor) -> None:
        progress = self.index / max(1, self.steps - 1)
        logits = self.guided(output, self.weight * progress)
        probability = torch.softmax(logits, dim=-1)
        drawn = self.drawn(probability)
        confidence = probability.gather(-1, drawn[..., None])[..., 0].log()
        noise = 4.5 * self.numpy.gumbel(size=tuple(self.code.shape)) * (1 - progress)
        confidence = confidence + torch.from_numpy(noise).to(self.code.device)
        confidence[~self.masked_tokens] = math.inf
        least = confidence.topk(self.counts[self.index + 1], dim=-1).values[:, -1:]
        chosen = (confidence >= least) & self.masked_tokens
        self.code[chosen] = drawn[chosen]
        self.masked_tokens[chosen] = False
        self.index += 1


# By the name of our decoder of the same method.
PUBLISHED: dict[str, type[PublishedSampler]] = {
    "HaltonDecoder": PublishedHalton,
    "ConfidenceDecoder": PublishedConfidence,
}
