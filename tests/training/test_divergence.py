"""After a divergence the same folder goes on with a lower rate, from weights that are good."""

from dataclasses import replace

import pytest
import yaml
from tiny import losses, weights, write_experiment

from gensynth.errors import DivergedError, RefusedError
from gensynth.experiments.read import load_experiment
from gensynth.training.loop import train


def steps_of(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_the_advice_works(tmp_path):
    config = write_experiment(tmp_path, **{"optimizer.warmup_steps": 0})
    run = train(load_experiment(config, ["training.steps=4"]))
    high = ["optimizer.lr=1e38", "optimizer.clip=null"]
    with pytest.raises(DivergedError, match=r"step-00000004\. Run the command again with a lower"):
        train(load_experiment(config, high))
    assert steps_of(run) == ["step-00000004"]
    train(load_experiment(config, ["optimizer.lr=1e-5", "optimizer.clip=1.0"]))
    # as a run that never met the high rate
    other = write_experiment(tmp_path / "other", **{"optimizer.warmup_steps": 0})
    train(load_experiment(other, ["training.steps=4"]))
    undisturbed = train(load_experiment(other, ["optimizer.lr=1e-5"]))
    assert losses(run) == losses(undisturbed) and weights(run) == weights(undisturbed)


def test_changes_are_recorded_with_their_steps(tmp_path, capsys):
    config = write_experiment(tmp_path)
    run = train(load_experiment(config, ["training.steps=4"]))
    train(load_experiment(config, ["training.steps=8", "optimizer.lr=0.0005"]))
    train(load_experiment(config, ["training.steps=8", "optimizer.lr=0.0005"]))  # as before
    train(load_experiment(config, ["optimizer.lr=0.0005", "optimizer.schedule=cosine"]))
    said = "optimizer.lr was 0.001, now 0.0005; training.steps was 4, now 8"
    assert f"step-00000004; {said}" in capsys.readouterr().err
    text = (run / "experiment.yaml").read_text()
    assert text.splitlines()[:4] == [
        "# after step 4: optimizer.lr was 0.001, now 0.0005",
        "# after step 4: training.steps was 4, now 8",
        "# after step 8: optimizer.schedule was 'constant', now 'cosine'",
        "# after step 8: training.steps was 8, now 12",
    ]
    assert yaml.safe_load(text)["optimizer"]["lr"] == 0.0005
    assert load_experiment(run / "experiment.yaml").optimizer.schedule == "cosine"


def test_weights_whose_loss_is_not_finite_are_set_aside(tmp_path, monkeypatch):
    """They are finite themselves, and were saved before their loss was known."""
    config = write_experiment(tmp_path, **{"checkpoint.every": 1, "training.log_every": 3})
    train(load_experiment(config, ["training.steps=2"]))
    from gensynth.training.learning.learner import Learner

    backward, count = Learner.backward, 0

    def spoilt(self, *arguments, **keywords):
        nonlocal count
        loss = backward(self, *arguments, **keywords)
        count += 1  # steps 3, 4, 5: the loss of the weights after step 3 is infinite
        return replace(loss, total=loss.total * float("inf")) if count >= 2 else loss

    monkeypatch.setattr(Learner, "backward", spoilt)
    with pytest.raises(
        DivergedError, match=r"last good state: .*step-00000002.*set aside as step-00000003"
    ):
        train(load_experiment(config, ["training.steps=6"]))
    aside = {name for name in steps_of(tmp_path / "run") if name.endswith(".diverged")}
    assert "step-00000003.diverged" in aside
    monkeypatch.setattr(Learner, "backward", backward)
    run = train(load_experiment(config, ["training.steps=6", "optimizer.lr=1e-4"]))
    assert sorted(losses(run)) == [2, 3, 6]


@pytest.mark.parametrize("other", ["optimizer.betas=[0.5,0.9]", "optimizer.name=adan"])
def test_what_the_saved_state_would_overrule_may_not_change(other, tmp_path):
    config = write_experiment(tmp_path)
    train(load_experiment(config, ["training.steps=1"]))
    with pytest.raises(RefusedError, match="other settings"):
        train(load_experiment(config, [other]))


def test_precision_may_fall_to_one_without_a_scale_only(tmp_path):
    config = write_experiment(tmp_path)
    run = train(load_experiment(config, ["training.steps=1", "training.mixed_precision=bf16"]))
    with pytest.raises(RefusedError, match=r"mixed_precision=bf16 or no"):
        train(load_experiment(config, ["training.mixed_precision=fp16"]))
    assert train(load_experiment(config, ["training.steps=2"])) == run
