"""Paths between noise and data, and what a model may predict on them (SiT, arXiv 2401.08740).

x_t = alpha_t data + sigma_t noise, and its velocity is alpha_t' data + sigma_t' noise. Time runs
from 0 (noise) to 1 (data). The functions are those of willisma/SiT, transport/path.py.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

PREDICTIONS = ("velocity", "noise", "score", "x")


def per_sample(time: Tensor, x: Tensor) -> Tensor:
    """`time` [B] as [B, 1, 1, ...], so that it multiplies `x` [B, ...] sample by sample.

    Raises:
        ValueError: another number of times than of samples.
    """
    if time.shape != x.shape[:1]:
        raise ValueError(
            f"time must have shape {tuple(x.shape[:1])}, one for each sample, "
            f"got {tuple(time.shape)}"
        )
    return time.view(-1, *[1] * (x.ndim - 1))


class Path(ABC):
    """How data and noise are mixed. Times, like the coefficients made of them, have any shape."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Coefficient of the data: 0 or almost so at time 0, 1 at time 1."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Coefficient of the noise: 1 or almost so at time 0, 0 at time 1."""

    @abstractmethod
    def alpha_dot(self, t: Tensor) -> Tensor:
        """Derivative of alpha by time."""

    @abstractmethod
    def sigma_dot(self, t: Tensor) -> Tensor:
        """Derivative of sigma by time."""

    def log_alpha_dot(self, t: Tensor) -> Tensor:
        """Derivative of log(alpha) by time; infinite where alpha is 0."""
        return self.alpha_dot(t) / self.alpha(t)

    def diffusion(self, t: Tensor) -> Tensor:
        """Weight of the score in the velocity: alpha'/alpha sigma^2 - sigma sigma'."""
        sigma = self.sigma(t)
        return self.log_alpha_dot(t) * sigma.square() - sigma * self.sigma_dot(t)

    def drift(self, x: Tensor, time: Tensor) -> Tensor:
        """-alpha'/alpha x for `x` [B, ...] at `time` [B]; velocity = diffusion score - drift."""
        return -self.log_alpha_dot(per_sample(time, x)) * x

    def default_eps(self, prediction: str) -> tuple[float, float]:
        """SiT's distances from the ends of time in training and in sampling.

        Velocity is finite everywhere on a path whose ends are exact.
        """
        return (0.0, 0.0) if prediction == "velocity" else (1e-3, 1e-3)

    def interval(self, eps: float) -> tuple[float, float]:
        """The first and the last time that keep `eps` from the ends where something is infinite."""
        return eps, 1 - eps

    def interpolate(self, data: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """x_t and its velocity, each [B, ...], at `time` [B]."""
        t = per_sample(time, data)
        velocity = self.alpha_dot(t) * data + self.sigma_dot(t) * noise
        return self.alpha(t) * data + self.sigma(t) * noise, velocity

    def data_and_noise(
        self, output: Tensor, prediction: str, x: Tensor, time: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What `x` [B, ...] at `time` [B] is made of if the model's output [B, ...] is right."""
        if output.shape != x.shape:
            raise ValueError(
                f"a prediction of shape {tuple(output.shape)} for samples of {tuple(x.shape)}"
            )
        t = per_sample(time, x)
        alpha, sigma = self.alpha(t), self.sigma(t)
        if prediction == "velocity":
            alpha_dot, sigma_dot = self.alpha_dot(t), self.sigma_dot(t)
            # Cramer's rule for x = alpha data + sigma noise, velocity = alpha' data + sigma' noise.
            determinant = alpha_dot * sigma - alpha * sigma_dot
            data = (sigma * output - sigma_dot * x) / determinant
            return data, (alpha_dot * x - alpha * output) / determinant
        if prediction == "x":
            return output, (x - alpha * output) / sigma
        noise = -sigma * output if prediction == "score" else output  # score = -noise / sigma
        return (x - sigma * noise) / alpha, noise  # infinite where alpha is 0

    def convert(
        self, output: Tensor, prediction: str, target: str, x: Tensor, time: Tensor
    ) -> Tensor:
        """A prediction [B, ...] about `x` [B, ...] at `time` [B] as another of `PREDICTIONS`."""
        if prediction == target:
            return output
        data, noise = self.data_and_noise(output, prediction, x, time)
        t = per_sample(time, x)
        if target == "velocity":
            return self.alpha_dot(t) * data + self.sigma_dot(t) * noise
        if target == "score":
            return -noise / self.sigma(t)
        return {"x": data, "noise": noise}[target]


class Linear(Path):
    """Rectified flow: alpha = t, sigma = 1 - t."""

    def alpha(self, t: Tensor) -> Tensor:
        return t

    def sigma(self, t: Tensor) -> Tensor:
        return 1 - t

    def alpha_dot(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)


class GVP(Path):
    """Generalised variance preserving, a quarter circle: alpha = sin(pi t / 2), sigma = cos."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(t * math.pi / 2)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.cos(t * math.pi / 2)

    def alpha_dot(self, t: Tensor) -> Tensor:
        return math.pi / 2 * torch.cos(t * math.pi / 2)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return -math.pi / 2 * torch.sin(t * math.pi / 2)


class VP(Path):
    """Variance preserving diffusion whose beta falls linearly from 20 (noise) to 0.1 (data)."""

    beta_min, beta_max = 0.1, 20.0

    def log_alpha(self, t: Tensor) -> Tensor:
        left = 1 - t  # a diffusion's own time, 0 at the data
        # -1/2 of the integral of beta from the data to here.
        return -0.25 * left.square() * (self.beta_max - self.beta_min) - 0.5 * left * self.beta_min

    def log_alpha_dot(self, t: Tensor) -> Tensor:
        return 0.5 * ((1 - t) * (self.beta_max - self.beta_min) + self.beta_min)  # beta / 2

    def alpha(self, t: Tensor) -> Tensor:
        return self.log_alpha(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        # expm1: near the data 1 - alpha^2 would keep few digits in float32
        return (-torch.expm1(2 * self.log_alpha(t))).sqrt()

    def alpha_dot(self, t: Tensor) -> Tensor:
        return self.alpha(t) * self.log_alpha_dot(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return -self.alpha(t).square() * self.log_alpha_dot(t) / self.sigma(t)

    def diffusion(self, t: Tensor) -> Tensor:
        return self.log_alpha_dot(t)  # since alpha^2 + sigma^2 = 1

    def default_eps(self, prediction: str) -> tuple[float, float]:
        return 1e-5, 1e-3  # SiT's, in training and in sampling

    def interval(self, eps: float) -> tuple[float, float]:
        return 0.0, 1 - eps  # alpha is above 0 at time 0, but sigma' infinite at time 1


PATHS: dict[str, Path] = {"linear": Linear(), "gvp": GVP(), "vp": VP()}

# D(t) of the reverse SDE dx = (velocity + D score) dt + sqrt(2 D) dw (SiT, sec. 2.3): any D >= 0
# leads from the same noise to the same data. Each takes a path, times of any shape and the norm.
DIFFUSION_FORMS: dict[str, Callable[[Path, Tensor, float], Tensor]] = {
    "constant": lambda path, t, norm: torch.full_like(t, norm),
    "sbdm": lambda path, t, norm: norm * path.diffusion(t),
    "sigma": lambda path, t, norm: norm * path.sigma(t),
    "linear": lambda path, t, norm: norm * (1 - t),
    "decreasing": lambda path, t, norm: 0.25 * (norm * torch.cos(math.pi * t) + 1).square(),
    "increasing-decreasing": lambda path, t, norm: norm * torch.sin(math.pi * t).square(),
}
