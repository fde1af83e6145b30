"""
One dataflow in a home at a time, and what is left of one that failed.

    <home>/engine.lock   held by the process that runs the dataflow; its id is inside
    <home>/crash.log     what the runtime printed as it failed, and the traceback; none after a clean end

A process of a cluster has a lock and a log of its own, with its number in their names; who supervises a cluster holds
the home's lock.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tollway.embedded import locks
from tollway.output import messages_to

LOCK_SECONDS = 1.0
"""So long a dataflow that is just ending is waited for."""

STDERR = 2


class AlreadyRunning(Exception):
    """Another process runs the dataflow of this home: two would write over each other's state."""


class DataflowFailed(Exception):
    """The dataflow ended by a failure, which is the cause; `log` has the traceback."""

    def __init__(self, log: Path) -> None:
        self.log = log
        super().__init__(f"the dataflow ended: the traceback is in `{log}`")


def running(home: Path, process_id: int | None = None) -> str | None:
    """The id of the process that runs the dataflow of a home, if one does."""
    path = _lock(home, process_id)
    return path.read_text().strip() or "unknown" if locks.is_held(path) else None


def crash_log(home: Path, process_id: int | None = None) -> Path:
    """The file that a failed dataflow leaves, or a failed process of a cluster."""
    return home / ("crash.log" if process_id is None else f"crash-{process_id}.log")


@contextmanager
def alone(home: Path, process_id: int | None = None) -> Iterator[None]:
    """
    Hold the home's lock, which the kernel drops with this process, however it ends.

    Two dataflows on one recovery store would each resume from, and write over, the other's snapshots.

    Raises:
        AlreadyRunning: Another process holds it.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(locks.exclusive(_lock(home, process_id), LOCK_SECONDS))
        except TimeoutError:
            raise AlreadyRunning(
                f"a dataflow already runs in `{home}`, as process {running(home, process_id)}\n"
                "hint: stop that process first, or set `TOLLWAY_HOME` to another folder"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield


@contextmanager
def crashing_into(log: Path) -> Iterator[None]:
    """
    Send what the runtime prints as it fails, and the traceback, to a file rather than to the terminal.

    The runtime writes to the descriptor of standard error; Python's own standard error still goes where it went.

    Raises:
        DataflowFailed: For any exception, as its cause.
    """
    stderr, kept = sys.stderr, os.dup(STDERR)
    with log.open("wb") as crash:
        # Stays open: a logger may hold on to it.
        sys.stderr = messages_to(kept)
        os.dup2(crash.fileno(), STDERR)
        try:
            yield
        except Exception as failure:
            crash.seek(0, os.SEEK_END)
            crash.write("".join(traceback.format_exception(failure)).encode())
            raise DataflowFailed(log) from failure
        finally:
            os.dup2(kept, STDERR)
            sys.stderr = stderr
    if log.stat().st_size == 0:
        log.unlink()


def _lock(home: Path, process_id: int | None) -> Path:
    return home / ("engine.lock" if process_id is None else f"engine-{process_id}.lock")
