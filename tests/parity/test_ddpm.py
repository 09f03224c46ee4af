"""iDDPM training and sampling are the published functions: facebookresearch/DiT, diffusion/."""

import inspect

import diffusers
import pytest
import torch
from reference import Reference, load_reference

from gensynth.config import DDPM
from gensynth.objectives.ddpm import DDPMObjective, Diffusion, linear_betas
from gensynth.schedulers import create_scheduler


def test_schedule_tables():
    reference = load_reference("diffusion/schedule.safetensors")
    diffusion = Diffusion(linear_betas())
    reference.check("betas", linear_betas())
    reference.check("alphas_cumprod", diffusion.tables["alphas_cumprod"])
    reference.check("posterior_variance", diffusion.tables["posterior_variance"])
    reference.check("posterior_log_variance_clipped", diffusion.tables["posterior_log_variance"])
    reference.check("posterior_mean_coef1", diffusion.tables["posterior_coef_x0"])
    reference.check("posterior_mean_coef2", diffusion.tables["posterior_coef_xt"])


def test_respaced_timesteps():
    reference = load_reference("diffusion/schedule.safetensors")
    for respacing in ("250", "50"):
        scheduler = create_scheduler("DDPMScheduler", "epsilon")
        scheduler.set_timesteps(int(respacing))
        expected = reference.output[f"timestep_map.{respacing}"].flip(0)
        assert scheduler.timesteps.tolist() == expected.tolist()


def test_training_losses():
    reference = load_reference("diffusion/training_losses.safetensors")
    x = reference.input
    objective = DDPMObjective(DDPM(name="ddpm"), null_label=0)
    diffusion = objective.diffusion
    xt = diffusion.add_noise(x["x_start"], x["noise"], x["t"])
    reference.check("x_t", xt)
    mean, log_variance = diffusion.posterior(x["x_start"], xt, x["t"])
    reference.check("q_posterior_mean", mean)
    reference.check("q_posterior_log_variance", log_variance.expand_as(mean))
    mean, log_variance = diffusion.predicted(x["model_output"], xt, x["t"])
    reference.check("p_mean_variance.mean", mean)
    reference.check("p_mean_variance.log_variance", log_variance)
    mse, bound = objective.terms(x["model_output"], x["x_start"], xt, x["noise"], x["t"])
    reference.check("mse.mse", mse)
    reference.check("mse.vb", bound)
    reference.check("mse.loss", mse + bound)
    loss = objective.loss_of_output(x["model_output"], x["x_start"], xt, x["noise"], x["t"])
    torch.testing.assert_close(loss.total, reference.output["mse.loss"].mean())


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
    options = {"eta": reference.config["eta"]}
    # The reference recomputes the noise from a clipped x0: use_clipped_model_output.
    options["use_clipped_model_output"] = reference.config["clip_denoised"]
    check_loop(reference, scheduler, replayed, lambda output: output.chunk(2, dim=1)[0], **options)


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
        sample = scheduler.step(output, timestep, sample, **options).prev_sample
        torch.testing.assert_close(
            sample, reference.output["x"][index], atol=reference.atol, rtol=reference.rtol
        )
