"""
What was read and waits for its turn: a key group takes events in for so long at a time, and nobody waits for longer.

A message that holds much is taken in by parts, and what is left of it when the time is over is a message too. As long
as something waits, the sources of the process read nothing more; at the end of an epoch, what still waits goes into
the snapshot, so that an epoch ends in time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from struct import Struct as Layout
from typing import TypeVar

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from dataflows.messages import HEAD_BYTES, microseconds, segment_header, segments_with_ends

PART_BYTES = 128 * 1024
PART_LINES = 1000
"""A part has about so many bytes, and about so many events, at most: some milliseconds of work, as a rule."""
LOOK = timedelta(milliseconds=1)
"""So soon a source that waited looks again."""

WAITING = 0x80
"""In the first byte of a snapshot: messages stand before what the group itself holds."""
_COUNT = Layout("<I")

Part = tuple[datetime, bytes, bool, str, int | None, int, int]
"""
Of a segment: when received, the lines, whether framed, the one meter, when read and waited; where the segment ends in
its message, and how many bytes of it come after the part.
"""

X = TypeVar("X")
S = TypeVar("S")


class Backlog:
    """The key groups of one process in which something waits."""

    def __init__(self) -> None:
        self._waiting: set[int] = set()

    def waits(self, group: int, *, is_waiting: bool) -> None:
        """Something waits in a key group, or nothing does."""
        if is_waiting:
            self._waiting.add(group)
        else:
            self._waiting.discard(group)

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


def parts(message: bytes) -> Iterator[Part]:
    """
    The segments of a message, a large one in parts of which each takes little time.

    What an event means does not depend on those around it.
    """
    for end, received_at, blob, framed, meter, read_version in segments_with_ends(message):
        if len(blob) <= PART_BYTES and blob.count(b"\n") < PART_LINES:
            yield received_at, blob, framed, meter, read_version, end, 0
            continue
        for begin, stop in _cuts(blob):
            yield received_at, blob[begin:stop], framed, meter, read_version, end, max(len(blob) - stop - 1, 0)


def rest_of(message: bytes, part: Part) -> bytes | None:
    """What comes after a part of a message, as a message; None: nothing."""
    received_at, _, framed, meter, read_version, end, left = part
    if not left and end == len(message):
        return None
    begin = message[:HEAD_BYTES]
    if left:
        begin += segment_header(microseconds(received_at), left, framed, meter, read_version)
    return begin + message[end - left :]


def _cuts(blob: bytes) -> Iterator[tuple[int, int]]:
    """Where to cut between lines: the place of each part."""
    start = 0
    while len(blob) - start > PART_BYTES or blob.count(b"\n", start) >= PART_LINES:
        size = PART_BYTES
        while size > 1 and blob.count(b"\n", start, start + size) > PART_LINES:
            size //= 2
        end = blob.find(b"\n", min(start + size, len(blob)) - 1)
        if end < 0:
            break
        yield start, end
        start = end + 1
    yield start, len(blob)


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
