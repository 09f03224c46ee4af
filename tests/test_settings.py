"""One object says how a picture is drawn, for files, for the command line and for programs."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from gensynth.cli.options import drawing_options
from gensynth.errors import UsageError
from gensynth.settings import FURTHER, Setting, Settings, as_options, known_settings, option_of

# A value of every setting, and how JSON holds it.
EXAMPLES = {
    "steps": (20, 20),
    "guidance": (0.3, 0.3),
    "negative": ("blurred, grey", "blurred, grey"),
    "guidance_interval": ((0.1, 0.75), [0.1, 0.75]),
    "guide": ("dico-fashion", "dico-fashion"),
    "size": ((32, 48), [32, 48]),
    "scheduler": ("FlowODEScheduler", "FlowODEScheduler"),
    "scheduler_options": (
        {"method": "heun", "sample_eps": 1e-3, "last_step": None, "greedy": True, "word": "a=b c"},
    )
    * 2,
    "timesteps": ((999, 500, 3), [999, 500, 3]),
    "timestep_respacing": ("10,20,30", "10,20,30"),
    "eta": (0.3, 0.3),
    "strategy": ("progressive", "progressive"),
    "strategy_options": ({"strength": 0.4, "upsample": "latents"},) * 2,
}


@pytest.fixture
def brightness(monkeypatch):
    """A further setting, as a program of one's own brings it."""
    about = Setting("How bright.", kind=float, metavar="SHARE", write=lambda share: [f"{share:g}"])
    monkeypatch.setitem(FURTHER, "brightness", about)
    return about


def test_there_is_an_example_of_every_setting():
    assert list(EXAMPLES) == list(known_settings())


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_file_gives_the_same_settings(name):
    value, in_json = EXAMPLES[name]
    settings = Settings.of(**{name: value})
    assert settings.get(name) == value and settings.given() == {name: value}
    content = json.loads(json.dumps(settings.to_json()))
    assert content == {name: in_json}
    assert Settings.from_json(content) == settings


def test_all_at_once_and_none():
    everything = Settings.of(**{name: value for name, (value, _) in EXAMPLES.items()})
    assert Settings.from_json(json.loads(json.dumps(everything.to_json()))) == everything
    assert Settings().to_json() == {} and Settings.from_json({}) == Settings()
    # A recipe holds other things too.
    assert Settings.from_json({"label": 3, "seed": 4, "steps": 5}) == Settings(steps=5)


def test_a_nought_is_a_value():
    assert Settings(guidance=0.0).given() == {"guidance": 0.0}
    assert Settings.from_json(Settings(guidance=0.0).to_json()).guidance == 0.0


def test_one_number_is_a_square():
    assert Settings.from_json(Settings(size=32).to_json()).size == (32, 32)


def test_a_guide_is_written_by_name(make_pipeline):
    guide = make_pipeline()
    guide.name = "worse"
    assert Settings(guide=guide).to_json() == {"guide": "worse"}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("step", "steps"), ("guidence", "guidance"), ("shceduler", "scheduler")],
)
def test_an_unknown_setting_names_the_nearest(name, nearest):
    words = f"no setting '{name}'. Did you mean '?{nearest}'?[?] Known: steps, guidance, "
    with pytest.raises(UsageError, match=words):
        Settings.of(**{name: 1})
    with pytest.raises(UsageError, match=f"no setting '{name}'"):
        Settings().but(**{name: 1})


def test_but_changes_some_and_leaves_the_others():
    before = Settings(steps=5, guidance=2.0, size=16)
    after = before.but(steps=7, size=None, scheduler="DDPMScheduler")
    assert after == Settings(steps=7, guidance=2.0, scheduler="DDPMScheduler")
    assert before == Settings(steps=5, guidance=2.0, size=16)
    assert before.but() == before


def read_back(words: list[str]) -> Settings:
    """The settings of a command with these words behind it."""
    app, given = typer.Typer(), []

    def command(settings: Settings) -> None:
        given.append(settings)

    app.command()(drawing_options(command))
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return given[0]


@pytest.mark.parametrize("name", [*EXAMPLES, None])
def test_the_command_line_reads_what_it_is_told_to_write(name):
    chosen = EXAMPLES if name is None else {name: EXAMPLES[name]}
    settings = Settings.of(**{key: value for key, (value, _) in chosen.items()})
    words = as_options(settings.to_json())
    assert words[::2] == [
        option_of(key)
        for key in chosen
        for _ in range(len(EXAMPLES[key][0]) if key.endswith("options") else 1)
    ]
    assert read_back(words) == settings


@pytest.mark.parametrize("scale", [0, 1, 1.5, 0.1 + 0.2, 7, 1e-7, 1 / 3])
def test_scales_are_written_as_they_are_read(scale):
    written = read_back(as_options({"guidance": scale})).guidance
    assert written == pytest.approx(scale, rel=1e-9, abs=0)


def test_a_further_setting_is_one_like_the_others(brightness):
    settings = Settings.of(steps=5, brightness=0.5)
    assert settings.further == {"brightness": 0.5} and settings.get("brightness") == 0.5
    content = json.loads(json.dumps(settings.to_json()))
    assert content == {"steps": 5, "brightness": 0.5}
    assert Settings.from_json(content) == settings
    assert settings.but(brightness=None) == Settings(steps=5)
    assert settings.but(steps=None).given() == {"brightness": 0.5}
    assert as_options(content) == ["--steps", "5", "--brightness", "0.5"]
    assert read_back(as_options(content)) == settings
    with pytest.raises(UsageError, match=r"Did you mean '?brightness"):
        Settings.of(brightnes=1)


def test_a_further_setting_acts_on_the_model_call(brightness, monkeypatch, make_pipeline):
    def check(pipeline, share):
        if not 0 <= share <= 1:
            raise UsageError("brightness is a share.")
        return share / 2

    def act(predict, share):
        return lambda sample, time, conditions: predict(sample, time, conditions) + share

    draw = make_pipeline()
    plain = np.asarray(draw([1], [1])[0], dtype=int)
    monkeypatch.setitem(FURTHER, "brightness", Setting("How bright.", check=check, act=act))
    assert draw.resolve(Settings.of(brightness=0.5)).settings.further == {"brightness": 0.25}
    brighter = np.asarray(draw([1], [1], brightness=0.5)[0], dtype=int)
    assert (brighter >= plain).all() and brighter.mean() > plain.mean() + 5
    assert np.array_equal(np.asarray(draw([1], [1])[0], dtype=int), plain)
    with pytest.raises(UsageError, match="brightness is a share"):
        draw([1], [1], brightness=2)


def test_a_further_setting_is_gone_when_it_is_taken_away():
    assert FURTHER == {}
    with pytest.raises(UsageError, match="no setting 'brightness'"):
        Settings.of(brightness=0.5)
