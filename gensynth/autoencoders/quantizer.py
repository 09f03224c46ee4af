"""A codebook: nearest codes, its ids, and what trains it (VQGAN, arXiv 2012.09841; LlamaGen)."""

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gensynth.errors import UsageError
from gensynth.ops.plain import is_plain

ENTROPY_TEMPERATURE = 0.01  # LlamaGen's


@dataclass
class Quantized:
    """The result of quantizing a batch of features.

    Attributes:
        features: [B, D, h, w], the codes, with the gradient of the features before them.
        indices: int64 [B, h, w].
        codebook, commitment: losses, scalars: pull codes to features, and features to codes.
        distances: squared, of every feature from every code, [B, h, w, codebook_size].
    """

    features: Tensor
    indices: Tensor
    codebook: Tensor
    commitment: Tensor
    distances: Tensor

    def entropy(self) -> Tensor:
        """LlamaGen's third loss, a scalar: small when features are sure and all codes are used."""
        return entropy_loss(-self.distances.flatten(0, 2))


class Quantizer(nn.Module):
    """A codebook [codebook_size, dim] and the nearest entry of it for every feature.

    Args:
        normalize: codes and features are compared on the unit sphere (LlamaGen).
    """

    def __init__(self, codebook_size: int, dim: int, normalize: bool = True):
        super().__init__()
        self.normalize = normalize
        self.embedding = nn.Embedding(codebook_size, dim)
        # VQGAN's and LlamaGen's start
        nn.init.uniform_(self.embedding.weight, -1 / codebook_size, 1 / codebook_size)

    def codes(self) -> Tensor:
        """The codebook as it is used, [codebook_size, D]."""
        weight = self.embedding.weight
        if not is_plain(self.embedding, nn.Embedding):  # an adapter's share is part of the codes
            weight = self.embedding(torch.arange(len(weight), device=weight.device))
        return F.normalize(weight, dim=-1) if self.normalize else weight

    def lookup(self, indices: Tensor) -> Tensor:
        """[B, h, w] -> [B, D, h, w]."""
        return self.codes()[indices].permute(0, 3, 1, 2)

    def nearest(self, features: Tensor) -> Tensor:
        """Indices [B, h, w] of the codes nearest to features [B, D, h, w]."""
        return self.distances(self.as_rows(features)).argmin(dim=-1)

    def as_rows(self, features: Tensor) -> Tensor:
        """[B, D, h, w] -> [B, h, w, D], on the sphere if codes are."""
        rows = features.permute(0, 2, 3, 1)
        return F.normalize(rows, dim=-1) if self.normalize else rows

    def distances(self, rows: Tensor) -> Tensor:
        """Squared distances [B, h, w, codebook_size] of rows [B, h, w, D]."""
        codes = self.codes().to(rows)
        # |r|^2 + |c|^2 - 2 r.c: one matrix product instead of a difference for every pair
        products = rows @ codes.transpose(0, 1)
        return rows.square().sum(-1, keepdim=True) + codes.square().sum(-1) - 2 * products

    def forward(self, features: Tensor) -> Quantized:
        """[B, D, h, w] -> codes and losses, in float32: halves of it choose other codes."""
        kind = features.device.type
        known = torch.amp.is_autocast_available(kind)  # not where shapes are checked
        with torch.autocast(kind, enabled=False) if known else nullcontext():
            return self.quantized(features.float())

    def quantized(self, features: Tensor) -> Quantized:
        """`forward` of float32 features [B, D, h, w]."""
        rows = self.as_rows(features)
        distances = self.distances(rows)
        indices = distances.argmin(dim=-1)
        codes = self.codes()[indices]
        # Straight-through: the value of the code, the gradient of the feature.
        straight = rows + (codes - rows).detach()
        return Quantized(
            straight.permute(0, 3, 1, 2),
            indices,
            F.mse_loss(codes, rows.detach()),  # moves the codes alone
            F.mse_loss(rows, codes.detach()),  # moves the encoder alone
            distances,
        )


def usage_of(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Share of the codes that occur, and the perplexity of their distribution.

    `counts` [codebook_size] says how often each does.
    """
    share = counts / counts.sum()
    perplexity = torch.exp(-(share * (share + 1e-10).log()).sum())
    return (counts > 0).float().mean(), perplexity


def entropy_loss(affinity: Tensor) -> Tensor:
    """Small when each feature is sure of its code and all codes are used; affinity [M, V]."""
    affinity = affinity / ENTROPY_TEMPERATURE
    probability = affinity.softmax(dim=-1)
    log_probability = (affinity + 1e-5).log_softmax(dim=-1)
    mean = probability.mean(dim=0)  # [V], how often each code is taken
    of_mean = -(mean * (mean + 1e-5).log()).sum()
    of_each = -(probability * log_probability).sum(dim=-1).mean()
    return of_each - of_mean


def fingerprint_of(codebook: Tensor) -> str:
    """16 hex digits of a codebook [codebook_size, D]; those of another codebook differ.

    Of the stored values in float32, which are the same on every machine, and the same after saving
    in half precision and loading; normalised codes may differ in the last bit.
    """
    values = codebook.detach().to("cpu", torch.float32).contiguous()
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()[:16]


def fingerprint_of_parts(*parts: nn.Module) -> str:
    """16 hex digits of the weights of modules in their order, as `fingerprint_of` takes values."""
    digest = hashlib.sha256()
    for part in parts:
        for name, tensor in sorted(part.state_dict().items()):
            values = tensor.detach().to("cpu", torch.float32).contiguous()
            digest.update(f"{name} {list(values.shape)}".encode())
            digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:16]


def check_tokens(tokens: Tensor, codebook_size: int) -> None:
    """Refuses token ids that the codebook does not have.

    Raises:
        UsageError: an id is below 0 or above codebook_size - 1.
    """
    if not tokens.numel():
        return
    lowest, highest = (int(bound) for bound in tokens.aminmax())
    if lowest < 0 or highest >= codebook_size:
        raise UsageError(
            f"token ids must be from 0 to {codebook_size - 1}, got {lowest} to {highest}; give "
            "tokens of this codebook without masked ones."
        )
