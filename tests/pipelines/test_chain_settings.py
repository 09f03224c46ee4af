"""timesteps, timestep_respacing and eta of a diffusion, from a call to a recipe and back."""

import json

import numpy as np
import pytest
import torch

import gensynth
from gensynth.errors import UsageError
from gensynth.samplers.registry import fitting
from gensynth.sampling.outputs import read_recipe
from gensynth.settings import Settings, as_options

DDIM = {"scheduler": "RespacedDDIMScheduler"}
CHAIN = ("DDPMScheduler", "RespacedDDIMScheduler")


@pytest.fixture(scope="module")
def draw(make_pipeline):
    return make_pipeline("epsilon", steps=7)


def arrays(pictures) -> np.ndarray:
    return np.stack([np.asarray(picture).astype(int) for picture in pictures])


def asked(draw, **settings) -> list[float]:
    """The times at which a call asks the model."""
    times = []
    hook = draw.model.register_forward_pre_hook(
        lambda module, args: times.append(float(args[1].flatten()[0]))
    )
    draw([1], [1], **settings)
    hook.remove()
    return times


@pytest.mark.parametrize("scheduler", CHAIN)
def test_a_call_visits_the_timesteps_it_is_given(draw, scheduler):
    assert asked(draw, scheduler=scheduler, timesteps=[998, 400, 3]) == [998, 400, 3]
    assert asked(draw, scheduler=scheduler, timesteps=range(900, 0, -300)) == [900, 600, 300]
    sections = asked(draw, scheduler=scheduler, timestep_respacing="1,2,3")
    assert sections == [999, 833, 667, 666, 334, 0]
    assert asked(draw, scheduler=scheduler, timestep_respacing=[1, 2, 3]) == sections
    assert asked(draw, scheduler=scheduler, timestep_respacing="1, 2, 3") == sections
    assert asked(draw, scheduler=scheduler, timestep_respacing="ddim4") == [750, 500, 250, 0]
    assert asked(draw, scheduler=scheduler, timestep_respacing=3) == [999, 500, 0]
    assert len(asked(draw, scheduler=scheduler)) == 7


@pytest.mark.parametrize("scheduler", CHAIN)
def test_spacing_in_steps_and_in_words_is_one(draw, scheduler):
    settings = {"scheduler": scheduler, "guidance": 2.0}
    plain = arrays(draw([1, 2], [3, 4], steps=21, **settings))
    words = arrays(draw([1, 2], [3, 4], timestep_respacing="21", **settings))
    assert np.array_equal(plain, words)
    listed = asked(draw, steps=21, scheduler=scheduler)
    given = arrays(draw([1, 2], [3, 4], timesteps=list(map(int, listed)), **settings))
    assert np.array_equal(plain, given)


def test_noise_of_eta_is_each_pictures_own(draw):
    together = arrays(draw([1, 2, 7], [5, 6, 7], eta=0.7, **DDIM))
    alone = arrays(draw([2], [6], eta=0.7, **DDIM))
    assert abs(together[1] - alone[0]).max() <= 1
    torch.manual_seed(1)  # nothing is drawn from the global generator
    assert np.array_equal(arrays(draw([2], [6], eta=0.7, **DDIM)), alone)
    assert not np.array_equal(arrays(draw([2], [6], eta=1.0, **DDIM)), alone)
    none = arrays(draw([2], [6], **DDIM))
    assert np.array_equal(arrays(draw([2], [6], eta=0, **DDIM)), none)
    assert not np.array_equal(none, alone)


@pytest.mark.parametrize("scheduler", CHAIN)
def test_a_chain_that_ends_early_ends_in_data(draw, scheduler, monkeypatch):
    """The model's last word, without noise on it: two ways of noise end in the same picture."""
    settings = {"scheduler": scheduler, "timesteps": (500,)}
    first = arrays(draw([1], [1], **settings))
    chain = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)
    noise = torch.randn(4, 16, 16, generator=gensynth.seeding.picture_generator(1))[None]
    with torch.inference_mode():
        epsilon = draw.model(noise, torch.tensor([500.0]), torch.tensor([1]))[:, :4]
    data = (noise - (1 - chain[500]).sqrt() * epsilon) / chain[500].sqrt()
    expected = draw.autoencoder.decode(data)[0, 0].numpy().astype(int)
    assert abs(first[0] - expected).max() <= 1


def test_clipped_data_have_their_own_noise(make_pipeline):
    """DDIM on latents far out of range, against the published steps written out."""
    draw = make_pipeline("epsilon", steps=5, **{})
    options = {"clip_sample": True, "clip_sample_range": 0.4}
    resolved = draw.resolve(Settings.of(scheduler_options=options, **DDIM))
    sampler = resolved.sampler
    chain = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    sample = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    visited, states = [999, 749, 500, 250, 0], []

    def ask(x, time, conditions):
        return torch.cat([0.5 * x + 0.3, x], dim=1)

    steps = list(sampler.walk(sampler.adapted(ask), sample, 5, {}, [torch.Generator()]))
    x = sample.double()
    for index, timestep in enumerate(visited):
        alpha = chain[timestep]
        before = chain[visited[index + 1]] if index < 4 else torch.tensor(1.0)
        data = ((x - (1 - alpha).sqrt() * (0.5 * x + 0.3)) / alpha.sqrt()).clamp(-0.4, 0.4)
        epsilon = (x / alpha.sqrt() - data) / (1 / alpha - 1).sqrt()
        x = before.sqrt() * data + (1 - before).sqrt() * epsilon
        states.append(x)
    for step, expected in zip(steps, states, strict=True):
        torch.testing.assert_close(step.sample.double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"timesteps": [0, 500]}, "timesteps must be whole numbers from 0, each below the one"),
        ({"timesteps": [500, 500]}, "timesteps must be whole numbers from 0, each below"),
        ({"timesteps": []}, "timesteps must be whole numbers"),
        ({"timesteps": [500.0, 1.0]}, "timesteps must be whole numbers"),
        ({"timesteps": [5, -1]}, "timesteps must be whole numbers from 0"),
        ({"timesteps": [1000, 0]}, "timesteps must be from 999 .noise. to 0 .data., got 1000"),
        ({"timesteps": [9, 0], "steps": 3}, "the timesteps are 2, but steps is 3; leave steps out"),
        ({"timesteps": [9, 0], "timestep_respacing": "2"}, "timesteps or timestep_respacing, not"),
        ({"timestep_respacing": "10,20,"}, 'timestep_respacing must be .*"10,20,30", or "ddim50"'),
        ({"timestep_respacing": "ddim"}, "timestep_respacing must be"),
        ({"timestep_respacing": "1.5"}, "timestep_respacing must be"),
        ({"timestep_respacing": [1.5]}, "timestep_respacing must be"),
        ({"timestep_respacing": True}, "timestep_respacing must be"),
        ({"timestep_respacing": "9" * 5000}, "timestep_respacing must be"),
        ({"timestep_respacing": "ddim47"}, "no whole stride makes 47 .* Nearest: 46 or 48"),
        ({"timestep_respacing": "400,700"}, "section 2 of 2 has 500 timesteps"),
        ({"eta": 1.5}, "eta must be a number from 0 to 1, got 1.5"),
        ({"eta": float("nan")}, "eta must be a number from 0 to 1"),
        ({"eta": "0.5"}, "eta must be a number from 0 to 1"),
        ({"eta": 0.5, "scheduler": "DDPMScheduler"}, "DDPMScheduler cannot be told eta; of the .*"),
    ],
)
def test_what_cannot_be_is_refused(draw, settings, words):
    with pytest.raises(UsageError, match=words):
        draw([1], [1], **{**DDIM, **settings})


@pytest.mark.parametrize(
    "given", [{"timesteps": [9, 0]}, {"timestep_respacing": "9"}, {"eta": 1.0}]
)
def test_advice_names_schedulers_that_can(draw, tiny_pipeline, given):
    (name,) = given
    for other in fitting("epsilon"):
        try:
            draw([1], [1], scheduler=other, **given)
        except UsageError as error:
            able = str(error).split("of the schedulers that fit this model, ")[1].split(" can.")[0]
            for scheduler in able.split(" and "):
                draw([1], [1], scheduler=scheduler, **given)
    with pytest.raises(UsageError, match=f"cannot be told {name}.* none can"):
        tiny_pipeline([1], [1], **given)


def test_recipes_and_words_draw_the_same_again(draw):
    settings = Settings.of(timestep_respacing="2,3", eta=0.25, guidance=1.5, **DDIM)
    complete = draw.resolve(settings).settings
    assert complete.steps == 5
    recipe = json.loads(json.dumps(complete.to_json()))
    assert recipe["timestep_respacing"] == "2,3" and recipe["eta"] == 0.25
    again = Settings.from_json(recipe)
    assert np.array_equal(arrays(draw.draw([1], [1], again)), arrays(draw.draw([1], [1], settings)))
    words = as_options(recipe)
    assert words[words.index("--timestep-respacing") + 1] == "2,3"
    assert words[words.index("--eta") + 1] == "0.25"


def test_optimized_drawing_lists_the_given_times(make_pipeline):
    plain, fast = make_pipeline("epsilon"), make_pipeline("epsilon")
    fast.optimize(compile=False, tables=True, graphs=False)
    for settings in (
        {"timesteps": [900, 41, 7]},
        {"timestep_respacing": "2,1", "eta": 0.5, **DDIM},
    ):
        ours = arrays(fast([1, 2], [1, 2], guidance=2.0, **settings))
        assert abs(ours - arrays(plain([1, 2], [1, 2], guidance=2.0, **settings))).max() <= 1


def test_saved_folders_take_the_published_steps(make_pipeline, tmp_path):
    draw = make_pipeline("epsilon")
    draw.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    for module in (index["scheduler"][0], "diffusers"):  # diffusers' was written before
        index["scheduler"] = [module, "DDPMScheduler"]
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        loaded = gensynth.load(tmp_path, device="cpu")
        loaded.scheduler.set_timesteps(21)
        assert (
            loaded.scheduler.timesteps.tolist()
            == draw.resolve(Settings(timestep_respacing="21")).sampler.timesteps
        )


def test_the_command_line_writes_them_into_recipes(make_pipeline, command, tmp_path):
    draw = make_pipeline("epsilon")
    draw.save_pretrained(tmp_path / "model")
    words = ["--model", tmp_path / "model", "--num", 1, "--seed", 7, "--labels", 1]
    chain = ["--scheduler", "RespacedDDIMScheduler", "--timesteps", "900,31,2", "--eta", 1]
    done = command("sample", *words, *chain, "--out", tmp_path / "first")
    assert done.returncode == 0, done.stderr
    recipe = read_recipe(tmp_path / "first" / "000000.png")
    assert (recipe["timesteps"], recipe["eta"], recipe["steps"]) == ([900, 31, 2], 1.0, 3)
    done = command("sample", *words, *as_options(recipe), "--out", tmp_path / "second")
    assert done.returncode == 0, done.stderr
    first, second = (tmp_path / name / "000000.png" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    for bad in (["--timesteps", "1e3,0"], ["--timesteps", "0,9"], ["--timestep-respacing", "a"]):
        assert command("sample", *words, *bad, "--out", tmp_path / "third").returncode == 2
    assert "--eta" not in command("edit", "--help").stdout
