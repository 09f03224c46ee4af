"""Training a tokenizer: every term of the loss, whom it moves, and the codes nobody uses."""

import math

import pytest
import torch

from gensynth.autoencoders.quantizer import Quantizer, usage_of
from gensynth.config import Reconstruction
from gensynth.experiments.encoders import PerceptualDistance
from gensynth.objectives import create_objective
from gensynth.objectives.discriminator import PatchDiscriminator, frozen_scores, hinge
from gensynth.objectives.reconstruction import ReconstructionObjective
from gensynth.seeding import StepRandom

NOTHING: dict[str, torch.Tensor] = {}


def random(step: int = 0, rows: slice = slice(0, 4)) -> StepRandom:
    return StepRandom(0, step, rows, 4)


def images(count: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 16, 16, generator=generator) * 2 - 1


def made(tokenizer, network=None, **changes) -> ReconstructionObjective:
    config = Reconstruction(name="reconstruction", **{"revive_every": 0, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return create_objective(config, tokenizer, None, network)


@pytest.fixture
def tokenizer(make_tokenizer):
    return make_tokenizer().requires_grad_(True)


def gradients(module: torch.nn.Module) -> bool:
    return any(p.grad is not None and p.grad.any() for p in module.parameters())


@pytest.mark.parametrize(("pixel", "expected"), [("l1", 0.5), ("l2", 0.25)])
def test_a_perfect_tokenizer_has_no_error_of_pixels(tokenizer, pixel, expected):
    objective = made(tokenizer, pixel=pixel)
    pixels = images()

    class Copies(torch.nn.Module):
        off = 0.0

        def forward(self, pixels):
            return pixels + self.off, tokenizer.quantizer(tokenizer.features(pixels))

    model = Copies()
    assert objective.loss(model, pixels, NOTHING, random()).parts["reconstruction"] == 0
    model.off = 0.5
    part = objective.loss(model, pixels, NOTHING, random()).parts["reconstruction"]
    assert part.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("term", ["codebook", "commitment", "entropy", "perceptual", "adversarial"])
def test_each_weight_acts_on_its_term_only(tokenizer, term):
    others = {"codebook": 0.0, "commitment": 0.0}
    perceptual = PerceptualDistance()
    pixels = images()
    without = made(tokenizer, perceptual, **others).loss(tokenizer, pixels, NOTHING, random())
    totals = []
    for weight in (1.0, 2.0):
        objective = made(tokenizer, perceptual, **{**others, term: weight})
        loss = objective.loss(tokenizer, pixels, NOTHING, random())
        rest = loss.parts["discriminator"] if term == "adversarial" else 0
        assert loss.parts[term].item() != 0
        expected = without.total + weight * loss.parts[term] + rest
        torch.testing.assert_close(loss.total, expected)
        totals.append(loss.total.item())
        for name in ("reconstruction", "codebook", "commitment"):
            assert loss.parts[name] == without.parts[name]
    assert totals[0] != totals[1]


def test_the_gradient_of_pixels_passes_the_codebook(tokenizer):
    """Straight through: into the encoder, and not into the codes."""
    objective = made(tokenizer, codebook=0.0, commitment=0.0)
    objective.loss(tokenizer, images(), NOTHING, random()).total.backward()
    assert gradients(tokenizer.encoder) and gradients(tokenizer.before)
    assert gradients(tokenizer.decoder)
    assert not gradients(tokenizer.quantizer)


def test_the_straight_gradient_is_that_of_the_codes():
    quantizer = Quantizer(8, 4, normalize=False)
    features = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    features.requires_grad_(True)
    weight = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    quantized = quantizer(features)
    torch.testing.assert_close(quantized.features, quantizer.lookup(quantized.indices))
    (quantized.features * weight).sum().backward()
    torch.testing.assert_close(features.grad, weight)


@pytest.mark.parametrize(("term", "moved"), [("codebook", "codes"), ("commitment", "features")])
def test_who_moves_towards_whom(term, moved):
    quantizer = Quantizer(8, 4, normalize=False)
    features = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    features.requires_grad_(True)
    quantized = quantizer(features)
    getattr(quantized, term).backward()
    codes = quantizer.embedding.weight
    assert (features.grad is not None and bool(features.grad.any())) == (moved == "features")
    assert (codes.grad is not None and bool(codes.grad.any())) == (moved == "codes")
    with torch.no_grad():  # a step against the gradient makes it smaller
        for tensor in (features, codes):
            if tensor.grad is not None:
                tensor -= 0.5 * tensor.grad
        assert getattr(quantizer(features), term) < getattr(quantized, term)


def test_autocast_chooses_the_same_codes(make_tokenizer):
    quantizer = make_tokenizer(codebook_size=1024).quantizer
    features = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = quantizer(features)
    with torch.autocast("cpu", torch.bfloat16):
        half = quantizer(features)
    assert torch.equal(plain.indices, half.indices)
    assert torch.equal(plain.features, half.features)


# The adversary


def test_each_side_of_the_adversary_moves_alone(tokenizer):
    objective = made(tokenizer, adversarial=0.5, codebook=0.0, commitment=0.0)
    pixels = images()
    again, _ = tokenizer(pixels)
    parts: dict[str, torch.Tensor] = {}
    objective.adversary(again, pixels, parts)
    parts["adversarial"].backward(retain_graph=True)
    assert gradients(tokenizer.decoder) and gradients(tokenizer.encoder)
    assert not gradients(objective.trained)
    tokenizer.zero_grad()
    parts["discriminator"].backward()
    assert gradients(objective.trained)
    assert not gradients(tokenizer)


def test_what_the_adversary_adds(tokenizer):
    objective = made(tokenizer, adversarial=0.5)
    pixels, parts = images(), {}
    with torch.no_grad():
        again, _ = tokenizer(pixels)
        total = objective.adversary(again, pixels, parts)
        scores = objective.trained(again), objective.trained(pixels)
    torch.testing.assert_close(parts["adversarial"], -scores[0].mean())
    torch.testing.assert_close(parts["discriminator"], hinge(scores[1], scores[0]))
    torch.testing.assert_close(total, 0.5 * parts["adversarial"] + parts["discriminator"])


def test_the_hinge_by_hand():
    real, generated = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    assert hinge(real, generated).item() == pytest.approx(((0 + 0.5 + 2) + (0 + 1 + 2)) / 6)


def test_a_score_does_not_depend_on_the_batch():
    discriminator, pixels = PatchDiscriminator(1), images()
    together = discriminator(pixels)
    assert together.shape == (4, 1, 4, 4)
    for number in range(4):
        apart = discriminator(pixels[number : number + 1])
        torch.testing.assert_close(apart[0], together[number], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(frozen_scores(discriminator, pixels), together)


def test_the_adversary_starts_at_its_step(tokenizer):
    objective = made(tokenizer, adversarial=0.5, adversarial_start=7)
    for step, there in ((6, False), (7, True), (8, True)):
        parts = objective.loss(tokenizer, images(), NOTHING, random(step)).parts
        assert ("adversarial" in parts) == ("discriminator" in parts) == there
    assert made(tokenizer).trained is None


# The perceptual distance


@pytest.mark.parametrize("channels", [1, 3])
def test_the_perceptual_distance(channels):
    distance = PerceptualDistance()
    assert not list(distance.parameters())  # frozen
    generator = torch.Generator().manual_seed(0)
    image, other = (torch.rand(2, channels, 32, 32, generator=generator) * 2 - 1 for _ in range(2))
    assert distance(image, image) == 0
    assert distance(image, other) > distance(image, image.lerp(other, 0.1)) > 0
    image.requires_grad_(True)
    other.requires_grad_(True)
    distance(image, other).backward()
    assert image.grad.any()
    assert other.grad is None or not other.grad.any()


# Codes that nobody uses


def test_usage_and_perplexity_by_hand():
    usage, perplexity = usage_of(torch.tensor([3.0, 1.0, 0.0, 0.0]))
    assert usage == 0.5
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert perplexity.item() == pytest.approx(math.exp(entropy), rel=1e-5)
    usage, perplexity = usage_of(torch.ones(8))
    assert usage == 1 and perplexity.item() == pytest.approx(8, rel=1e-5)


def test_the_usage_in_the_log_is_that_of_the_batch(tokenizer):
    objective = made(tokenizer)
    tokens = tokenizer.quantizer.nearest(tokenizer.features(images()))
    counts = torch.bincount(tokens.flatten(), minlength=16).float()
    for repeat in (1, 2):
        parts = objective.loss(tokenizer, images(), NOTHING, random()).parts
        assert (parts["usage"], parts["perplexity"]) == usage_of(counts)
        assert torch.equal(objective.state.counts, repeat * counts)


def test_unused_codes_become_features_of_the_batch(tokenizer):
    objective = made(tokenizer, revive_every=3)
    codes, used = tokenizer.quantizer.embedding.weight, torch.zeros(16, dtype=torch.bool)
    for step in range(9):
        before, pixels = codes.detach().clone(), images(seed=step)
        due, counts = step in (3, 6), objective.state.counts.clone()
        assert torch.equal(counts > 0, used)
        objective.loss(tokenizer, pixels, NOTHING, random(step))
        changed = (codes != before).any(dim=1)
        if due:
            assert 0 < (~used).sum() < 16
            assert torch.equal(changed, ~used)  # all of these, and no bit of the others
            features = tokenizer.quantizer.as_rows(tokenizer.features(pixels)).flatten(0, 2)
            for code in codes[changed]:
                assert (features == code).all(dim=1).any()
            assert len(codes[changed].unique(dim=0)) > 1
            used = torch.zeros(16, dtype=torch.bool)
        else:
            assert not changed.any()
        tokens = tokenizer.quantizer.nearest(tokenizer.features(pixels))
        used |= torch.bincount(tokens.flatten(), minlength=16) > 0


def test_codes_are_replaced_in_the_first_micro_batch_only(tokenizer):
    objective = made(tokenizer, revive_every=2)
    codes = tokenizer.quantizer.embedding.weight
    objective.loss(tokenizer, images(), NOTHING, random(1))
    start = codes.detach().clone()
    objective.loss(tokenizer, images(2), NOTHING, random(2, slice(0, 2)))
    after = codes.detach().clone()
    assert not torch.equal(after, start)
    objective.loss(tokenizer, images(2, seed=1), NOTHING, random(2, slice(2, 4)))
    assert torch.equal(codes, after)


def test_codes_are_never_replaced_without_being_asked(tokenizer):
    objective = made(tokenizer)
    before = tokenizer.quantizer.embedding.weight.detach().clone()
    for step in range(4):
        objective.loss(tokenizer, images(), NOTHING, random(step))
    assert torch.equal(tokenizer.quantizer.embedding.weight, before)
