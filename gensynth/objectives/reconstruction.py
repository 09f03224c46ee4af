"""Training a tokenizer: images through a codebook and back (VQGAN, arXiv 2012.09841; LlamaGen)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import gather, reduce
from torch import Tensor, nn

from gensynth.autoencoders.quantizer import Quantizer, usage_of
from gensynth.autoencoders.vq import VQAutoencoder
from gensynth.conditions import Conditions
from gensynth.config import Reconstruction
from gensynth.objectives.common import Loss, Objective
from gensynth.objectives.discriminator import PatchDiscriminator, frozen_scores, hinge
from gensynth.processes import processes
from gensynth.seeding import StepRandom


class CodeCounts(nn.Module):
    """How often each code was used since the unused ones were last replaced."""

    counts: Tensor

    def __init__(self, codebook_size: int):
        super().__init__()
        self.register_buffer("counts", torch.zeros(codebook_size))


class ReconstructionObjective(Objective):
    """Error of the pixels, and what keeps codebook and encoder together.

    Attributes:
        trained: what is trained beside the model: the discriminator, if there is one.
        state: what a run must keep beside the weights: the counts of the codes.

    Args:
        tokenizer: the model itself, without the wrapper of several processes.
        perceptual: (images, images) [B, C, H, W] in [-1, 1] -> a distance, a scalar; needed where
            its weight is not 0.
    """

    def __init__(
        self,
        config: Reconstruction,
        tokenizer: VQAutoencoder,
        perceptual: nn.Module | None = None,
    ):
        self.config, self.perceptual = config, perceptual
        self.revived_at = 0  # the latest step in which codes were replaced
        self.quantizer: Quantizer = tokenizer.quantizer
        self.features = tokenizer.features
        self.state: CodeCounts = CodeCounts(self.quantizer.embedding.num_embeddings)
        if config.adversarial:
            self.trained = PatchDiscriminator(tokenizer.config.channels)

    def loss(
        self,
        model: nn.Module,
        latents: Tensor,
        conditions: Conditions,
        random: StepRandom,
        passes: Sequence[Mapping[str, Any]] = ({},),
    ) -> Loss:
        """Loss of one micro-batch: `latents` are pixels [B, C, H, W] in [-1, 1]."""
        config = self.config
        if self.revival_is_due(random.step):
            self.revive(latents, random)
        pixels, quantized = model(latents)
        pixels = pixels.float()  # the losses are float32 under autocast too
        error = F.l1_loss if config.pixel == "l1" else F.mse_loss
        parts = {"reconstruction": error(pixels, latents), "codebook": quantized.codebook}
        parts["commitment"] = quantized.commitment
        total = parts["reconstruction"] + config.codebook * parts["codebook"]
        total = total + config.commitment * parts["commitment"]
        if config.entropy:
            parts["entropy"] = quantized.entropy()
            total = total + config.entropy * parts["entropy"]
        if self.perceptual is not None:
            parts["perceptual"] = self.perceptual(pixels, latents)
            total = total + config.perceptual * parts["perceptual"]
        if config.adversarial and random.step >= config.adversarial_start:
            total = total + self.adversary(pixels, latents, parts)
        counts = self.count(quantized.indices)
        parts["usage"], parts["perplexity"] = usage_of(counts)
        return Loss(total, {name: part.detach() for name, part in parts.items()})

    def revival_is_due(self, step: int) -> bool:
        """Whether this is the first micro-batch of a step in which codes are replaced."""
        every = self.config.revive_every
        due = bool(every) and step > 0 and step % every == 0 and step != self.revived_at
        if due:
            self.revived_at = step
        return due

    def adversary(self, pixels: Tensor, real: Tensor, parts: dict[str, Tensor]) -> Tensor:
        """The terms that train the decoder against the discriminator, and the discriminator."""
        assert self.trained is not None
        parts["adversarial"] = -frozen_scores(self.trained, pixels).mean()
        scores = self.trained(torch.cat([real, pixels.detach()]))  # no gradient to the decoder
        parts["discriminator"] = hinge(*scores.chunk(2))  # real, generated
        return self.config.adversarial * parts["adversarial"] + parts["discriminator"]

    @torch.no_grad()
    def count(self, indices: Tensor) -> Tensor:
        """How often each code occurs in all processes' micro-batches; remembered too."""
        indices = indices.flatten()
        used = torch.zeros_like(self.state.counts)
        used.scatter_add_(0, indices, torch.ones_like(indices, dtype=used.dtype))
        processes()  # decides the device before accelerate does
        used = reduce(used, "sum")  # over all processes
        self.state.counts += used
        return used

    @torch.no_grad()
    def revive(self, pixels: Tensor, random: StepRandom) -> None:
        """Codes that were not used since the last time become features of this batch."""
        unused = self.state.counts == 0
        processes()
        # [N, D] of all processes, so that each puts the same features in place of the same codes.
        features = gather(self.quantizer.as_rows(self.features(pixels).float()).flatten(0, 2))
        weight = self.quantizer.embedding.weight
        place = (random.shared_uniform(len(weight)) * len(features)).long().to(features.device)
        weight.copy_(torch.where(unused[:, None], features[place], weight))
        self.state.counts.zero_()
