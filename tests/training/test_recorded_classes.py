import json

from gensynth.training.session.output import recorded_classes


def test_the_newest_checkpoint_says_which_classes_a_run_began_with(tmp_path):
    assert recorded_classes(tmp_path) is None
    for step, text in ((4, json.dumps(["a", "b"])), (8, json.dumps(["b", "a"])), (12, "[")):
        folder = tmp_path / "checkpoints" / f"step-{step:08d}" / "model"
        folder.mkdir(parents=True)
        (folder / "labels.json").write_text(text)
    assert recorded_classes(tmp_path) == ["b", "a"]  # the newest is damaged
