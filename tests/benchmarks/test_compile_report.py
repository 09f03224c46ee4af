"""Every shipped launch of every kernel compiles for sm_80 and sm_90 as it should."""

import pytest

from gensynth.errors import UsageError
from gensynth.ops import OPERATORS, choice
from gensynth_benchmarks import compile_report

pytestmark = pytest.mark.skipif(not choice.HAS_TRITON, reason="Triton is not installed")

# Of the inner loop of the exact forward kernel on sm_90, for 16-bit images.
MOST_INSTRUCTIONS_PER_ELEMENT = 50


@pytest.fixture(scope="module")
def rows() -> list[compile_report.Compiled]:
    return compile_report.report_elsewhere()


@pytest.mark.long
def test_no_launch_has_a_problem(rows):
    """No spills, registers and shared memory within limits, tensor cores where there is a dot."""
    assert {row.operator for row in rows} == set(OPERATORS)
    assert {row.target for row in rows} == {80, 90}
    assert [(r.kernel, r.specimen, r.target, r.problems) for r in rows if r.problems] == []
    assert any(row.tensor_core for row in rows)


@pytest.mark.long
def test_instructions_of_the_depthwise_kernel(rows):
    counts = {
        (row.specimen, row.target): row.instructions_per_element
        for row in rows
        if row.operator == "dwconv_gelu_pool" and row.instructions_per_element is not None
    }
    assert counts
    assert {k: v for k, v in counts.items() if not 20 < v < MOST_INSTRUCTIONS_PER_ELEMENT} == {}


def test_problems_are_found():
    row = compile_report.Compiled(
        "op", "", "kernel", 80, {}, 4, 256, 3, 200 * 1024, 0, 1, 1, has_dot=True, half=True
    )
    found = compile_report.problems(row)
    assert [f.split()[0] for f in found] == ["3", "256", "204800", "no"]


def test_the_interpreter_compiles_nothing():
    if choice.INTERPRETING:
        with pytest.raises(UsageError, match="TRITON_INTERPRET"):
            compile_report.report()
