"""`gensynth doctor` says what is there, and for each operator what would run and why."""

import torch

from gensynth.cli import main
from gensynth.ops import OPERATORS, doctor, use


def test_the_machine():
    found = dict(doctor.describe_machine())
    assert found["torch"] == torch.__version__
    assert found["GENSYNTH_OPS"] in ("auto", "triton", "reference")
    assert ("none" in found["GPU"]) is not torch.cuda.is_available()


def test_every_operator_has_a_reason():
    with use("auto"):
        rows = doctor.describe_operators()
    assert {operator for operator, _, _ in rows} == set(OPERATORS)
    for _, _, runs in rows:
        assert runs == "kernel" or runs.startswith("definition: ")
    if not torch.cuda.is_available():
        assert all(runs != "kernel" for _, _, runs in rows)


def test_a_forced_definition():
    with use("reference"):
        assert {runs for *_, runs in doctor.describe_operators()} == {
            "definition: the mode is reference"
        }


def test_the_command(capsys):
    try:
        main(["doctor"])
    except SystemExit as done:
        assert not done.code
    printed = capsys.readouterr().out
    assert "triton" in printed and "FLUX with CLEAR" in printed
