"""
A Tollway process that dies with the one that started it, however that ends.

Its standard input is a pipe whose other end only the parent holds: when the parent is gone, the pipe is at its end.
Ctrl-C is for the parent, which ends the child in its own order.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import IO, Final

OPTION: Final = "--end-with-input"
"""Hidden, of each command that may be started so; it calls `end_with_parent`."""


def start_child(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    inherited: Mapping[str, str] = os.environ,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """
    Start `tollway` as a child of this process.

    Args:
        arguments: The command line after `tollway`; the command has to know `OPTION`.
        environment: What is set besides what is inherited.
        inherited: The environment to begin with.
        stdout: As of `subprocess.Popen`.
        stderr: As of `subprocess.Popen`.
    """
    return subprocess.Popen(
        # This very package, whatever the folder is that the command was called in, or is on the path.
        [sys.executable, "-P", "-m", "tollway", *arguments, OPTION],
        env={**inherited, **(environment or {}), "PYTHONPATH": _python_path(inherited)},
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


def end_with_parent() -> None:
    """From now on, end this process as SIGTERM does when standard input ends: who started it is gone."""
    Thread(target=_wait_for_the_end_of_input, name="parent", daemon=True).start()


def _wait_for_the_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _python_path(inherited: Mapping[str, str]) -> str:
    """What makes `-m tollway` find this very package."""
    root, given = str(Path(__file__).parents[1]), inherited.get("PYTHONPATH")
    return os.pathsep.join([root, given] if given else [root])
