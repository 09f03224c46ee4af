"""Which implementation an operator takes, and in what words it says why."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from gensynth.errors import UsageError
from gensynth.ops import OPERATORS, choice, explain, linear_attention, local_attention, use
from gensynth.ops.checks import check_alike
from gensynth.ops.precision import autocast_inputs

LOCAL = {"height": 2, "width": 2, "window": 1}


@pytest.mark.parametrize(
    ("mode", "refusal", "slower", "expected"),
    [
        ("auto", None, None, True),
        ("auto", None, "small", False),
        ("auto", "no GPU", None, False),
        ("reference", None, None, False),
        ("triton", None, "small", True),
    ],
)
def test_choice(mode, refusal, slower, expected):
    with use(mode):
        assert choice.kernel_chosen("op", refusal, slower) is expected


def test_a_demanded_kernel_that_cannot_run_is_an_error():
    with use("triton"), pytest.raises(UsageError, match="the kernel of op cannot run: no GPU"):
        choice.kernel_chosen("op", "no GPU", None)


def test_modes_are_checked_and_restored():
    before = choice.mode()
    with pytest.raises(UsageError, match="'cuda'"), use("cuda"):
        pass
    with pytest.raises(ZeroDivisionError), use("reference"):
        assert choice.mode() == "reference"
        _ = 1 / 0
    assert choice.mode() == before


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def elsewhere() -> dict:
    """What a process says that is told to use definitions and not to interpret kernels."""
    code = """
import json, sys
import torch
import gensynth.ops
from gensynth.ops import choice
modules = [m for m in sys.modules if m.startswith("gensynth") and "triton" in m]
refusal = choice.refusal_of_tensors(torch.zeros(1))
print(json.dumps({"mode": choice.mode(), "modules": modules, "refusal": refusal}))
"""
    return json.loads(run(code, GENSYNTH_OPS="reference", TRITON_INTERPRET="0").stdout)


def test_the_environment_chooses(elsewhere):
    assert elsewhere["mode"] == "reference"
    code = "from gensynth.ops import choice; print(choice.mode())"
    assert (
        "GENSYNTH_OPS must be one of auto, triton, reference"
        in run(code, GENSYNTH_OPS="fast").stderr
    )


def test_kernels_are_imported_when_they_run(elsewhere):
    assert elsewhere["modules"] == []


def test_refusals_of_tensors():
    assert "float64" in choice.refusal_of_tensors(torch.zeros(1, dtype=torch.float64))
    assert choice.refusal_of_tensors(torch.zeros(1, device="meta")) == "the device is meta"


def test_a_cpu_without_the_interpreter_is_told_what_to_set(elsewhere):
    assert "TRITON_INTERPRET=1" in elsewhere["refusal"]


def test_compiled_code_asks_for_the_device_once():
    marked = torch.compiler.assume_constant_result(lambda: None)
    assert vars(choice.refusal_of_device) == vars(marked)


def test_explain():
    q = torch.zeros(1, 1, 8, 16)
    with use("reference"):
        assert explain("linear_attention", q, q, q) == "definition: the mode is reference"
    with use("auto"):
        assert explain("linear_attention", q, q, q).startswith("definition: ")
    wide = torch.zeros(1, 1, 8, 300)
    with use("triton"):
        assert explain("linear_attention", wide, wide, wide).startswith("error: ")
    with pytest.raises(UsageError, match="linear_attention, local_attention, dwconv_gelu_pool"):
        explain("attention", q)


def test_unlike_tensors_are_named():
    one, two = torch.zeros(1), torch.zeros(1, dtype=torch.float16)
    with pytest.raises(UsageError, match="k must have the type of q, float32, got float16"):
        check_alike(q=one, k=two)
    with pytest.raises(UsageError, match="v must be on the device of q, cpu, got meta"):
        check_alike(q=one, k=None, v=one.to("meta"))


def test_inputs_under_autocast():
    x, labels = torch.zeros(2), torch.zeros(2, dtype=torch.long)
    assert autocast_inputs(x, labels) == (x, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = autocast_inputs(x, labels)
    assert [t.dtype for t in cast] == [torch.bfloat16, torch.long]


def test_mixed_types_are_refused_but_under_autocast():
    q, v = torch.zeros(1, 1, 8, 16), torch.zeros(1, 1, 8, 16, dtype=torch.bfloat16)
    with pytest.raises(UsageError, match="v must have the type of q"):
        linear_attention(q, q, v)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear_attention(q, q, v).dtype == torch.bfloat16


def test_explain_refuses_what_a_call_would():
    q = torch.zeros(1, 1, 4, 8)
    with pytest.raises(UsageError, match=r"q must be \[B, H, N, D\], got shape \[1, 4, 8\]"):
        explain("linear_attention", q[0], q[0], q[0])
    with pytest.raises(UsageError, match="k must have the type of q"):
        explain("linear_attention", q, q.half(), q)
    with pytest.raises(UsageError, match="window must be a whole number from 1, got 0"):
        explain("local_attention", q, q, q, height=2, width=2, window=0)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("value", [None, np.zeros((1, 1, 4, 8)), 3])
def test_what_is_no_tensor_is_refused_by_name(name, value):
    with pytest.raises(UsageError, match=f"(q|x) must be a tensor, got {type(value).__name__}"):
        OPERATORS[name](value, value, value, **({} if "local" not in name else LOCAL))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": 10**12}, "window must be at most 32768, got 1000000000000"),
        ({"scale": "a"}, "scale must be a number or None, got 'a'"),
        ({"pool_weight": torch.ones(2, 2, dtype=torch.int64), "down_factor": 2}, "floating type"),
        ({"pool_weight": 3, "down_factor": 2}, "pool_weight must be a tensor, got int"),
    ],
)
def test_values_that_local_attention_refuses(changes, words):
    q = torch.zeros(1, 1, 4, 8)
    with pytest.raises(UsageError, match=words):
        local_attention(q, q, q, **(LOCAL | changes))


@pytest.mark.parametrize("eps", [-1.0, float("nan"), "x"])
def test_an_eps_that_is_no_number_from_0(eps):
    q = torch.zeros(1, 1, 4, 8)
    with pytest.raises(UsageError, match="eps must be a number from 0"):
        linear_attention(q, q, q, eps=eps)
