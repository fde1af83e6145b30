"""Ports for servers that tests start."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

PORTS = range(20_000, 30_000)
"""Below those that systems give to clients by themselves: none of these takes one before its server does."""


def free_ports(count: int) -> int:
    """The first of some ports side by side that nobody has."""
    while True:
        first = random.SystemRandom().choice(PORTS)
        with ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        return first


def free_port() -> int:
    """A port that nobody has."""
    return free_ports(1)
