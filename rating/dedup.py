"""
Which events were rated already: identity is (source, id).

What is driven again for one meter has its own identity: a NUL and the meter's key follow the id, which holds none.

Ids are kept exactly, with a fingerprint of the event's bytes, and are forgotten in segments: once both a
horizon of event time and the same span of receiving time have passed, so that neither a backfill nor an
idle night forgets too early. A full segment goes to the ledger; a snapshot carries only the open one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Reversible
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from rating.rows import SeenIds

SEGMENT_SIZE = 2048
"""Ids in a segment: about what a snapshot carries at most per key group."""

T = TypeVar("T")

Prints = dict[str, int]
"""The ids of a source's events, each with the fingerprint of the event."""

Ids = dict[str, tuple[list[str], list[int]]]
"""By source, the ids of events and their fingerprints, in the order in which they came."""

LoadSegments = Callable[[int, list[int]], Iterable[bytes]]
"""Given a key group and segment numbers: the ids of those segments, as `SeenIds` carried them."""


class Segment(Struct, array_like=True):
    """A sealed segment: its number, and what tells when it may be forgotten."""

    number: int
    newest_event: datetime
    sealed_at: datetime


class SeenState(Struct, array_like=True):
    """What a snapshot keeps."""

    open_ids: Ids = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    next_segment: int = 1
    newest_event: datetime | None = None


class SeenEvents:
    """
    The ids of one key group.

    The fold looks ids up and adds them in what `of_source` gives; `seal` then moves what has become a full segment
    out. A dict keeps its order, so the ids of the open segment are the last of their source.
    """

    def __init__(self, key_group: int, state: SeenState, horizon: timedelta, load: LoadSegments) -> None:
        self.key_group = key_group
        self.horizon = horizon
        self.newest_event = state.newest_event
        """The latest time of an event that was rated."""
        self._prints: dict[str, Prints] = {}
        self._segments = state.segments
        self._next_segment = state.next_segment
        self._ids_by_segment: dict[int, Ids] = {}
        for segment, packed in zip(state.segments, load(key_group, [s.number for s in state.segments]), strict=True):
            ids = unpack_ids(packed)
            self._ids_by_segment[segment.number] = ids
            self._read(ids)
        self._sealed_by_source = {source: len(prints) for source, prints in self._prints.items()}
        self._read(state.open_ids)
        self._open_count = sum(len(ids) for ids, _ in state.open_ids.values())

    def _read(self, segment: Ids) -> None:
        for source, (ids, prints) in segment.items():
            self._prints.setdefault(source, {}).update(zip(ids, prints, strict=True))

    def __len__(self) -> int:
        return sum(map(len, self._prints.values()))

    def of_source(self, source: str) -> Prints:
        """The fingerprints of a source's events by id, to look up and to add to."""
        prints = self._prints.get(source)
        if prints is None:
            prints = self._prints[source] = {}
        return prints

    def snapshot(self) -> SeenState:
        """What to go on from."""
        return SeenState(self._open_ids(), self._segments, self._next_segment, self.newest_event)

    def _open_ids(self) -> Ids:
        opened: Ids = {}
        for source, prints in self._prints.items():
            count = len(prints) - self._sealed_by_source.get(source, 0)
            if count:
                opened[source] = (_last(prints, count), _last(prints.values(), count))
        return opened

    def seal(self, added: int, received_at: datetime) -> SeenIds | None:
        """Count what was added to the open segment, seal it if it is full, and forget what is beyond the horizon."""
        self._open_count += added
        if self._open_count < SEGMENT_SIZE:
            return None
        newest_event = self.newest_event
        assert newest_event is not None
        number = self._next_segment
        self._next_segment += 1
        full = self._open_ids()
        self._open_count = 0
        self._segments.append(Segment(number, newest_event, received_at))
        self._ids_by_segment[number] = full
        self._forget(received_at - self.horizon, newest_event - self.horizon)
        self._prints = {source: prints for source, prints in self._prints.items() if prints}
        self._sealed_by_source = {source: len(prints) for source, prints in self._prints.items()}
        return SeenIds(self.key_group, number, pack_ids(full), self._segments[0].number)

    def _forget(self, sealed_before: datetime, newest_before: datetime) -> None:
        segments = self._segments
        while segments and segments[0].sealed_at < sealed_before and segments[0].newest_event < newest_before:
            for source, (ids, _) in self._ids_by_segment.pop(segments.pop(0).number).items():
                prints = self._prints[source]
                for event_id in ids:
                    prints.pop(event_id, None)


def _last(items: Reversible[T], count: int) -> list[T]:
    newest = [*islice(reversed(items), count)]
    newest.reverse()
    return newest


def pack_ids(ids: Ids) -> bytes:
    """Ids and fingerprints as compressed MessagePack. Ids rarely repeat in parts, so only letters are coded short."""
    compressor = zlib.compressobj(1, strategy=zlib.Z_HUFFMAN_ONLY)
    return compressor.compress(msgspec.msgpack.encode(ids)) + compressor.flush()


def unpack_ids(packed: bytes) -> Ids:
    """The inverse of `pack_ids`."""
    return msgspec.msgpack.decode(zlib.decompress(packed), type=Ids)
