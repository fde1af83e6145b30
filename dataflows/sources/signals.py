"""
The signal stream as a source, so that signals go on to Kafka: a signal is raised in Redis, where the visible state is
replaced, and in the flow there is one reader of it, however many processes there are.

The offset is an entry id. What is handed on is a batch of signals as JSON Lines, each as it was published.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import msgspec
import redis
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from sinks.kafka.signals import KafkaSignalSink, send_signals
from sinks.redis.keys import SIGNALS

IDLE = timedelta(milliseconds=10)
ENTRIES_MAX = 1000
KEY = "signals"

_log = logging.getLogger("tollway.kafka")
_json = msgspec.json.Encoder().encode


def read_signals(client: redis.Redis, after: str) -> tuple[str, bytes]:
    """
    The next signals of the stream.

    Args:
        client: Of the Redis that has them, giving text.
        after: The id of the last entry that was read, `0-0` for none.

    Returns:
        The id of the last entry read now, and the signals, a line each.
    """
    entries: Any = client.xrange(SIGNALS, f"({after}", "+", count=ENTRIES_MAX)
    if not entries:
        return after, b""
    lines = []
    for entry_id, fields in entries:
        numbers = {name: int(fields.get(name, 0)) for name in ("sequence", "generation", "revision")}
        lines.append(_json({"id": entry_id, **fields, **numbers}))
    return entries[-1][0], b"\n".join(lines)


class SignalPartition(StatefulSourcePartition[tuple[str, bytes], str]):
    """Polls the stream."""

    def __init__(self, source: SignalSource, after: str) -> None:
        self._source = source
        self._client = redis.Redis.from_url(source.url, protocol=3, decode_responses=True)
        self._idle = False
        source.after = after
        if self._client.exists(SIGNALS):
            info: Any = self._client.xinfo_stream(SIGNALS)
            first = info["first-entry"]
            # Only so many of the newest stay: one that was read leaves after as many that were not.
            if info["entries-added"] > info["length"] and first is not None and _order(first[0]) > _order(after):
                _log.error("signals between %s and %s left the stream before they were sent to Kafka", after, first[0])

    def next_batch(self) -> list[tuple[str, bytes]]:
        source = self._source
        if source.stopping.is_set():
            raise StopIteration
        after, lines = read_signals(self._client, source.after or "0-0")
        self._idle = not lines
        if not lines:
            if source.drain:
                raise StopIteration
            return []
        source.after = after
        return [(KEY, lines)]

    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + IDLE if self._idle else None

    def snapshot(self) -> str:
        return self._source.after or "0-0"

    def close(self) -> None:
        self._client.close()


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


class SignalSource(FixedPartitionedSource[tuple[str, bytes], str]):
    """The signal stream: one partition, read by one process."""

    def __init__(self, url: str, stopping: Event, drain: bool = False) -> None:
        self.url = url
        self.stopping = stopping
        self.drain = drain
        self.after: str | None = None
        """The last entry that was handed on; None where another process reads the stream."""

    def list_parts(self) -> list[str]:
        return [KEY]

    def build_part(self, step_id: str, for_part: str, resume_state: str | None) -> SignalPartition:
        return SignalPartition(self, resume_state or "0-0")


def send_rest(source: SignalSource, sink: KafkaSignalSink) -> None:
    """
    Send the signals that the last commit of a flow raised, once it ended well.

    Their place is not in the recovery store: the next start finds them in the topic. Raises `DeliveryFailed`.
    """
    with redis.Redis.from_url(source.url, protocol=3, decode_responses=True) as client:
        while source.after is not None:
            after, lines = read_signals(client, source.after)
            if not lines:
                break
            send_signals(sink.delivery, sink.kafka.topic_signals, lines, set())
            source.after = after
    sink.delivery.flush()
