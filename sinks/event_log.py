"""
Appends events to the embedded log: Valkey streams, one per partition, chosen by the event's subject.

An append returns only after the server has the entries on disk (`appendfsync always`). Nothing is
de-duplicated here: that is decided once, in keyed state.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import redis
from redis.retry import Retry

from rating.events import subjects

PARTITIONS = "tollway:events:partitions"
CONTROL_HEAD = "tollway:control:head"
ENTRY_EVENTS_MAX = 500

EVENTS = b"e"
"""The field of an entry that holds its events, one per line."""
RECEIVED = b"r"
"""When they were first received, in microseconds since the epoch; without it, when the entry was made."""
METER = b"m"
"""The key of the one meter whose usage is to be counted, since the rest was."""


def stream_key(partition: int) -> str:
    """The stream of a partition."""
    return f"tollway:events:{partition:03}"


def partitions_of(client: redis.Redis) -> int:
    """How many partitions the log has. It must exist."""
    found = client.get(PARTITIONS)
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
        self._client.set(PARTITIONS, partitions, nx=True)
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
        by_partition: dict[int, list[bytes]] = {}
        for line, subject in zip(lines, subjects(b"\n".join(lines), lines), strict=True):
            partition = crc32((subject or "").encode()) % self.partitions
            by_partition.setdefault(partition, []).append(line)
        more: dict[Any, Any] = {}
        if received_us is not None:
            more[RECEIVED] = b"%d" % received_us
        if meter:
            more[METER] = meter.encode()
        pipeline = self._client.pipeline(transaction=False)
        for partition, found in by_partition.items():
            for start in range(0, len(found), ENTRY_EVENTS_MAX):
                pipeline.xadd(
                    stream_key(partition), {EVENTS: b"\n".join(found[start : start + ENTRY_EVENTS_MAX]), **more}
                )
        pipeline.execute()

    def close(self) -> None:
        """End the connection."""
        self._client.close()
