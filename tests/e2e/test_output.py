"""Output that is closed or full, and Ctrl-C at any time: an exit code, and no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tests.e2e.command import Home, wait_for
from tests.waiting import PATIENCE_SECONDS, let_pass

QUOTE = b'{"price": {"type": "unit", "amount": "1"}, "usage": "2"}\n'
FULL = Path("/dev/full")


def test_a_reader_that_has_seen_enough_is_no_failure_to_report(tmp_path: Path) -> None:
    """`tollway quote … | head -1` says nothing, and ends as programs do that a broken pipe ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tollway", "quote"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=Home(tmp_path).environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(QUOTE)
    process.stdin.flush()
    assert b'"amount":"2"' in process.stdout.readline(), "a line is answered as soon as it is there"
    process.stdout.close()
    process.stdin.write(QUOTE)
    process.stdin.close()
    assert process.wait(PATIENCE_SECONDS) == 141
    with process.stderr as said:
        assert said.read() == b""


def ended(
    *arguments: str, home: Path, stdout: int | IO[bytes] = subprocess.PIPE, stderr: int | IO[bytes] = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "tollway", *arguments],
        input=QUOTE,
        stdout=stdout,
        stderr=stderr,
        env=Home(home).environment(),
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.mark.skipif(not FULL.exists(), reason="no device here is always full")
@pytest.mark.parametrize("arguments", [("--help",), ("quote", "--help"), ("--version",), ("quote",)])
def test_a_full_disk_is_told_and_is_no_defect(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Whoever writes: the help, or a command."""
    with FULL.open("wb") as full:
        ran = ended(*arguments, home=tmp_path, stdout=full)
    assert ran.returncode == 1
    assert ran.stderr.startswith(b"error: standard output can't be written: No space left on device\nhint: ")
    assert b"Traceback" not in ran.stderr


@pytest.mark.skipif(not FULL.exists(), reason="no device here is always full")
def test_messages_that_cannot_be_written_are_dropped(tmp_path: Path) -> None:
    """A command does its work also where nobody can be told of it."""
    with FULL.open("wb") as full:
        assert ended("quote", "missing.jsonl", home=tmp_path, stderr=full).returncode == 2
        ran = ended("quote", home=tmp_path, stderr=full)
    assert ran.returncode == 0
    assert b'"amount":"2"' in ran.stdout


def test_standard_output_that_was_closed_from_the_start_is_told(tmp_path: Path) -> None:
    """`tollway quote >&-`: the answer goes nowhere, least of all into a file that is opened later."""
    line = [sys.executable, "-m", "tollway", "quote"]
    ran = subprocess.run(
        ["/bin/sh", "-c", '"$@" >&-', "sh", *line],
        input=QUOTE,
        stderr=subprocess.PIPE,
        env=Home(tmp_path).environment(),
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith(b"error: standard output can't be written: ")


def loads_modules(process: subprocess.Popen[bytes]) -> bool:
    """Whether the command is past Python's own start, and none of its own code runs yet."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    ignored, caught = int(status["SigIgn"], 16), int(status["SigCgt"], 16)
    return bool(ignored & 1 << signal.SIGPIPE - 1) and not caught & 1 << signal.SIGINT - 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="how a process takes signals can't be seen here")
@pytest.mark.parametrize("after_seconds", [0, 0.1, 0.2, 0.4, 0.7])
def test_an_interrupt_shows_no_traceback_however_early_it_comes(after_seconds: float, tmp_path: Path) -> None:
    """While modules are loaded the signal itself ends the process; a command that runs is unwound."""
    home = Home(tmp_path / "home")
    process = subprocess.Popen(
        [sys.executable, "-m", "tollway", "up", "--no-api"], env=home.environment(), stderr=subprocess.PIPE
    )
    wait_for(lambda: loads_modules(process), "Python's own start")
    let_pass(after_seconds, "the moment is what is tested")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode in (0, 130, -signal.SIGINT)
    assert b"Traceback" not in said, said.decode()
    assert "No embedded server was running." in home.here("down").err


def test_a_command_that_waits_is_interrupted(tmp_path: Path) -> None:
    """With the exit code that a shell gives to what Ctrl-C ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tollway", "quote"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=Home(tmp_path).environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(QUOTE)
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    wait_for(lambda: process.poll() is not None, "the command to end")
    _, said = process.communicate()
    assert (process.returncode, said.strip()) == (130, b"")
