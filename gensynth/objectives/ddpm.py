"""Denoising diffusion: the hybrid loss with learned range variance (iDDPM, arXiv 2102.09672).

The functions are those of facebookresearch/DiT, diffusion/, with its defaults: linear betas from
1e-4 to 0.02, noise prediction, loss = MSE + variational bound in which the mean is held fixed.
The min-SNR weights (arXiv 2303.09556) are those of sail-sg/MDT.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gensynth.conditions import Conditions
from gensynth.config import DDPM
from gensynth.objectives.common import Loss, Objective, drop, sum_of_passes
from gensynth.seeding import StepRandom

NUM_TIMESTEPS = 1000  # of the full chain; fewer are chosen out of it
LOSSES = ("mse", "rescaled_mse", "kl", "rescaled_kl")
PREDICTIONS = ("epsilon", "x", "v")


def linear_betas() -> Tensor:
    """float64 betas [1000] from 1e-4 to 0.02."""
    return torch.linspace(1e-4, 0.02, NUM_TIMESTEPS, dtype=torch.float64)


def cosine_betas() -> Tensor:
    """float64 betas [1000]: sqrt(alpha_bar) falls as a cosine (arXiv 2102.09672, eq. 17)."""
    time = torch.arange(NUM_TIMESTEPS + 1, dtype=torch.float64) / NUM_TIMESTEPS  # t / T, [1001]
    alpha_bar = torch.cos((time + 0.008) / 1.008 * math.pi / 2).square()  # f(t); f(0) cancels below
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)  # at t = T it would be 1


BETAS = {"linear": linear_betas, "cosine": cosine_betas}


class Diffusion:
    """The closed forms of q(x_t | x_0) and q(x_{t-1} | x_t, x_0), in the letters of the paper.

    `tables` are float64 [num_timesteps]; `t` is int64 [B], a position in the chain; images are
    float32 [B, C, H, W]. `prediction` says what the first C channels of a model output are:
    "epsilon" (the noise), "x" (x_0) or "v" (arXiv 2202.00512).

    Args:
        betas: float64 [N] of the full chain.
        kept: ascending timesteps of the full chain that make a shorter one, with the same
            distribution at each of them. None keeps all.
    """

    def __init__(self, betas: Tensor, kept: Sequence[int] | None = None):
        self.timesteps = torch.arange(len(betas)) if kept is None else torch.tensor(kept)
        if kept is not None:
            cumprod = (1 - betas).cumprod(0)[self.timesteps]  # alpha_bar at the timesteps kept
            betas = 1 - cumprod / torch.cat([cumprod.new_ones(1), cumprod[:-1]])  # same alpha_bar
        self.betas = betas
        self.tables = _tables(betas)
        self._on_device: dict[tuple[str, torch.device], Tensor] = {}  # copied at the first use

    @property
    def num_timesteps(self) -> int:
        return len(self.betas)

    def at(self, name: str, t: Tensor) -> Tensor:
        """Entries `t` [B] of a table as float32 [B, 1, 1, 1] on the device of t."""
        key = (name, t.device)
        if key not in self._on_device:
            self._on_device[key] = self.tables[name].float().to(t.device)  # float64 up to here
        return self._on_device[key][t][:, None, None, None]

    def model_timestep(self, t: Tensor) -> Tensor:
        """What the model sees, int64 [B]: the timestep of the full chain."""
        key = ("timesteps", t.device)
        if key not in self._on_device:
            self._on_device[key] = self.timesteps.to(t.device)
        return self._on_device[key][t]

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t: sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise."""
        return self.at("signal", t) * x0 + self.at("noise", t) * noise

    def target(self, prediction: str, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The model's target; v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0."""
        if prediction == "epsilon":
            return noise
        if prediction == "x":
            return x0
        return self.at("signal", t) * noise - self.at("noise", t) * x0

    def predict_x0(self, prediction: str, predicted: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """The x_0 that follows from a prediction [B, C, H, W] at x_t."""
        if prediction == "epsilon":
            return self.at("x0_of_xt", t) * xt - self.at("x0_of_epsilon", t) * predicted
        if prediction == "x":
            return predicted
        return self.at("signal", t) * xt - self.at("noise", t) * predicted

    def min_snr_weight(self, prediction: str, gamma: float, t: Tensor) -> Tensor:
        """Weights [B] of the squared error: min(SNR, gamma) for x_0, and the same for the others.

        An error in the noise is SNR, one in v is SNR + 1 times the error in x_0 that it means.
        """
        snr = self.at("snr", t).flatten()  # alpha_bar / (1 - alpha_bar), [B]
        divisor = {"epsilon": snr, "x": torch.ones_like(snr), "v": snr + 1}[prediction]
        return snr.clamp(max=gamma) / divisor

    def posterior(self, x0: Tensor, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [B, C, H, W] and log variance [B, 1, 1, 1] of q(x_{t-1} | x_t, x_0)."""
        mean = self.at("posterior_coef_x0", t) * x0 + self.at("posterior_coef_xt", t) * xt
        return mean, self.at("posterior_log_variance", t)

    def predicted(
        self, output: Tensor, xt: Tensor, t: Tensor, prediction: str = "epsilon"
    ) -> tuple[Tensor, Tensor]:
        """Mean and log variance of p(x_{t-1} | x_t) for a model output [B, C or 2C, H, W].

        The second half of 2C channels interpolates the log variance between that of the
        posterior (-1) and beta (1) (eq. 15). With C channels it is log beta.
        """
        channels = xt.shape[1]  # output is [B, C or 2C, H, W]
        predicted, range_values = output[:, :channels], output[:, channels:]
        x0 = self.predict_x0(prediction, predicted, xt, t)
        mean, smallest = self.posterior(x0, xt, t)
        if not range_values.shape[1]:
            return mean, self.at("fixed_large_log_variance", t)
        share = (range_values + 1) / 2  # [-1, 1] -> [0, 1]; a model may leave it
        return mean, share * self.at("log_beta", t) + (1 - share) * smallest

    def variational_bound(
        self, output: Tensor, x0: Tensor, xt: Tensor, t: Tensor, prediction: str = "epsilon"
    ) -> Tensor:
        """Bits per dimension of each image, [B]: KL to the posterior; at t = 0 the likelihood."""
        true_mean, true_log_variance = self.posterior(x0, xt, t)
        mean, log_variance = self.predicted(output, xt, t, prediction)
        divergence = gaussian_kl(true_mean, true_log_variance, mean, log_variance)
        likelihood = discretized_log_likelihood(x0, mean, log_variance / 2)  # log of the deviation
        first = (t == 0)[:, None, None, None]  # [B, 1, 1, 1]; this step decodes x_0 itself
        bits = torch.where(first, -likelihood, divergence) / math.log(2)  # nats -> bits
        return bits.flatten(1).mean(dim=1)  # [B]


def _tables(betas: Tensor) -> dict[str, Tensor]:
    """The float64 coefficients [num_timesteps] of a chain."""
    alphas, cumprod = 1 - betas, (1 - betas).cumprod(0)
    previous = torch.cat([torch.ones(1, dtype=torch.float64), cumprod[:-1]])  # alpha_bar_{t-1}
    variance = betas * (1 - previous) / (1 - cumprod)
    # The variance is zero at t = 0, so its logarithm is taken from t = 1 there.
    after_first = torch.arange(len(betas)).clamp(min=1)
    fixed_large = torch.cat([variance[1:2], betas[1:]])  # beta, except at t = 0
    return {
        "alphas_cumprod": cumprod,
        "signal": cumprod.sqrt(),
        "noise": (1 - cumprod).sqrt(),
        "snr": cumprod / (1 - cumprod),
        "x0_of_xt": (1 / cumprod).sqrt(),
        "x0_of_epsilon": (1 / cumprod - 1).sqrt(),
        "log_beta": betas.log(),
        "fixed_large_log_variance": fixed_large.log(),
        "posterior_variance": variance,
        "posterior_log_variance": variance[after_first].log(),
        "posterior_coef_x0": betas * previous.sqrt() / (1 - cumprod),  # arXiv 2006.11239, eq. 7
        "posterior_coef_xt": (1 - previous) * alphas.sqrt() / (1 - cumprod),
    }


def gaussian_kl(
    mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor
) -> Tensor:
    """KL divergence of two diagonal Gaussians in nats, elementwise."""
    return 0.5 * (
        log_variance2
        - log_variance1
        - 1
        + (log_variance1 - log_variance2).exp()
        + (mean1 - mean2).square() * (-log_variance2).exp()
    )


def discretized_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log probability of 8-bit values `x` in [-1, 1] under a Gaussian cut into 256 bins, in nats.

    The normal distribution function is the tanh approximation of the published code.
    """

    def below(edge: Tensor) -> Tensor:
        z = (edge - mean) * (-log_scale).exp()
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    def log(probability: Tensor) -> Tensor:
        return probability.clamp(min=1e-12).log()  # far from the mean a bin rounds to 0

    upper, lower = below(x + 1 / 255), below(x - 1 / 255)  # half a level, which are 2 / 255 apart
    inside = log(upper - lower)
    # The outermost bins reach to infinity, so that all 256 sum to 1.
    return torch.where(x < -0.999, log(upper), torch.where(x > 0.999, log(1 - lower), inside))


@functools.cache
def full_chain(betas: str = "linear") -> Diffusion:
    """The chain of 1000 timesteps with "linear" or "cosine" betas."""
    return Diffusion(BETAS[betas]())


def loss_terms(
    model_output: Tensor,
    x_start: Tensor,
    noise: Tensor,
    timestep: Tensor,
    *,
    loss: str = "mse",
    prediction: str = "epsilon",
    min_snr: float | None = None,
    diffusion: Diffusion | None = None,
) -> dict[str, Tensor]:
    """The published loss of each image and its parts, [B] each.

    Args:
        model_output: [B, C or 2C, H, W] at x_t; the second half of 2C channels is the variance.
        x_start, noise: [B, C, H, W] that x_t was made of.
        timestep: int64 [B], position in the chain.
        loss: "mse" adds the bound "vb", which teaches the variance only; "rescaled_mse" scales it
            by chain length / 1000; "kl" is the bound alone and teaches the mean too;
            "rescaled_kl" is that times the chain length, the `use_kl` of the published code.
        prediction: "epsilon", "x" or "v".
        min_snr: gamma of the min-SNR weight of the squared error; None for no weight.
        diffusion: the chain; None for the full one with linear betas.

    Returns:
        "loss", "mse" (weighted) and "vb" (bits per dimension, scaled). Without variance channels
        there is no "vb" beside "mse"; with a KL loss there is no "mse".
    """
    for name, value, allowed in (("loss", loss, LOSSES), ("prediction", prediction, PREDICTIONS)):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    chain = diffusion or full_chain()
    xt = chain.add_noise(x_start, noise, timestep)  # [B, C, H, W]
    if loss in ("kl", "rescaled_kl"):
        bound = chain.variational_bound(model_output, x_start, xt, timestep, prediction)
        return {"loss": bound * (chain.num_timesteps if loss == "rescaled_kl" else 1), "vb": bound}
    channels = x_start.shape[1]
    mean, variance = model_output[:, :channels], model_output[:, channels:]
    target = chain.target(prediction, x_start, noise, timestep)
    mse = (mean - target).square().flatten(1).mean(dim=1)  # [B]
    if min_snr is not None:
        mse = mse * chain.min_snr_weight(prediction, min_snr, timestep)
    if not variance.shape[1]:
        return {"loss": mse, "mse": mse}
    frozen = torch.cat([mean.detach(), variance], dim=1)  # the bound must not move the mean
    bound = chain.variational_bound(frozen, x_start, xt, timestep, prediction)
    if loss == "rescaled_mse":
        bound = bound * (chain.num_timesteps / NUM_TIMESTEPS)
    return {"loss": mse + bound, "mse": mse, "vb": bound}


class DDPMObjective(Objective):
    """The loss of `loss_terms` at random timesteps."""

    def __init__(self, config: DDPM, none: Conditions | None):
        self.config, self.none = config, none
        self.diffusion = full_chain(config.betas)
        self.options: dict[str, Any] = config.model_dump(include={"loss", "prediction", "min_snr"})

    def loss(
        self,
        model: nn.Module,
        latents: Tensor,
        conditions: Conditions,
        random: StepRandom,
        passes: Sequence[Mapping[str, Any]] = ({},),
    ) -> Loss:
        """Loss of one micro-batch: latents [B, C, H, W], conditions [B, ...].

        The timestep is drawn once; noise and what is dropped anew for each of `passes`, the
        keywords of one call of the model.
        """
        t = random.integers(self.diffusion.num_timesteps)  # int64 [B]
        losses = [self._of_pass(model, latents, conditions, t, random, keys) for keys in passes]
        return sum_of_passes(passes, losses)

    def _of_pass(
        self,
        model: nn.Module,
        latents: Tensor,
        conditions: Conditions,
        t: Tensor,
        random: StepRandom,
        keywords: Mapping[str, Any],
    ) -> Loss:
        noise = random.normal(*latents.shape[1:])
        told = drop(conditions, self.none, self.config.label_dropout, random)
        xt = self.diffusion.add_noise(latents, noise, t)
        # float32: the bound takes exponentials of differences of log variances.
        output = model(xt, self.diffusion.model_timestep(t), **told, **keywords).float()
        terms = loss_terms(output, latents, noise, t, diffusion=self.diffusion, **self.options)
        total = terms.pop("loss").mean()
        return Loss(total, {name: part.mean().detach() for name, part in terms.items()})
