"""
Appends events to the embedded log: Valkey streams, one per partition, chosen by the event's subject.

An append returns only after the server has the entries on disk (`appendfsync always`). Nothing is
de-duplicated here: that is decided once, in keyed state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from zlib import crc32

import redis
from redis.retry import Retry

from rating.events import subjects
from sinks.redis.keys import EVENT_PARTITIONS, stream_key

ENTRY_EVENTS_MAX = 500

EVENTS = b"e"
"""The field of an entry that holds its events, one per line."""
RECEIVED = b"r"
"""When they were first received, in microseconds since the epoch; without it, when the entry was made."""
METER = b"m"
"""The key of the one meter whose usage is to be counted, since the rest was."""
READ_VERSION = b"v"
"""Of events that are driven again: the entry of the control log that had been seen when they were read, and waited."""


class LogMemory(NamedTuple):
    """What the log's server uses, and how much it may: its own limit, or else the machine's. 0: not known."""

    used_bytes: int
    limit_bytes: int

    def is_full(self, percent: int) -> bool:
        """Whether it uses so much of what it may, or more."""
        return bool(self.limit_bytes) and self.used_bytes * 100 >= self.limit_bytes * percent


def log_memory(client: redis.Redis) -> LogMemory:
    """The memory of the log's server. The log stops taking events before that is full: others write there too."""
    memory: Any = client.info("memory")
    limit = int(memory.get("maxmemory") or memory.get("total_system_memory") or 0)
    return LogMemory(int(memory.get("used_memory") or 0), limit)


class Again(NamedTuple):
    """An event that was read before and is driven again: its bytes as they were."""

    line: bytes
    received_us: int
    """When it was first received, in microseconds since the epoch."""
    meter: str
    """The one meter whose usage is to be counted; empty: all of it."""
    read_version: int
    """The entry of the control log that had at least been seen when it was read, and had to wait."""


def partitions_of(client: redis.Redis) -> int:
    """How many partitions the log has. It must exist."""
    found = client.get(EVENT_PARTITIONS)
    assert found is not None, "the event log has no partitions yet: open it with EventLog first"
    return int(found)


class EventLog:
    """
    The log, open for appending; made with `partitions` streams where there is none yet.

    The number of partitions never changes afterwards: order is kept per partition.

    Args:
        url: The server.
        partitions: How many streams a new log gets.
        retry: How often and when to try again; the client's own way if it is None.
    """

    def __init__(self, url: str, partitions: int, retry: Retry | None = None) -> None:
        given = {} if retry is None else {"retry": retry}
        self._client = redis.Redis.from_url(url, protocol=3, **given)
        self._client.set(EVENT_PARTITIONS, partitions, nx=True)
        self.partitions = partitions_of(self._client)

    def append(self, lines: list[bytes], received_us: int | None = None, meter: str = "") -> None:
        """
        Append events, each one JSON object without a line break. Returns when they are durable.

        Args:
            lines: The events.
            received_us: When they were first received, in microseconds since the epoch; None: now.
            meter: The one meter whose usage is to be counted; empty: all of it.

        Raises `redis.RedisError` where the log did not take them; some may then be in it, and appending all
        of them again is safe.
        """
        pipeline = self._client.pipeline(transaction=False)
        self._append(lines, received_us, meter, None, pipeline)
        pipeline.execute()

    def append_again(self, events: Iterable[Again]) -> None:
        """
        Append events that were read before, in one go: as `append` does, but each with its own first receipt and meter.
        """
        alike: dict[tuple[int, str, int], list[bytes]] = {}
        for line, received_us, meter, read_version in events:
            alike.setdefault((received_us, meter, read_version), []).append(line)
        pipeline = self._client.pipeline(transaction=False)
        for (received_us, meter, read_version), lines in alike.items():
            self._append(lines, received_us, meter, read_version, pipeline)
        pipeline.execute()

    def memory(self) -> LogMemory:
        """The memory of the log's server. Raises `redis.RedisError` where it does not answer."""
        return log_memory(self._client)

    def _append(
        self, lines: list[bytes], received_us: int | None, meter: str, read_version: int | None, pipeline: Any
    ) -> None:
        by_partition: dict[int, list[bytes]] = {}
        for line, subject in zip(lines, subjects(b"\n".join(lines), lines), strict=True):
            partition = crc32((subject or "").encode()) % self.partitions
            by_partition.setdefault(partition, []).append(line)
        more: dict[Any, Any] = {}
        if received_us is not None:
            more[RECEIVED] = b"%d" % received_us
        if meter:
            more[METER] = meter.encode()
        if read_version is not None:
            more[READ_VERSION] = b"%d" % read_version
        for partition, found in by_partition.items():
            for start in range(0, len(found), ENTRY_EVENTS_MAX):
                pipeline.xadd(
                    stream_key(partition), {EVENTS: b"\n".join(found[start : start + ENTRY_EVENTS_MAX]), **more}
                )

    def close(self) -> None:
        """End the connection."""
        self._client.close()
