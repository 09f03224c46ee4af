"""Denoising diffusion with learned range variance and the hybrid loss (iDDPM, arXiv 2102.09672).

The function is that of facebookresearch/DiT, diffusion/gaussian_diffusion.py, with its defaults:
linear betas from 1e-4 to 0.02, noise prediction, loss = MSE + variational bound in which the
mean is held fixed.
"""

import math

import torch
from torch import Tensor, nn

from gensynth.config import DDPM
from gensynth.objectives import Loss, drop_labels
from gensynth.seeding import StepRandom

NUM_TIMESTEPS = 1000


def linear_betas() -> Tensor:
    """float64 betas [1000] from 1e-4 to 0.02."""
    return torch.linspace(1e-4, 0.02, NUM_TIMESTEPS, dtype=torch.float64)


class Diffusion:
    """The closed forms of q(x_t | x_0) and q(x_{t-1} | x_t, x_0), in the letters of the paper.

    `tables` are float64 [num_timesteps]; `t` is int64 [B]; images are float32 [B, C, H, W].
    """

    def __init__(self, betas: Tensor):
        alphas, cumprod = 1 - betas, (1 - betas).cumprod(0)
        previous = torch.cat([torch.ones(1, dtype=torch.float64), cumprod[:-1]])
        variance = betas * (1 - previous) / (1 - cumprod)
        # The variance is zero at t = 0, so its logarithm is taken from t = 1 there.
        after_first = torch.arange(len(betas)).clamp(min=1)
        self.tables = {
            "alphas_cumprod": cumprod,
            "signal": cumprod.sqrt(),
            "noise": (1 - cumprod).sqrt(),
            "x0_of_xt": (1 / cumprod).sqrt(),
            "x0_of_epsilon": (1 / cumprod - 1).sqrt(),
            "log_beta": betas.log(),
            "posterior_variance": variance,
            "posterior_log_variance": variance[after_first].log(),
            "posterior_coef_x0": betas * previous.sqrt() / (1 - cumprod),
            "posterior_coef_xt": (1 - previous) * alphas.sqrt() / (1 - cumprod),
        }
        self._on_device: dict[tuple[str, torch.device], Tensor] = {}

    def at(self, name: str, t: Tensor) -> Tensor:
        """Entries `t` [B] of a table as float32 [B, 1, 1, 1] on the device of t."""
        key = (name, t.device)
        if key not in self._on_device:
            self._on_device[key] = self.tables[name].float().to(t.device)
        return self._on_device[key][t][:, None, None, None]

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t: sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise."""
        return self.at("signal", t) * x0 + self.at("noise", t) * noise

    def posterior(self, x0: Tensor, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [B, C, H, W] and log variance [B, 1, 1, 1] of q(x_{t-1} | x_t, x_0)."""
        mean = self.at("posterior_coef_x0", t) * x0 + self.at("posterior_coef_xt", t) * xt
        return mean, self.at("posterior_log_variance", t)

    def predict_x0(self, xt: Tensor, epsilon: Tensor, t: Tensor) -> Tensor:
        """x_0 that gave x_t with this noise."""
        return self.at("x0_of_xt", t) * xt - self.at("x0_of_epsilon", t) * epsilon

    def predicted(self, output: Tensor, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of p(x_{t-1} | x_t) for a model output [B, 2C, H, W].

        The second half of the channels interpolates the log variance between that of the
        posterior (-1) and beta (1) (eq. 15).
        """
        epsilon, range_values = output.chunk(2, dim=1)
        mean, smallest = self.posterior(self.predict_x0(xt, epsilon, t), xt, t)
        share = (range_values + 1) / 2
        return mean, share * self.at("log_beta", t) + (1 - share) * smallest

    def variational_bound(self, output: Tensor, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """Bits per dimension of each image, [B]: KL to the posterior; at t = 0 the likelihood."""
        true_mean, true_log_variance = self.posterior(x0, xt, t)
        mean, log_variance = self.predicted(output, xt, t)
        divergence = gaussian_kl(true_mean, true_log_variance, mean, log_variance)
        likelihood = discretized_log_likelihood(x0, mean, log_variance / 2)
        first = (t == 0)[:, None, None, None]
        bits = torch.where(first, -likelihood, divergence) / math.log(2)
        return bits.flatten(1).mean(dim=1)


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
        return probability.clamp(min=1e-12).log()

    upper, lower = below(x + 1 / 255), below(x - 1 / 255)
    inside = log(upper - lower)
    return torch.where(x < -0.999, log(upper), torch.where(x > 0.999, log(1 - lower), inside))


class DDPMObjective:
    """Noise prediction with learned variance: MSE + variational bound."""

    learns_variance = True

    def __init__(self, config: DDPM, null_label: int):
        self.config, self.null_label = config, null_label
        self.diffusion = Diffusion(linear_betas())

    def loss(self, model: nn.Module, latents: Tensor, labels: Tensor, random: StepRandom) -> Loss:
        """Loss of one micro-batch: latents [B, C, H, W], labels [B]."""
        t = random.integers(NUM_TIMESTEPS)
        noise = random.normal(*latents.shape[1:])
        labels = drop_labels(labels, self.null_label, self.config.label_dropout, random)
        xt = self.diffusion.add_noise(latents, noise, t)
        return self.loss_of_output(model(xt, t, labels).float(), latents, xt, noise, t)

    def loss_of_output(
        self, output: Tensor, x0: Tensor, xt: Tensor, noise: Tensor, t: Tensor
    ) -> Loss:
        """Loss of a model output [B, 2C, H, W] at x_t."""
        mse, bound = self.terms(output, x0, xt, noise, t)
        parts = {"mse": mse.mean().detach(), "vb": bound.mean().detach()}
        return Loss((mse + bound).mean(), parts)

    def terms(
        self, output: Tensor, x0: Tensor, xt: Tensor, noise: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """MSE [B] and variational bound [B]. The bound teaches the variance only."""
        epsilon, range_values = output.chunk(2, dim=1)
        mse = (epsilon - noise).square().flatten(1).mean(dim=1)
        frozen = torch.cat([epsilon.detach(), range_values], dim=1)
        return mse, self.diffusion.variational_bound(frozen, x0, xt, t)
