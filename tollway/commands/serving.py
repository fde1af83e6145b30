"""
The HTTP API beside a dataflow: a process of its own, so that neither waits for the other's interpreter.

It is told to end when the dataflow has, and ends by itself when this process dies without a word (`tollway/child.py`).
If it ends before that, the dataflow is stopped too, and it is said why.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

from config.api import ApiSettings
from tollway.api.server.listen import Place, answers, held, listens
from tollway.child import start_child
from tollway.console import say

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 15.0
"""So much longer than a request may take the API may take to end."""

POLL_SECONDS: Final = 0.05


class ApiEnded(Exception):
    """The API's process ended, or did not start, while the dataflow ran."""


@contextmanager
def serving(settings: ApiSettings, stopping: Event) -> Iterator[None]:
    """
    Serve the API until the block ends. When it starts, the API listens.

    Args:
        settings: Where to listen, and the limits.
        stopping: Is set where the API ends by itself; where somebody else sets it, the start is not waited for.

    Raises:
        SettingError: The address can't be used.
        ApiEnded: It did not start, or ended before it was told to.
    """
    # The port is free now; the API's process takes it, and holds it.
    with held(settings) as place:
        pass
    process = start_child("api", environment={"TOLLWAY_API_PORT": str(place.port)})
    told, died = Event(), Event()
    watching = Thread(target=_watch, args=(process, told, died, stopping), name="api", daemon=True)
    watching.start()
    try:
        _wait(process, place, stopping)
        say(listens(place))
        yield
    finally:
        told.set()
        process.terminate()
        _end(process, settings.timeout_seconds + STOP_SECONDS)
        watching.join()
    if died.is_set():
        raise _ended(process)


def _wait(process: subprocess.Popen[bytes], place: Place, stopping: Event) -> None:
    """Wait until it listens, or somebody wants all to end."""
    deadline = time.monotonic() + START_SECONDS
    while not stopping.is_set() and not answers(place):
        if process.poll() is not None or time.monotonic() > deadline:
            raise _ended(process)
        time.sleep(POLL_SECONDS)
    if process.poll() is not None:
        raise _ended(process)


def _watch(process: subprocess.Popen[bytes], told: Event, died: Event, stopping: Event) -> None:
    """Let the dataflow end when the API ended untold, unless all were told to."""
    process.wait()
    if not told.is_set() and not stopping.is_set():
        died.set()
        stopping.set()


def _end(process: subprocess.Popen[bytes], timeout_seconds: float) -> None:
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _ended(process: subprocess.Popen[bytes]) -> ApiEnded:
    code = process.returncode
    how = "does not listen" if code is None else f"ended with code {code}"
    return ApiEnded(f"the HTTP API {how}\nhint: what it said is above; `tollway up --no-api` rates without it")
