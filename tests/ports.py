"""Ports for servers that tests start."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

PORTS = range(20_000, 30_000)
"""Below those that systems give to clients by themselves: none of these takes one before its server does."""

_given = ExitStack()
"""Locks on what was given out, held as long as this process runs: no other worker of any suite gives it out too."""


def free_ports(count: int) -> int:
    """The first of some ports side by side that nobody has, and that nobody else who asks here gets."""
    folder = Path(tempfile.gettempdir(), f"tollway-test-ports-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    while True:
        first = random.SystemRandom().choice(PORTS)
        with ExitStack() as locks, ExitStack() as sockets:
            try:
                for port in range(first, first + count):
                    lock = locks.enter_context((folder / str(port)).open("w"))
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.push(locks.pop_all())
        return first


def free_port() -> int:
    """A port that nobody has."""
    return free_ports(1)
