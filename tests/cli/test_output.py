"""Standard output that cannot show everything, that nobody reads, or that is full."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gensynth.cli.output import show_everything

ROOT = Path(__file__).parents[2]
SAY = """
import sys
from gensynth import cli
cli.register_commands = lambda: cli.app.command("say")(lambda: print(sys.argv[1]))
cli.main(["say"])
"""
# Two commands, or typer would make the only one the program itself.
SAY = SAY.replace("cli.main", "cli.app.command('other')(lambda: None)\ncli.main", 1)


def said(text: str | bytes, encoding: str, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", SAY, text]
    return subprocess.run(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("2.05 – 猫", "latin-1", b"2.05 - ?\n"),
        ("Größe", "latin-1", "Größe\n".encode("latin-1")),
        ("Größe − 1", "ascii", b"Gr??e - 1\n"),
        ("猫 – 1", "utf-8", "猫 – 1\n".encode()),
        (b"out-\xff\xe4", "utf-8", b"out-\xff\xe4\n"),  # a file's name that is no text
        (b"out-\xff", "ascii", b"out-\xff\n"),
    ],
)
def test_what_cannot_be_shown_is_replaced(text, encoding, shown):
    done = said(text, encoding, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (0, shown, b"")


@pytest.mark.parametrize("length", [5, 100_000])  # within and beyond what Python holds back
def test_a_pipe_that_nobody_reads_ends_quietly(length):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = said("x" * length, "utf-8", stdout=pipe)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("length", [5, 100_000])
def test_a_full_disk_behind_standard_output_is_said(length):
    with Path("/dev/full").open("wb") as full:
        done = said("x" * length, "utf-8", stdout=full)
    assert done.returncode == 6
    assert done.stderr.startswith(b"error: ") and done.stderr.count(b"\n") == 1
    assert b"standard output" in done.stderr and b"No space left on device" in done.stderr


def test_without_standard_output_a_command_runs():
    code = f"import sys; sys.stdout = None\n{SAY}"
    done = subprocess.run([sys.executable, "-c", code, "x"], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_streams_that_tests_put_in_place_are_left_alone(capsys):
    show_everything()
    print("–")
    assert capsys.readouterr().out == "–\n"


WAIT = """
import signal, sys, time
from gensynth import cli
from gensynth.temporary import owned_file
def wait():
    path, kept = owned_file(".npy")
    try:
        print(path, flush=True)
        time.sleep(60)
    finally:
        path.unlink()
cli.register_commands = lambda: cli.app.command("wait")(wait)
cli.app.command("other")(lambda: None)
cli.main(["wait"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_in_order(number, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    made = Path(process.stdout.readline().strip())
    assert made.is_file()
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (128 + number, "terminated.\n")
    assert not made.exists()


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + WAIT
    process = subprocess.Popen(
        [sys.executable, "-c", code.replace("time.sleep(60)", "time.sleep(1)")],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)  # as below nohup
    time.sleep(0.1)
    process.communicate(timeout=30)
    assert process.returncode == 0
