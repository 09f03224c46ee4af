"""Adan: adaptive Nesterov momentum (arXiv 2208.06677, algorithm 1), which trained MDT."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Adan(torch.optim.Optimizer):
    """Adan over lists of tensors at once.

    Args:
        params: what to train.
        lr: learning rate.
        betas: decay of the running means of the gradient, of its change, and of the square of both.
            As in the authors' code: 1 minus the paper's.
        eps: added to the root of the mean square.
        weight_decay: decoupled and proximal: weights are divided by 1 + lr * weight_decay.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update of every tensor that has a gradient."""
        assert closure is None, "the loop computes the gradients"
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            gradients = [weight.grad for weight in weights]
            for weight in weights:
                if not self.state[weight]:
                    zeros = {key: torch.zeros_like(weight) for key in ("mean", "change", "square")}
                    # The first change is zero.
                    self.state[weight] = {**zeros, "last": weight.grad.clone()}
                    self.state[weight]["step"] = torch.zeros(())
            self.update(group, weights, gradients)

    def update(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> None:
        states = [self.state[weight] for weight in weights]
        mean, change, square, last = (
            [state[key] for state in states] for key in ("mean", "change", "square", "last")
        )
        for state in states:
            state["step"] += 1
        step = int(states[0]["step"])  # on the CPU, so nothing waits for the device
        beta1, beta2, beta3 = group["betas"]

        difference = torch._foreach_sub(gradients, last)  # g_k - g_(k-1)
        torch._foreach_lerp_(mean, gradients, 1 - beta1)  # m_k
        torch._foreach_lerp_(change, difference, 1 - beta2)  # v_k
        ahead = torch._foreach_add(gradients, difference, alpha=beta2)  # Nesterov's look ahead
        torch._foreach_mul_(square, beta3)
        torch._foreach_addcmul_(square, ahead, ahead, 1 - beta3)  # n_k

        root = torch._foreach_sqrt(square)
        torch._foreach_div_(root, (1 - beta3**step) ** 0.5)  # bias of the start at 0, as below
        torch._foreach_add_(root, group["eps"])
        torch._foreach_addcdiv_(weights, mean, root, -group["lr"] / (1 - beta1**step))
        torch._foreach_addcdiv_(weights, change, root, -group["lr"] * beta2 / (1 - beta2**step))
        torch._foreach_div_(weights, 1 + group["lr"] * group["weight_decay"])  # after the step
        torch._foreach_copy_(last, gradients)  # a copy: `grad` is overwritten
