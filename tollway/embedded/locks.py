"""
File locks: the kernel drops them with the last process that holds them, however that process ends.

A lock belongs to the opened file, not to the process: a child that inherits the descriptor keeps the lock.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.01


def open_lock(path: Path) -> int:
    """Open a lock's file, made where it is missing. The descriptor is closed by the caller."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_exclusive(descriptor: int) -> bool:
    """Take the lock alone, if nobody else has it. A shared lock on this descriptor is given up either way."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def share(descriptor: int) -> None:
    """Take the lock together with others."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def is_held(path: Path) -> bool:
    """Whether any process holds the lock alone. Asking does not disturb others who ask."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def exclusive(path: Path, timeout_seconds: float) -> Iterator[int]:
    """Hold a lock alone, by the descriptor given. Raises `TimeoutError` if others keep it for so long."""
    descriptor = open_lock(path)
    try:
        deadline = time.monotonic() + timeout_seconds
        while not try_exclusive(descriptor):
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)
