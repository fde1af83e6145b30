"""
The embedded event log: Valkey streams, one per partition; an offset is an entry id.

An entry holds one or more events, one JSON object per line, and is durable before ingest answers. Its id
says when it was received. Entries that every reader has consumed leave after a retention.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import redis
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from dataflows.messages import RawBatch, Segment
from sinks.event_log import EVENTS, METER, READ_VERSION, RECEIVED, partitions_of
from sinks.metrics import SourceLag
from sinks.redis.keys import CONTROL_HEAD, stream_key

IDLE = timedelta(milliseconds=5)
ENTRIES_MAX = 512
TRIM_EVERY_SECONDS = 30.0
Resume = tuple[str, int]
"""What the recovery store keeps of a partition: the last entry that was read, and how many there were up to it."""
FIRST: Resume = ("0-0", 0)
LAG_SOURCE = "events"
"""The source in metrics, by its step's id."""

_log = logging.getLogger("tollway.streams")


class StreamOffsetGone(Exception):
    """
    Entries after the offset to resume from left the log: recovery store and ledger are older than its retention.

    Remedy: put back a backup of the log, or go on without them with `TOLLWAY_LOG_ACCEPT_GAP`.
    """


class StreamPartition(StatefulSourcePartition[RawBatch, Resume]):
    """Reads one stream from an offset on."""

    def __init__(
        self,
        client: redis.Redis,
        key: str,
        resume: Resume,
        batch_bytes: int,
        retention_seconds: int,
        stopping: Event,
        drain: bool,
        accept_gap: bool,
    ) -> None:
        self._client = client
        self._key = key
        self._offset, self._read = resume
        self._committed = self._offset
        self._batch_bytes = batch_bytes
        self._retention_seconds = retention_seconds
        self._stopping = stopping
        self._drain = drain
        self._accept_gap = accept_gap
        self._idle = False
        self._trimmed_at = time.monotonic()
        self._count = 16
        self._check_whole()
        read_to = None if resume == FIRST else _order(self._offset)[0] / 1000
        self._lag = SourceLag(LAG_SOURCE, key.rpartition(":")[2], read_to)

    def _check_whole(self) -> None:
        """See to it that only entries have left the stream that were read. The server counts all that it ever had."""
        added = gone = 0
        if self._client.exists(self._key):
            info: Any = self._client.xinfo_stream(self._key)
            added, gone = info["entries-added"], info["entries-added"] - info["length"]
        if added < self._read:
            _log.error("stream %s was made anew: what had not been read of the one before is lost", self._key)
            self._read = gone
        if gone > self._read:
            found = f"stream `{self._key}`: {gone - self._read} entries after {self._offset} left it unread"
            if not self._accept_gap:
                raise StreamOffsetGone(
                    f"{found}\nhint: put back a backup of the log; TOLLWAY_LOG_ACCEPT_GAP=on goes on without them"
                )
            _log.error("%s: goes on without them", found)
            self._read = gone

    def next_batch(self) -> list[RawBatch]:
        if self._stopping.is_set():
            raise StopIteration
        pipeline = self._client.pipeline(transaction=False)
        pipeline.xread({self._key: self._offset}, count=self._count)
        pipeline.get(CONTROL_HEAD)
        found, head = pipeline.execute()
        if not found:
            self._idle = True
            if self._drain:
                raise StopIteration
            self._lag.read_all()
            return []
        self._idle = False
        entries = found[self._key.encode()][0] if isinstance(found, dict) else found[0][1]
        self._offset = entries[-1][0].decode()
        self._read += len(entries)
        segments = [_segment(entry_id, fields) for entry_id, fields in entries]
        self._lag.read(_order(self._offset)[0] / 1000)
        size = sum(len(segment.blob) for segment in segments)
        self._count = max(1, min(ENTRIES_MAX, self._batch_bytes * len(segments) // max(size, 1)))
        return [RawBatch(int(head or 0), segments)]

    @property
    def at_end(self) -> bool:
        """Whether there was nothing more to read the last time."""
        return self._idle

    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + IDLE if self._idle else None

    def snapshot(self) -> Resume:
        self._trim()
        self._committed = self._offset
        return self._offset, self._read

    def _trim(self) -> None:
        """Let entries go that are older than the retention and were consumed before the last epoch."""
        if time.monotonic() - self._trimmed_at < TRIM_EVERY_SECONDS:
            return
        self._trimmed_at = time.monotonic()
        oldest = int((time.time() - self._retention_seconds) * 1000)
        bound = min((oldest, 0), _order(self._committed))
        self._client.xtrim(self._key, minid=f"{bound[0]}-{bound[1]}", approximate=True)

    def close(self) -> None:
        self._lag.close()
        self._client.close()


def _segment(entry_id: bytes, fields: dict[bytes, bytes]) -> Segment:
    """An entry; one that was driven again says when it was first received, and what of it is to be counted."""
    received = fields.get(RECEIVED)
    received_us = int(entry_id.split(b"-")[0]) * 1000 if received is None else int(received)
    read_version = fields.get(READ_VERSION)
    return Segment(
        received_us,
        fields[EVENTS],
        fields.get(METER, b"").decode(),
        None if read_version is None else int(read_version),
    )


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


class StreamSource(FixedPartitionedSource[RawBatch, Resume]):
    """
    All partitions of the embedded event log.

    Args:
        url: Of the Valkey or Redis that holds the log.
        batch_bytes: About how much to read at a time.
        retention_seconds: How long consumed entries are kept.
        stopping: Set from outside to end the flow.
        drain: End at the end of the log instead of waiting for more.
        accept_gap: Go on where entries left the log that were not read.
    """

    def __init__(
        self,
        url: str,
        batch_bytes: int,
        retention_seconds: int,
        stopping: Event,
        *,
        drain: bool = False,
        accept_gap: bool = False,
    ) -> None:
        self._url = url
        self._batch_bytes = batch_bytes
        self._retention_seconds = retention_seconds
        self._stopping = stopping
        self._drain = drain
        self._accept_gap = accept_gap

    @property
    def beginning(self) -> Resume:
        """What a partition resumes from that has to be read from its very first entry."""
        return FIRST

    def list_parts(self) -> list[str]:
        client = redis.Redis.from_url(self._url)
        try:
            return [f"{part:03}" for part in range(partitions_of(client))]
        finally:
            client.close()

    def build_part(self, step_id: str, for_part: str, resume_state: Resume | None) -> StreamPartition:
        client = redis.Redis.from_url(self._url, protocol=3)
        return StreamPartition(
            client,
            stream_key(int(for_part)),
            resume_state or FIRST,
            self._batch_bytes,
            self._retention_seconds,
            self._stopping,
            self._drain,
            self._accept_gap,
        )
