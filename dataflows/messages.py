"""
What crosses the exchange to a key group: bytes, and nothing else.

A message is one byte of key group, eight bytes of control-log head (the entry the reader must have seen),
and any number of segments: eight bytes of receiving time (microseconds since the epoch), four bytes of
length, one byte that says whether each line was seen to begin with `{` and end with `}`, eight bytes of the control-log
entry that had been seen when they were read before and waited (-1: they were not), one byte of length and the key of a
meter where only its usage is to be counted, and CloudEvents as JSON, one per line. A message without segments is a
notice that the catalog moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from struct import Struct as Layout
from typing import NamedTuple

_HEAD = Layout("<BQ")
_SEGMENT = Layout("<QI?qB")
HEAD_BYTES = _HEAD.size
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Segment(NamedTuple):
    """An entry of the log."""

    received_us: int
    """When its events were first received, in microseconds since the epoch."""
    blob: bytes
    """CloudEvents as JSON, one per line."""
    meter: str = ""
    """The key of the one meter whose usage is to be counted, since the rest was; empty: all of it."""
    read_version: int | None = None
    """
    Of events that were read before, and waited: the entry of the control log that had been seen then. Their first
    receipt says nothing of how far the flow is behind. None: they are read for the first time.
    """


class RawBatch(NamedTuple):
    """What a source read, and the head of the control log to have seen."""

    head: int
    segments: list[Segment]
    place: tuple[str, str] | None = None
    """The step and the partition that it was read from, where what is read sets the time."""


def header(group: int, head: int) -> bytes:
    """The beginning of a message."""
    return _HEAD.pack(group, head)


def segment_header(
    received_us: int, length: int, framed: bool, meter: str = "", read_version: int | None = None
) -> bytes:
    """The beginning of a segment."""
    key = meter.encode()
    return _SEGMENT.pack(received_us, length, framed, -1 if read_version is None else read_version, len(key)) + key


def read_header(message: bytes) -> tuple[int, int]:
    """The key group and the control-log head of a message."""
    group, head = _HEAD.unpack_from(message)
    return group, head


def segments(message: bytes) -> Iterator[tuple[datetime, bytes, bool, str, int | None]]:
    """The segments of a message: when received, the lines, whether framed, the one meter, when read and waited."""
    for _, received_at, blob, framed, meter, read_version in segments_with_ends(message):
        yield received_at, blob, framed, meter, read_version


def segments_with_ends(message: bytes) -> Iterator[tuple[int, datetime, bytes, bool, str, int | None]]:
    """The segments of a message, each behind the place in the message where it ends."""
    at = HEAD_BYTES
    end = len(message)
    while at < end:
        received_us, length, framed, version, key_length = _SEGMENT.unpack_from(message, at)
        at += _SEGMENT.size
        meter = ""
        if key_length:
            meter = message[at : at + key_length].decode()
            at += key_length
        blob = message[at : at + length]
        at += length
        yield at, instant(received_us), blob, framed, meter, None if version < 0 else version


def first_receipt(message: bytes) -> datetime | None:
    """When the first segment of a message was received; None: it is a notice."""
    return instant(_SEGMENT.unpack_from(message, HEAD_BYTES)[0]) if len(message) > HEAD_BYTES else None


def microseconds(instant: datetime) -> int:
    """An instant as microseconds since the epoch, exact."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def instant(microseconds: int) -> datetime:
    """The inverse of `microseconds`."""
    return _EPOCH + timedelta(microseconds=microseconds)
