"""
Backpressure: what is in hand has a limit, and what comes beyond it is told to come again.

Bytes count as they arrive, not as they are announced, and a request takes a place once all of it is there: whoever
opens connections and sends nothing holds nobody up. When bytes are short, those who send theirs slowly give way to
those who come. So the memory that events take before they are in the log is bounded, and no queue grows. The log itself
stops taking events before its server's memory is full, so that the dataflow, which has to write to the same server to
get on, is not stopped as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

import redis

from sinks.event_log import log_memory
from tollway.api.server.metrics import ingest_in_flight_bytes
from tollway.openmeter.problems import Problem

SLOW_BYTES: Final = 64 * 1024
SLOW_SECONDS: Final = 2.0
"""A body is slow that did not bring so many bytes within the last so many seconds."""


class Pressure:
    """
    How much is in hand, in this process. Used by the event loop only.

    Args:
        requests_max: So many requests at once, that have arrived.
        bytes_max: So many bytes at once, arrived or arriving. A request that is alone is let in whatever its size.
    """

    def __init__(self, requests_max: int, bytes_max: int) -> None:
        self._requests_max = requests_max
        self._bytes_max = bytes_max
        self._admitted: dict[Admission, None] = {}
        self.requests = 0
        self.bytes = 0

    @contextmanager
    def admitted(self) -> Iterator[Admission]:
        """
        Let a request come: it holds what it brings until this ends.

        Raises:
            Problem: 429, there is too much in hand already.
        """
        if self.requests >= self._requests_max or self.bytes >= self._bytes_max:
            self._make_room(1)
            if self.requests >= self._requests_max:
                raise self._too_much()
        admission = Admission(self)
        self._admitted[admission] = None
        try:
            yield admission
        finally:
            self.release(admission)
            if admission.has_place:
                self.requests -= 1

    def hold(self, admission: Admission, size: int) -> None:
        """Count more bytes for a request. Raises `Problem` where that is too much."""
        if admission not in self._admitted:
            return  # it was sent away, and is about to notice
        if self.bytes > admission.bytes and self.bytes + size > self._bytes_max:
            self._make_room(size)
        admission.bytes += size
        self._add(size)

    def take_place(self, admission: Admission) -> None:
        """Count a request that has arrived. Raises `Problem` where there are too many."""
        if self.requests >= self._requests_max:
            raise self._too_much()
        admission.has_place = True
        self.requests += 1

    def release(self, admission: Admission) -> None:
        """Let go of the bytes of a request."""
        if admission in self._admitted:
            del self._admitted[admission]
            self._add(-admission.bytes)

    def _make_room(self, size: int) -> None:
        """Send away those who are slow, the longest first, until there is room. Raises `Problem` where there is not."""
        now = asyncio.get_running_loop().time()
        for other in [one for one in self._admitted if one.is_slow(now)]:
            if self.bytes + size <= self._bytes_max:
                return
            self.release(other)
            other.send_away()
        if self.bytes + size > self._bytes_max:
            raise self._too_much()

    def _add(self, size: int) -> None:
        self.bytes += size
        ingest_in_flight_bytes.inc(size)

    def _too_much(self) -> Problem:
        return Problem(
            429,
            f"too many events at once: {self.requests} requests and {self.bytes} bytes wait for the log; none of"
            " these was taken, send them again",
            retry=True,
        )


class Admission:
    """What one request holds."""

    def __init__(self, pressure: Pressure) -> None:
        self._pressure = pressure
        self._arriving: asyncio.Timeout | None = None
        self._seen_at = asyncio.get_running_loop().time()
        self._seen_bytes = 0
        self.bytes = 0
        self.has_place = False

    async def read(self, stream: AsyncIterator[bytes]) -> bytes:
        """
        All of a body, counted as it arrives; then the request has a place.

        Raises:
            Problem: 429, there is too much in hand, or this came too slowly while others waited.
        """
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(None) as self._arriving:
                async for part in stream:
                    self.grow(len(part))
                    parts.append(part)
        except TimeoutError:
            if self._arriving is None or not self._arriving.expired():
                raise
            message = "these events came too slowly while others waited; none of them was taken, send them again"
            raise Problem(429, message, retry=True) from None
        finally:
            self._arriving = None
        self._pressure.take_place(self)
        return b"".join(parts)

    def grow(self, size: int) -> None:
        """Count more bytes. Raises `Problem` where that is too much."""
        self._pressure.hold(self, size)
        if self.bytes - self._seen_bytes >= SLOW_BYTES:
            self._seen_at, self._seen_bytes = asyncio.get_running_loop().time(), self.bytes

    def is_slow(self, now: float) -> bool:
        """Whether this is still arriving, and brought little of late."""
        return self._arriving is not None and now - self._seen_at > SLOW_SECONDS

    def send_away(self) -> None:
        """Let the reading of the body end."""
        assert self._arriving is not None, "only what arrives is slow"
        self._arriving.reschedule(0)


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
