"""
What was read and waits for its turn: a key group takes events in for so long at a time, and nobody waits for longer.

Messages that hold much are cut into slices, which are messages too. As long as some wait, the sources of the process
read nothing more; at the end of an epoch, what still waits goes into the snapshot, so that an epoch ends in time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from struct import Struct as Layout
from typing import TypeVar
from weakref import WeakKeyDictionary

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from dataflows.messages import header, microseconds, read_header, segment_header, segments

SLICE_BYTES = 128 * 1024
SLICE_LINES = 1000
"""A slice has about so many bytes, and about so many events, at most: some milliseconds of work, as a rule."""
LOOK = timedelta(milliseconds=1)
"""So soon a source that waited looks again."""

WAITING = 0x80
"""In the first byte of a snapshot: messages stand before what the group itself holds."""
_COUNT = Layout("<I")

X = TypeVar("X")
S = TypeVar("S")


class Backlog:
    """How much waits in the key groups of one process."""

    def __init__(self) -> None:
        self._waiting: WeakKeyDictionary[object, int] = WeakKeyDictionary()

    def of(self, owner: object, count: int) -> None:
        """So many messages of somebody wait now."""
        if count:
            self._waiting[owner] = count
        else:
            self._waiting.pop(owner, None)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def holding(self, source: FixedPartitionedSource[X, S]) -> FixedPartitionedSource[X, S]:
        """A source that reads nothing while something waits."""
        return _Source(source, self)


class _Partition(StatefulSourcePartition[X, S]):
    def __init__(self, partition: StatefulSourcePartition[X, S], backlog: Backlog) -> None:
        self._partition = partition
        self._backlog = backlog
        self._waited = False

    def next_batch(self) -> list[X]:
        self._waited = bool(self._backlog)
        return [] if self._waited else list(self._partition.next_batch())

    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + LOOK if self._waited else self._partition.next_awake()

    def snapshot(self) -> S:
        return self._partition.snapshot()

    def close(self) -> None:
        self._partition.close()


class _Source(FixedPartitionedSource[X, S]):
    def __init__(self, source: FixedPartitionedSource[X, S], backlog: Backlog) -> None:
        self._source = source
        self._backlog = backlog

    def list_parts(self) -> list[str]:
        return self._source.list_parts()

    def build_part(self, step_id: str, for_part: str, resume_state: S | None) -> StatefulSourcePartition[X, S]:
        return _Partition(self._source.build_part(step_id, for_part, resume_state), self._backlog)


def sliced(message: bytes) -> Iterator[bytes]:
    """The same as messages of which each takes little time. What one event means does not depend on those around it."""
    if len(message) <= SLICE_BYTES and message.count(b"\n") < SLICE_LINES:
        yield message
        return
    group, head = read_header(message)
    begin = header(group, head)
    part: list[bytes] = [begin]
    room, lines = SLICE_BYTES, SLICE_LINES
    for received_at, blob, framed, meter, read_version in segments(message):
        for cut in _cut(blob):
            count = cut.count(b"\n") + 1
            if len(part) > 1 and (len(cut) > room or count > lines):
                yield b"".join(part)
                part, room, lines = [begin], SLICE_BYTES, SLICE_LINES
            part += (segment_header(microseconds(received_at), len(cut), framed, meter, read_version), cut)
            room -= len(cut)
            lines -= count
    yield b"".join(part)


def _cut(blob: bytes) -> Iterator[bytes]:
    """Cut between lines."""
    start = 0
    while len(blob) - start > SLICE_BYTES or blob.count(b"\n", start) >= SLICE_LINES:
        size = SLICE_BYTES
        while size > 1 and blob.count(b"\n", start, start + size) > SLICE_LINES:
            size //= 2
        end = blob.find(b"\n", min(start + size, len(blob)) - 1)
        if end < 0:
            break
        yield blob[start:end]
        start = end + 1
    yield blob[start:]


def pack_backlog(number: int, messages: Collection[bytes]) -> bytes:
    """The beginning of a snapshot: the number of the key group, and what waits."""
    if not messages:
        return bytes([number])
    parts = [bytes([number | WAITING]), _COUNT.pack(len(messages))]
    for message in messages:
        parts += (_COUNT.pack(len(message)), message)
    return b"".join(parts)


def unpack_backlog(snapshot: bytes) -> tuple[int, list[bytes], bytes]:
    """The number of the key group, what waits, and what the group itself holds."""
    first = snapshot[0]
    if not first & WAITING:
        return first, [], snapshot[1:]
    (count,) = _COUNT.unpack_from(snapshot, 1)
    at = 1 + _COUNT.size
    messages = []
    for _ in range(count):
        (length,) = _COUNT.unpack_from(snapshot, at)
        at += _COUNT.size
        messages.append(snapshot[at : at + length])
        at += length
    return first & ~WAITING, messages, snapshot[at:]
