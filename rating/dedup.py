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
"""Ids in a segment: what a snapshot carries at most per key group."""

LoadSegments = Callable[[int, list[int]], Iterable[bytes]]
"""Given a key group and segment numbers: the ids of those segments, as `SeenIds` carried them."""


class Segment(Struct, array_like=True):
    """A sealed segment: its number, and what tells when it may be forgotten."""

    number: int
    newest_event: datetime
    sealed_at: datetime


class SeenState(Struct, array_like=True):
    """What a snapshot keeps."""

    open_ids: dict[str, int] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    next_segment: int = 1
    newest_event: datetime | None = None


class SeenEvents:
    """
    The ids of one key group.

    `ids` maps an identity to its fingerprint, and `fresh` has those of the open segment. The fold reads and adds
    to both directly; `seal` then moves what has become a full segment out.
    """

    def __init__(self, key_group: int, state: SeenState, horizon: timedelta, load: LoadSegments) -> None:
        self.key_group = key_group
        self.state = state
        self.horizon = horizon
        self.ids: dict[str, int] = {}
        self._ids_by_segment: dict[int, list[str]] = {}
        for segment, packed in zip(state.segments, load(key_group, [s.number for s in state.segments]), strict=True):
            found = unpack_ids(packed)
            self.ids.update(found)
            self._ids_by_segment[segment.number] = list(found)
        self.ids.update(state.open_ids)
        self.fresh = list(state.open_ids)

    def snapshot(self) -> SeenState:
        """The state, with the open segment as it is now."""
        self.state.open_ids = {identity: self.ids[identity] for identity in self.fresh}
        return self.state

    def seal(self, received_at: datetime) -> SeenIds | None:
        """Seal the open segment if it is full, and forget what is beyond the horizon."""
        if len(self.fresh) < SEGMENT_SIZE:
            return None
        state = self.snapshot()
        assert state.newest_event is not None
        number = state.next_segment
        sealed = SeenIds(self.key_group, number, pack_ids(state.open_ids))
        state.segments.append(Segment(number, state.newest_event, received_at))
        self._ids_by_segment[number] = self.fresh
        state.next_segment += 1
        self.fresh = []
        forgotten = received_at - self.horizon
        while (
            state.segments
            and state.segments[0].sealed_at < forgotten
            and state.segments[0].newest_event < state.newest_event - self.horizon
        ):
            for identity in self._ids_by_segment.pop(state.segments.pop(0).number):
                self.ids.pop(identity, None)
        return sealed


def pack_ids(ids: dict[str, int]) -> bytes:
    """Ids and fingerprints as compressed MessagePack."""
    return zlib.compress(msgspec.msgpack.encode(ids), 1)


def unpack_ids(packed: bytes) -> dict[str, int]:
    """The inverse of `pack_ids`."""
    return msgspec.msgpack.decode(zlib.decompress(packed), type=dict[str, int])
