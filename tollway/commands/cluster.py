"""
A cluster on one machine: so many processes of the dataflow, and what keeps them running.

One dead process ends all of them: each waits for the others at the end of an epoch, and none may go on alone.
So all are started again, from the last epoch, sooner or later according to how long they had run. What will not
get better by itself (a bad setting, an offset that is gone) is not tried again.

When this process dies without a word, they end (`tollway/child.py`).
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from threading import Event
from typing import Final

from tollway.child import start_child
from tollway.console import BAD_INPUT, REFUSED, say

LOOPBACK: Final = "127.0.0.1"
POLL_SECONDS: Final = 0.02
OTHERS_SECONDS: Final = 1.0
"""So long the other processes have to end by themselves after one did."""
STOP_SECONDS: Final = 60.0
"""So long all have to end after they were told to."""
PAUSE_SECONDS: Final = (0.2, 10.0)
"""The pause before all are started again: the shortest, and the longest."""
STEADY_SECONDS: Final = 30.0
"""A cluster that ran for so long is started again after the shortest pause."""
NOT_BEGUN: Final = (-signal.SIGTERM, 128 + signal.SIGTERM)
"""The exit codes of a process that was told to end before it had read anything."""
ATTEMPTS_MAX: Final = 8
"""So many starts in a row may fail before they ran steadily."""


class ClusterEnded(Exception):
    """The processes of the dataflow ended, and starting them again would not help."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def supervise(size: int, arguments: Sequence[str], environment: dict[str, str], stopping: Event) -> None:
    """
    Run processes of the dataflow until `stopping` is set, or all of them have ended by themselves.

    Args:
        size: How many processes.
        arguments: What each is told besides its place in the cluster: arguments of `tollway run`.
        environment: Settings that differ from this process's.
        stopping: Set from outside to end them all.

    Raises:
        ClusterEnded: They failed in a way that does not go away, or too often in a row.
    """
    attempts = 0
    while not stopping.is_set():
        started = time.monotonic()
        codes = _run_once(size, arguments, environment, stopping)
        if stopping.is_set():
            codes = [0 if code in NOT_BEGUN else code for code in codes]
        if not any(codes):
            return
        if stopping.is_set():
            raise ClusterEnded(f"a process was ended with {_how(_cause(codes))} as all were to stop", REFUSED)
        attempts = 0 if time.monotonic() - started >= STEADY_SECONDS else attempts + 1
        cause = _cause(codes)
        if cause == BAD_INPUT or attempts >= ATTEMPTS_MAX:
            raise ClusterEnded(
                f"process {codes.index(cause)} of the dataflow ended with {_how(cause)}\n"
                "hint: what it said is above; what it goes on from is its last epoch, and nothing is lost",
                cause if cause > 0 else REFUSED,
            )
        pause = min(PAUSE_SECONDS[0] * 2 ** max(attempts - 1, 0), PAUSE_SECONDS[1])
        say(
            f"Process {codes.index(cause)} ended with {_how(cause)}: all begin again from the last epoch in {pause:g} s"
        )
        stopping.wait(pause)


def _run_once(size: int, arguments: Sequence[str], environment: dict[str, str], stopping: Event) -> list[int]:
    """Start all processes, and wait until all have ended. Returns their exit codes."""
    addresses = ",".join(f"{LOOPBACK}:{port}" for port in _free_ports(size))
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                start_child(
                    *("run", "--addresses", addresses, "--process-id", str(number), *arguments),
                    environment=environment,
                )
            )
            for number in range(size)
        ]
        stack.callback(_kill, processes)
        deadline, told = float("inf"), False
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            if stopping.is_set() and not told:
                told = True
                deadline = time.monotonic() + STOP_SECONDS
                for process in processes:
                    process.terminate()
            elif not told and any(process.poll() for process in processes):
                deadline = min(deadline, time.monotonic() + OTHERS_SECONDS)
            stopping.wait(POLL_SECONDS) if not told else time.sleep(POLL_SECONDS)
        _kill(processes)
        return [process.wait() for process in processes]


def _kill(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()


def _cause(codes: list[int]) -> int:
    """The exit code that tells most: the others ended because of that process."""
    failed = [code for code in codes if code]
    return BAD_INPUT if BAD_INPUT in failed else min(failed)


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all are held at once, so that no two are the same."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in probes]
