"""The list of commands says of each, on one line, what it does."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def shown(width):
    done = subprocess.run(
        [sys.executable, "-m", "gensynth", "--help"],
        env={"COLUMNS": width, "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return done.stdout.partition("Commands:\n")[2].partition("\n\n")[0]


def test_each_command_fits_on_a_line():
    lines = shown("80").splitlines()
    assert len(lines) == 19
    for line in lines:
        assert re.fullmatch(r"  [a-z]+ +[A-Z].*[^.]\.", line) and len(line) <= 80, line


def test_a_narrow_terminal_loses_no_word():
    narrow = shown("60")
    assert len(narrow.splitlines()) > 17 and "..." not in narrow
    assert narrow.split() == shown("80").split()
