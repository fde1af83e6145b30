"""
What crosses the exchange to a key group: bytes, and nothing else.

A message is one byte of key group, eight bytes of control-log head (the entry the reader must have seen),
and any number of segments: eight bytes of receiving time (microseconds since the epoch), four bytes of
length, one byte that says whether each line was seen to begin with `{` and end with `}`, and CloudEvents as JSON,
one per line. A message without segments is a notice that the catalog moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from struct import Struct as Layout
from typing import NamedTuple

_HEAD = Layout("<BQ")
_SEGMENT = Layout("<QI?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RawBatch(NamedTuple):
    """What a source read: for each entry of the log when it was received and its lines, and the head to have seen."""

    head: int
    segments: list[tuple[int, bytes]]


def header(group: int, head: int) -> bytes:
    """The beginning of a message."""
    return _HEAD.pack(group, head)


def segment_header(received_us: int, length: int, framed: bool) -> bytes:
    """The beginning of a segment."""
    return _SEGMENT.pack(received_us, length, framed)


def read_header(message: bytes) -> tuple[int, int]:
    """The key group and the control-log head of a message."""
    group, head = _HEAD.unpack_from(message)
    return group, head


def segments(message: bytes) -> Iterator[tuple[datetime, bytes, bool]]:
    """The segments of a message: when received, the lines, and whether they were seen to be framed."""
    at = _HEAD.size
    end = len(message)
    while at < end:
        received_us, length, framed = _SEGMENT.unpack_from(message, at)
        at += _SEGMENT.size
        yield _EPOCH + timedelta(microseconds=received_us), message[at : at + length], framed
        at += length


def microseconds(instant: datetime) -> int:
    """An instant as microseconds since the epoch, exact."""
    return (instant - _EPOCH) // timedelta(microseconds=1)
