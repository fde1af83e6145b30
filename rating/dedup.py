"""
Which events were rated already: identity is (source, id).

Ids are kept exactly, with a fingerprint of the event's bytes, and are forgotten in segments: once both a
horizon of event time and the same span of receiving time have passed, so that neither a backfill nor an
idle night forgets too early. A full segment goes to the ledger; a snapshot carries only the open one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct, field

from rating.rows import SeenIds

SEGMENT_SIZE = 2048
"""Ids in a segment: about what a snapshot carries at most per key group."""

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

    The fold reads and adds to what `of_source` gives; `seal` then moves what has become a full segment out.
    """

    def __init__(self, key_group: int, state: SeenState, horizon: timedelta, load: LoadSegments) -> None:
        self.key_group = key_group
        self.state = state
        self.horizon = horizon
        self.prints: dict[str, Prints] = {}
        self.open_count = sum(len(ids) for ids, _ in state.open_ids.values())
        self._ids_by_segment: dict[int, Ids] = {}
        for segment, packed in zip(state.segments, load(key_group, [s.number for s in state.segments]), strict=True):
            ids = unpack_ids(packed)
            self._ids_by_segment[segment.number] = ids
            self._read(ids)
        self._read(state.open_ids)

    def _read(self, segment: Ids) -> None:
        for source, (ids, prints) in segment.items():
            self.prints.setdefault(source, {}).update(zip(ids, prints, strict=True))

    def of_source(self, source: str) -> tuple[Prints, list[str], list[int]]:
        """The fingerprints of a source's events by id; and the open segment's ids and fingerprints, to add new ones."""
        prints = self.prints.get(source)
        if prints is None:
            prints = self.prints[source] = {}
        opened = self.state.open_ids.get(source)
        if opened is None:
            opened = self.state.open_ids[source] = ([], [])
        return prints, *opened

    def seal(self, added: int, received_at: datetime) -> SeenIds | None:
        """Count what was added to the open segment, seal it if it is full, and forget what is beyond the horizon."""
        self.open_count += added
        if self.open_count < SEGMENT_SIZE:
            return None
        state = self.state
        assert state.newest_event is not None
        number = state.next_segment
        full = {source: opened for source, opened in state.open_ids.items() if opened[0]}
        for source in state.open_ids.keys() - full.keys():
            if not self.prints[source]:
                del self.prints[source]
        state.segments.append(Segment(number, state.newest_event, received_at))
        state.next_segment += 1
        state.open_ids = {}
        self.open_count = 0
        self._ids_by_segment[number] = full
        self._forget(received_at - self.horizon, state.newest_event - self.horizon)
        return SeenIds(self.key_group, number, pack_ids(full))

    def _forget(self, sealed_before: datetime, newest_before: datetime) -> None:
        segments = self.state.segments
        while segments and segments[0].sealed_at < sealed_before and segments[0].newest_event < newest_before:
            for source, (ids, _) in self._ids_by_segment.pop(segments.pop(0).number).items():
                prints = self.prints[source]
                for event_id in ids:
                    prints.pop(event_id, None)
                if not prints:
                    del self.prints[source]


def pack_ids(ids: Ids) -> bytes:
    """Ids and fingerprints as compressed MessagePack. Ids rarely repeat in parts, so only letters are coded short."""
    compressor = zlib.compressobj(1, strategy=zlib.Z_HUFFMAN_ONLY)
    return compressor.compress(msgspec.msgpack.encode(ids)) + compressor.flush()


def unpack_ids(packed: bytes) -> Ids:
    """The inverse of `pack_ids`."""
    return msgspec.msgpack.decode(zlib.decompress(packed), type=Ids)
