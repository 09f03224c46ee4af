"""A model learns from its teacher: outputs, and what the attentions inside give.

loss = data + output * |student - teacher|² + attention * mean over attentions of |their outputs|²,
each a mean over numbers, as in Huage001/LinFusion (src/train/distill.py; data: the noise) and
Huage001/CLEAR (distill.py; data: the velocity). Both published the weights 1, 0.5 and 0.5.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gensynth.conditions import Conditions
from gensynth.config import Distill
from gensynth.objectives.common import Loss, Objective
from gensynth.objectives.hidden_states import hidden_states
from gensynth.seeding import StepRandom


class Asked:
    """A model as a function that remembers what it was asked, and what it said."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.inputs: tuple[Any, ...] = ()
        self.keywords: dict[str, Any] = {}
        self.output: Tensor

    def __call__(self, *inputs: Any, **keywords: Any) -> Tensor:
        self.inputs, self.keywords = inputs, keywords
        self.output = self.model(*inputs, **keywords)
        return self.output


class DistillObjective(Objective):
    """The loss of a student that is asked the same as its teacher.

    Args:
        own: the objective that the teacher was trained with; it asks the student.
        teacher: frozen, called as the student is.
        student: without wrappers, to look into.
        attentions: names of submodules, of both, whose outputs are compared.
    """

    def __init__(
        self,
        config: Distill,
        own: Objective,
        teacher: nn.Module,
        student: nn.Module,
        attentions: Sequence[str],
    ):
        self.config, self.own = config, own
        self.teacher, self.student = teacher, student
        self.attentions = tuple(attentions) if config.attention else ()

    def loss(
        self,
        model: nn.Module,
        latents: Tensor,
        conditions: Conditions,
        random: StepRandom,
        passes: Sequence[Mapping[str, Any]] = ({},),
    ) -> Loss:
        """Loss of one micro-batch: latents [B, C, H, W], conditions [B, ...]."""
        asked: Any = Asked(model)
        with hidden_states(self.student, self.attentions) as ours:
            data = self.own.loss(asked, latents, conditions, random, passes).total
        with torch.no_grad(), hidden_states(self.teacher, self.attentions) as theirs:
            target = self.teacher(*asked.inputs, **asked.keywords)
        output = squared(asked.output, target)
        attention = output.new_zeros(())
        if self.attentions:
            errors = [squared(image(ours[n]), image(theirs[n])) for n in self.attentions]
            attention = torch.stack(errors).mean()
        weights = self.config
        total = weights.data * data + weights.output * output + weights.attention * attention
        parts = {"data": data, "output": output, "attention": attention}
        return Loss(total, {name: part.detach() for name, part in parts.items()})


def squared(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared error, in float32."""
    return (student.float() - teacher.float()).square().mean()


def image(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """What an attention gives of the picture: joint ones give words too, which come second."""
    return output if isinstance(output, Tensor) else output[0]
