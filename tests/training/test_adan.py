"""Adan follows its paper's algorithm, written here tensor by tensor."""

import copy

import torch

from gensynth.config import Optimizer
from gensynth.training.learning.adan import Adan
from gensynth.training.learning.optim import create_optimizer


def by_the_paper(weight, gradients, lr, decay):
    """Algorithm 1 of arXiv 2208.06677 with bias correction; its betas are one minus ours."""
    b1, b2, b3, eps = 0.02, 0.08, 0.01, 1e-8
    m, v, n, last = (torch.zeros_like(weight) for _ in range(4))
    for k, g in enumerate(gradients, start=1):
        difference = g - last if k > 1 else torch.zeros_like(g)
        m = (1 - b1) * m + b1 * g
        v = (1 - b2) * v + b2 * difference
        n = (1 - b3) * n + b3 * (g + (1 - b2) * difference) ** 2
        m_hat, v_hat = m / (1 - (1 - b1) ** k), v / (1 - (1 - b2) ** k)
        step = lr / ((n / (1 - (1 - b3) ** k)).sqrt() + eps)
        weight = (weight - step * (m_hat + (1 - b2) * v_hat)) / (1 + lr * decay)
        last = g
    return weight


def test_updates_are_the_papers():
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,)]
    weights = [torch.randn(shape, generator=generator) for shape in shapes]
    gradients = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(6)]
    parameters = [torch.nn.Parameter(weight.clone()) for weight in weights]
    optimizer = Adan(parameters, lr=0.01, weight_decay=0.1)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    for index, (parameter, weight) in enumerate(zip(parameters, weights, strict=True)):
        expected = by_the_paper(weight, [step[index] for step in gradients], 0.01, 0.1)
        torch.testing.assert_close(parameter.data, expected)


def test_state_survives_saving():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = create_optimizer(torch.nn.ParameterList([weight]), Optimizer(name="adan"))
    for _ in range(3):
        weight.grad = weight.detach() * 2
        optimizer.step()
    again = torch.nn.Parameter(weight.detach().clone())
    other = create_optimizer(torch.nn.ParameterList([again]), Optimizer(name="adan"))
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, its in ((weight, optimizer), (again, other)):
        one.grad = torch.full((3,), 0.5)
        its.step()
    assert torch.equal(weight, again)
