"""
Backpressure: what is in hand has a limit, and what comes beyond it is told to come again.

A request is let in by the bytes that it announces, before any of them is read; one that announces nothing is counted
as it arrives. So the memory that events take before they are in the log is bounded, and no queue grows. The log itself
stops taking events before its server's memory is full, so that the dataflow, which has to write to the same server to
get on, is not stopped as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from sinks.event_log import log_memory
from tollway.api.metrics import ingest_in_flight_bytes
from tollway.api.problems import Problem


class Pressure:
    """
    How much is in hand, in this process. Used by the event loop only.

    Args:
        requests_max: So many requests at once.
        bytes_max: So many bytes at once. A request that is alone is let in whatever its size.
    """

    def __init__(self, requests_max: int, bytes_max: int) -> None:
        self._requests_max = requests_max
        self._bytes_max = bytes_max
        self.requests = 0
        self.bytes = 0

    @contextmanager
    def admitted(self, announced_bytes: int) -> Iterator[Admission]:
        """
        Hold a request's place.

        Raises:
            Problem: 429, there is too much in hand.
        """
        if self.requests >= self._requests_max:
            raise self._too_much()
        admission = Admission(self)
        self.requests += 1
        try:
            admission.grow(announced_bytes)
            yield admission
        finally:
            self.requests -= 1
            self._add(-admission.bytes)

    def hold(self, admission: Admission, size: int) -> None:
        """Count more bytes for a request. Raises `Problem` where that is too much."""
        if self.requests > 1 and self.bytes + size > self._bytes_max:
            raise self._too_much()
        admission.bytes += size
        self._add(size)

    def _add(self, size: int) -> None:
        self.bytes += size
        ingest_in_flight_bytes.inc(size)

    def _too_much(self) -> Problem:
        return Problem(
            429,
            f"too many events at once: {self.requests} requests with {self.bytes} bytes wait for the log; none of"
            " these was taken, send them again",
            retry=True,
        )


class Admission:
    """The place of one request."""

    def __init__(self, pressure: Pressure) -> None:
        self._pressure = pressure
        self.bytes = 0

    def grow(self, size: int) -> None:
        """Count more bytes. Raises `Problem` where that is too much."""
        self._pressure.hold(self, size)


def check_memory(client: redis.Redis, percent: int) -> None:
    """
    See whether the event log's server has memory left: of its own limit, or else of the machine's.

    Args:
        client: The server.
        percent: How much it may use.

    Raises:
        Problem: 503, it uses more.
        redis.RedisError: It does not answer.
    """
    memory = log_memory(client)
    if memory.is_full(percent):
        raise Problem(
            503,
            f"the event log is full: its server uses {memory.used_bytes} of {memory.limit_bytes} bytes; none of these"
            " events was taken, send them again",
            retry=True,
        )
