"""iDDPM training and sampling are the published functions: facebookresearch/DiT, diffusion/."""

import inspect

import diffusers
import pytest
import torch
from reference import Reference, load_reference

from gensynth.objectives.ddpm import (
    Diffusion,
    cosine_betas,
    full_chain,
    linear_betas,
    loss_terms,
)
from gensynth.samplers.registry import create_scheduler

TABLES = {
    "alphas_cumprod": "alphas_cumprod",
    "posterior_variance": "posterior_variance",
    "posterior_log_variance_clipped": "posterior_log_variance",
    "posterior_mean_coef1": "posterior_coef_x0",
    "posterior_mean_coef2": "posterior_coef_xt",
}


def timesteps_of(respacing: str) -> torch.Tensor:
    """The ascending timesteps that our samplers visit, as the published respacing is named."""
    scheduler = create_scheduler("RespacedDDIMScheduler", "epsilon")
    if respacing.startswith("ddim"):
        scheduler.register_to_config(timestep_spacing="leading")
    scheduler.set_timesteps(int(respacing.removeprefix("ddim")))
    return scheduler.timesteps.flip(0)


def test_schedule_tables():
    reference = load_reference("diffusion/schedule.safetensors")
    chain = full_chain()
    reference.check("betas", chain.betas)
    reference.check("squaredcos_cap_v2.betas", cosine_betas())
    for published, own in TABLES.items():
        reference.check(published, chain.tables[own])
    before, after = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    cumprod = chain.tables["alphas_cumprod"]
    reference.check("alphas_cumprod_prev", torch.cat([before, cumprod[:-1]]))
    reference.check("alphas_cumprod_next", torch.cat([cumprod[1:], after]))


@pytest.mark.parametrize("respacing", ["250", "50", "ddim25"])
def test_respaced_tables(respacing):
    reference = load_reference("diffusion/schedule.safetensors")
    timesteps = timesteps_of(respacing)
    assert torch.equal(timesteps, reference.output[f"timestep_map.{respacing}"])
    chain = Diffusion(linear_betas(), timesteps.tolist())
    reference.check(f"betas.{respacing}", chain.betas)
    for published, own in TABLES.items():
        name = f"{published}.{respacing}"
        if name in reference.output:
            reference.check(name, chain.tables[own])


@pytest.mark.parametrize("respacing", ["250", "50"])
def test_the_ancestral_sampler_visits_the_same_timesteps(respacing):
    reference = load_reference("diffusion/schedule.safetensors")
    scheduler = create_scheduler("DDPMScheduler", "epsilon")
    scheduler.set_timesteps(int(respacing))
    expected = reference.output[f"timestep_map.{respacing}"].flip(0)
    assert scheduler.timesteps.tolist() == expected.tolist()


def check_terms(reference: Reference, prefix: str, terms: dict[str, torch.Tensor]) -> None:
    """Every stored term of that prefix, and that there was one."""
    stored = [name for name in ("loss", "mse", "vb") if f"{prefix}{name}" in reference.output]
    assert stored
    for name in stored:
        reference.check(f"{prefix}{name}", terms[name])


def test_forward_process_and_posterior():
    reference = load_reference("diffusion/training_losses.safetensors")
    x = reference.input
    chain = full_chain()
    xt = chain.add_noise(x["x_start"], x["noise"], x["t"])
    reference.check("x_t", xt)
    mean, log_variance = chain.posterior(x["x_start"], xt, x["t"])
    reference.check("q_posterior_mean", mean)
    reference.check("q_posterior_log_variance", log_variance.expand_as(mean))
    mean, log_variance = chain.predicted(x["model_output"], xt, x["t"])
    reference.check("p_mean_variance.mean", mean)
    reference.check("p_mean_variance.log_variance", log_variance)
    epsilon = x["model_output"].chunk(2, dim=1)[0]
    reference.check("p_mean_variance.pred_xstart", chain.predict_x0("epsilon", epsilon, xt, x["t"]))


@pytest.mark.parametrize(
    ("prefix", "options"),
    [
        ("mse.", {}),
        ("rescaled_mse.", {"loss": "rescaled_mse"}),
        ("kl.", {"loss": "rescaled_kl"}),  # what the published code makes of use_kl
        ("xstart.", {"prediction": "x"}),
    ],
)
def test_training_losses(prefix, options):
    reference = load_reference("diffusion/training_losses.safetensors")
    x = reference.input
    terms = loss_terms(x["model_output"], x["x_start"], x["noise"], x["t"], **options)
    check_terms(reference, prefix, terms)


def test_training_loss_without_variance_channels():
    reference = load_reference("diffusion/training_losses.safetensors")
    x = reference.input
    epsilon = x["model_output"].chunk(2, dim=1)[0]
    terms = loss_terms(epsilon, x["x_start"], x["noise"], x["t"])
    assert set(terms) == {"loss", "mse"}
    check_terms(reference, "fixed_large.", terms)


@pytest.mark.parametrize(
    ("prefix", "options"),
    [("", {}), ("rescaled_mse.", {"loss": "rescaled_mse"}), ("kl.", {"loss": "rescaled_kl"})],
)
def test_training_losses_of_a_respaced_chain(prefix, options):
    reference = load_reference("diffusion/training_losses_respaced.safetensors")
    x = reference.input
    steps = timesteps_of(reference.config["timestep_respacing"])
    chain = Diffusion(linear_betas(), steps.tolist())
    seen = chain.model_timestep(x["t"])
    assert torch.equal(seen, reference.output["model_t"])
    xt = chain.add_noise(x["x_start"], x["noise"], x["t"])
    time = seen[:, None, None, None]
    range_values = 0.5 * xt.tanh() + 0.1 * torch.cos(time.float())
    output = torch.cat([x["a"] * xt + x["b"] * time, range_values], dim=1)
    terms = loss_terms(output, x["x_start"], x["noise"], x["t"], diffusion=chain, **options)
    check_terms(reference, prefix, terms)


def test_min_snr_weights_of_mdt():
    reference = load_reference("mdt/training_losses.safetensors")
    x = reference.input
    tensors = (x["model_output"], x["x_start"], x["noise"], x["t"])
    check_terms(reference, "", loss_terms(*tensors, min_snr=5.0))
    check_terms(reference, "xstart.", loss_terms(*tensors, min_snr=5.0, prediction="x"))


def test_inversion():
    reference = load_reference("diffusion/ddim_reverse.safetensors")
    x = reference.input
    scheduler = create_scheduler("RespacedDDIMScheduler", "epsilon")
    scheduler.register_to_config(timestep_spacing="leading")
    scheduler.set_timesteps(int(reference.config["timestep_respacing"].removeprefix("ddim")))
    sample = x["x"]
    states = []
    for timestep in scheduler.timesteps.flip(0)[: reference.config["steps"]]:
        output = x["a"] * sample + x["b"] * timestep
        sample = scheduler.reverse_step(output, timestep, sample)
        states.append(sample)
    reference.check("x", torch.stack(states))


def stand_in(reference: Reference, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The model the reference was made with."""
    epsilon = reference.input["a"] * x + reference.input["b"] * t
    return torch.cat([epsilon, 0.6 * x.sin() + 0.2 * torch.cos(0.01 * t).expand_as(x)], dim=1)


@pytest.fixture
def replayed(monkeypatch):
    """Makes a scheduler's noise come from a stored list."""

    def replay(scheduler, noises):
        bases = type(scheduler).__mro__
        module = next(
            inspect.getmodule(base) for base in bases if base.__module__.startswith("diffusers.")
        )
        iterator = iter(noises)
        monkeypatch.setattr(module, "randn_tensor", lambda *args, **kwargs: next(iterator))

    return replay


@pytest.mark.parametrize("clip", [False, True])
def test_ancestral_sampling(clip, replayed):
    name = "diffusion/p_sample_loop_clip" if clip else "diffusion/p_sample_loop"
    reference = load_reference(f"{name}.safetensors")
    scheduler = create_scheduler("DDPMScheduler", "epsilon")
    scheduler.register_to_config(clip_sample=clip)
    check_loop(reference, scheduler, replayed, lambda output: output)


def test_ancestral_sampling_with_fixed_variance(replayed):
    reference = load_reference("diffusion/p_sample_loop_fixed_large.safetensors")
    scheduler = create_scheduler("DDPMScheduler", "epsilon")
    scheduler = diffusers.DDPMScheduler.from_config(scheduler.config, variance_type="fixed_large")
    check_loop(reference, scheduler, replayed, lambda output: output.chunk(2, dim=1)[0])


@pytest.mark.parametrize("name", ["", "_clip", "_eta", "_clip_eta"])
def test_ddim(name, replayed):
    reference = load_reference(f"diffusion/ddim_loop{name}.safetensors")
    scheduler = create_scheduler("RespacedDDIMScheduler", "epsilon")
    scheduler.register_to_config(clip_sample=reference.config["clip_denoised"])
    eta = reference.config["eta"]
    check_loop(reference, scheduler, replayed, lambda output: output.chunk(2, dim=1)[0], eta=eta)


def check_loop(reference, scheduler, replayed, select, **options):
    """Every state of a sampling loop over the stand-in model and the stored noise."""
    steps = int(reference.config["timestep_respacing"])
    scheduler.set_timesteps(steps)
    # The reference draws in every step; diffusers does not in the last, and not for eta = 0.
    replayed(scheduler, reference.input["noises"])
    sample = reference.input["z"]
    for index, timestep in enumerate(scheduler.timesteps):
        if "model_t" in reference.output:
            assert int(timestep) == int(reference.output["model_t"][index][0])
        output = select(stand_in(reference, sample, timestep))
        taken = scheduler.step(output, timestep, sample, **options)
        sample = taken.prev_sample
        expected = {"x": sample, "pred_xstart": taken.pred_original_sample}
        for name in expected.keys() & reference.output.keys():
            torch.testing.assert_close(
                expected[name],
                reference.output[name][index],
                atol=reference.atol,
                rtol=reference.rtol,
            )
