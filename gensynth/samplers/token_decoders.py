"""From masked tokens to an image of tokens: in Halton order, or the most confident first.

Both decide some tokens in every step, from the logits of all. A token once decided never changes,
and at the end none is masked.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from gensynth.errors import UsageError
from gensynth.samplers.categorical import draw_tokens
from gensynth.samplers.masking import MASKED_SHARE, decided_counts, halton_order, masked_share

# (tokens [B, h, w], progress in [0, 1]) -> logits [B, h * w, codebook + 1]
Logits = Callable[[Tensor, float], Tensor]
ORDER_NOISE = ("gumbel", "random", "warmup", "none")


@dataclass
class Draws:
    """Every random number of a decoding, drawn ahead from each picture's own generator.

    Attributes:
        uniform: float32 [steps, B, N], from which tokens are drawn.
        order: float32 [steps, B, N], from which the noise on confidence is made.
        roll: int64 [B], where in the Halton sequence each picture begins.
    """

    uniform: Tensor
    order: Tensor
    roll: Tensor

    @classmethod
    def of(
        cls, generators: list[torch.Generator], steps: int, tokens: int, device: torch.device
    ) -> "Draws":
        """The numbers of one picture for each generator."""
        shape = (2, steps, tokens)  # numbers for tokens, numbers for their order
        numbers = torch.stack([torch.rand(shape, generator=g) for g in generators], dim=2)
        roll = [torch.randint(tokens, (), generator=g) for g in generators]
        uniform, order = numbers.to(device)  # [steps, B, N] each
        return cls(uniform, order, torch.stack(roll).to(device))


@dataclass
class TokenStep:
    """After step `index` of 1..`steps`: the tokens int64 [B, h, w], and which were taken, bool.

    `everywhere` draws a token for every place, as flat int64 [B, N]; `drawn` is that as [B, h, w].
    """

    index: int
    steps: int
    tokens: Tensor
    decided: Tensor
    everywhere: Callable[[], Tensor]

    @cached_property
    def drawn(self) -> Tensor:
        return self.everywhere().view_as(self.tokens)


class TokenDecoder(SchedulerMixin, ConfigMixin):
    """Decides masked tokens step by step."""

    def decode(
        self, predict: Logits, tokens: Tensor, mask_token: int, steps: int, draws: Draws
    ) -> Iterator[TokenStep]:
        """Decides the masked ones among `tokens` [B, h, w]; the others stay.

        Raises:
            UsageError: more steps than masked tokens.
        """
        raise NotImplementedError


class HaltonDecoder(TokenDecoder):
    """Decides tokens in the order of a Halton sequence (Halton-MaskGIT, arXiv 2503.17076).

    Args:
        temperature, last_temperature: factor on the logits in the first and the last step.
        temperature_power: exponent on it.
        warmup_steps: first steps in which it is halved.
        top_k: draw among the most probable tokens only; None for all.
        roll: begin each picture's order at a place of its own.
        greedy: take the most probable token.
        schedule: how fast; a key of `masking.MASKED_SHARE`.
    """

    @register_to_config
    def __init__(
        self,
        temperature: float = 1.0,
        last_temperature: float = 1.0,
        temperature_power: float = 1.0,
        warmup_steps: int = 0,
        top_k: int | None = None,
        roll: bool = False,
        greedy: bool = False,
        schedule: str = "arccos",
    ):
        check_choice("schedule", schedule, MASKED_SHARE)
        check_count("top_k", top_k, 1)
        check_count("warmup_steps", warmup_steps, 0)
        check_numbers(
            temperature=temperature,
            last_temperature=last_temperature,
            temperature_power=temperature_power,
        )

    def decode(
        self,
        predict: Logits,
        tokens: Tensor,
        mask_token: int,
        steps: int,
        draws: Draws,
        anew: bool = False,
    ) -> Iterator[TokenStep]:
        """Decides the masked ones among `tokens` [B, h, w]; the masked places are the same in all.

        With `anew` all are decided, the known ones being a start (the official `init_code`).

        Raises:
            UsageError: more steps than masked tokens.
        """
        batch, height, width = tokens.shape
        to_decide = (tokens[0] == mask_token) | anew  # [h, w], the same in all pictures
        order = self.places(to_decide, draws.roll)  # int64 [B, count]
        counts = [0, *decided_counts(self.config.schedule, steps, order.shape[1])]
        config = self.config
        temperatures = torch.linspace(config.temperature, config.last_temperature, steps)
        tokens = tokens.flatten(1)
        for index in range(steps):
            image = tokens.view(batch, height, width)
            logits = predict(image, index / max(1, steps - 1))  # [B, N, codebook + 1]
            temperature = float(temperatures[index] ** config.temperature_power)
            temperature *= 0.5 if index < config.warmup_steps else 1.0
            draw = partial(
                draw_tokens, temperature=temperature, top_k=config.top_k, greedy=config.greedy
            )
            now = order[:, counts[index] : counts[index + 1]]  # int64 [B, K]
            # Only those that are taken are drawn: with a large codebook drawing costs.
            drawn = draw(take(logits, now), draws.uniform[index].gather(1, now))[0]
            tokens = tokens.scatter(1, now, drawn)
            decided = torch.zeros_like(tokens, dtype=torch.bool).scatter(1, now, True)
            rest = partial(first, draw, logits, draws.uniform[index])
            taken = decided.view_as(image)
            yield TokenStep(index + 1, steps, tokens.view_as(image), taken, rest)

    def places(self, to_decide: Tensor, roll: Tensor) -> Tensor:
        """The places where `to_decide` [h, w] is true, in their order: int64 [B, count]."""
        height, width = to_decide.shape
        order = halton_order(max(height, width)).to(to_decide.device)  # of a square around it
        inside = (order[:, 0] < height) & (order[:, 1] < width)
        place = order[inside, 0] * width + order[inside, 1]  # row by row
        place = place[to_decide.flatten()[place]]
        index = torch.arange(len(place), device=place.device).expand(len(roll), -1)
        if self.config.roll:
            index = (index - roll[:, None]) % len(place)
        return place[index]


class ConfidenceDecoder(TokenDecoder):
    """Decides the tokens drawn with the most confidence first (MaskGIT, arXiv 2202.04200).

    Args:
        temperature: factor on the logits.
        order_noise: "gumbel" (added to the log probability, falling to nothing), "random" (no
            confidence at all), "warmup" (random for two steps), "none".
        noise_temperature: size of the Gumbel noise at the start.
        schedule: how fast; a key of `masking.MASKED_SHARE`.
        top_k: draw among the most probable tokens only; None for all.
        greedy: take the most probable token.
        as_published: the sampler of Halton-MaskGIT to the letter, which draws decided tokens
            again in every step; for comparing with its traces only.
    """

    @register_to_config
    def __init__(
        self,
        temperature: float = 1.0,
        order_noise: str = "gumbel",
        noise_temperature: float = 4.5,
        schedule: str = "arccos",
        top_k: int | None = None,
        greedy: bool = False,
        as_published: bool = False,
    ):
        check_choice("schedule", schedule, MASKED_SHARE)
        check_choice("order_noise", order_noise, ORDER_NOISE)
        check_count("top_k", top_k, 1)
        check_numbers(temperature=temperature, noise_temperature=noise_temperature)

    def decode(
        self, predict: Logits, tokens: Tensor, mask_token: int, steps: int, draws: Draws
    ) -> Iterator[TokenStep]:
        """Decides the masked ones among `tokens` [B, h, w]; as many are masked in each image.

        Raises:
            UsageError: more steps than masked tokens.
        """
        shape, tokens = tokens.shape, tokens.flatten(1)
        known = tokens.shape[1] - int((tokens[0] == mask_token).sum())
        counts = self.counts(steps, tokens.shape[1] - known)
        config = self.config
        scratch = None
        for index in range(steps):
            progress = index / max(1, steps - 1)
            logits = predict(tokens.view(shape), progress)  # [B, N, codebook + 1]
            if scratch is None and config.top_k is None and not config.greedy:
                single = torch.empty_like(logits[..., :-1], dtype=torch.float32)
                scratch = single, torch.empty_like(single, dtype=torch.float64)
            drawn, probability = draw_tokens(
                logits,
                draws.uniform[index],
                config.temperature,
                config.top_k,
                config.greedy,
                scratch,
            )
            confidence = self.confidence(probability, draws.order[index], index, progress)
            masked = tokens == mask_token
            confidence = confidence.masked_fill(~masked, torch.inf)  # known ones are always chosen
            decided = self.chosen(confidence, known + counts[index])
            if not config.as_published:
                decided &= masked
            tokens = torch.where(decided, drawn, tokens)
            taken = decided.view(shape)
            yield TokenStep(
                index + 1, steps, tokens.view(shape), taken, partial(torch.clone, drawn)
            )

    def chosen(self, confidence: Tensor, count: int) -> Tensor:
        """The `count` most confident of [B, N], bool; of equal ones the first, all as published."""
        if self.config.as_published:
            return confidence >= confidence.topk(count, dim=-1).values[:, -1:]
        best = confidence.argsort(dim=-1, descending=True, stable=True)[:, :count]
        return torch.zeros_like(confidence, dtype=torch.bool).scatter(1, best, True)

    def counts(self, steps: int, tokens: int) -> list[int]:
        """How many tokens are decided after each step."""
        if not self.config.as_published:
            return decided_counts(self.config.schedule, steps, tokens)
        if steps < 2:
            raise UsageError("as_published needs 2 steps or more: the first decides one token.")
        share = 1 - masked_share(self.config.schedule, torch.linspace(0, 1, steps))
        counts = (share * tokens).int().tolist()
        return [max(count, index + 1) for index, count in enumerate(counts)]

    def confidence(self, probability: Tensor, noise: Tensor, index: int, progress: float) -> Tensor:
        """What decides who is next, float64 [B, N], from uniform `noise` [B, N]."""
        kind = self.config.order_noise
        if kind == "random" or (kind == "warmup" and index < 2):
            return noise.double()
        if kind != "gumbel":
            return probability.double()
        gumbel = -(-noise.double().clamp(min=1e-12).log()).log()  # log(0) would be infinite
        size = self.config.noise_temperature * (1 - progress)
        return probability.log().double() + size * gumbel


def take(logits: Tensor, places: Tensor) -> Tensor:
    """The rows [B, K, V] of logits [B, N, V] at `places` [B, K]."""
    return logits.gather(1, places[..., None].expand(-1, -1, logits.shape[-1]))


def first(draw: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], *given: Tensor) -> Tensor:
    """The tokens of a draw, without their probabilities."""
    return draw(*given)[0]


def check_choice(field: str, value: str, known: Iterable[str]) -> None:
    names = list(known)
    if value not in names:
        raise UsageError(f"{field} must be one of {', '.join(names)}, got {value!r}.")


def check_count(field: str, value: object, low: int) -> None:
    """None, or a whole number from `low`."""
    if value is not None and (type(value) is not int or value < low):
        raise UsageError(f"{field} must be a whole number from {low}, got {value!r}.")


def check_numbers(**fields: float) -> None:
    """Numbers from 0; what comes out of a file or a command line may be anything."""
    for field, value in fields.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            raise UsageError(f"{field} must be a number from 0, got {value!r}.")
