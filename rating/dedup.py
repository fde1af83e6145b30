"""
Which events were rated already: identity is (source, id) within its customer.

Ids are kept exactly, each with whose it is and a fingerprint of the event (`rating.prints`). Nearly always one customer
of a key group has an id, so what is looked up is one dict for each source; customers who have an id that another one
had first are kept beside it. That it is the same key group never matters.

Whoever is the first to be received under an id has it, also while it waits: how events that wait, and those that came
back, are remembered among the others is the intake's (`rating.intake`).

Ids are forgotten in segments: once both a horizon of event time and the same span of receiving time have passed,
so that neither a backfill nor an idle night forgets too early. A full segment goes to the ledger; a snapshot
carries only the open one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Reversible
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, TypeVar

import msgspec
from msgspec import Struct, field

from rating.outcome import SeenIds

SEGMENT_IDS = 2048
"""Ids in a segment: about what a snapshot carries at most per key group."""

T = TypeVar("T")

Prints = dict[str, int]
"""The ids of a source's events, each with its print: see `mark_of`."""

Ids = dict[str, tuple[list[str], list[int]]]
"""By source, the ids of events and their prints. Those that a customer was the first to have are in order."""

LoadSegments = Callable[[int, list[int]], Iterable[bytes]]
"""Given a key group and segment numbers: the ids of those segments, as `SeenIds` carried them."""

ANYBODY: Final = 0
"""Whose an id is that was kept before it was known whose: every customer's."""
LEFT: Final = -1
"""The print of an id that the first customer to have it has no more, while others still do."""
_FINGERPRINT_BITS: Final = 32
_FINGERPRINT: Final = (1 << _FINGERPRINT_BITS) - 1


def mark_of(number: int) -> int:
    """What is added to an event's fingerprint of 32 bits to make its print: the customer's number in its key group."""
    return number << _FINGERPRINT_BITS


def part_of(source: str, meter: str) -> str:
    """What takes the place of the source in the identity of one meter's usage of an event. No source has a NUL."""
    return f"{source}\0{meter}" if meter else source


class Reread(Struct, frozen=True):
    """A history of the ledger in which the log is read again, with all that its control log says by then."""

    read_from: datetime
    """Events that were received after this instant are read again."""
    control_version: int
    """The newest entry of the control log as it began: all of them are read with that one seen at least."""


def was_read_again(rereads: Iterable[Reread], received_at: datetime, read_version: int) -> bool:
    """
    Whether what is driven again is of a reading that was undone: the event itself has been read once more since.

    Then it was rated where it stands, or waits anew, and its id may have been forgotten by now.

    Args:
        rereads: In which the log was read again.
        received_at: When the event was first received.
        read_version: The entry of the control log that had at least been seen when it was read, and had to wait.
    """
    return any(one.control_version > read_version and one.read_from < received_at for one in rereads)


class SealedSegment(Struct, array_like=True):
    """A sealed segment: its number, and what decides when it may be forgotten."""

    number: int
    newest_event: datetime
    sealed_at: datetime


class SeenState(Struct, array_like=True):
    """What a snapshot keeps."""

    open_ids: Ids = field(default_factory=dict)
    segments: list[SealedSegment] = field(default_factory=list)
    next_segment: int = 1
    newest_event: datetime | None = None


class SeenEvents:
    """
    The ids of one key group.

    The fold looks ids up and adds them in what `of_source` gives; where an id is there already, `fingerprint` and
    `add_beside` know the other customers who have it. `seal` then moves what has become a full segment out. A dict
    keeps its order, so the ids of the open segment are the last of their source.
    """

    def __init__(self, key_group: int, state: SeenState, horizon: timedelta, load: LoadSegments) -> None:
        self.key_group = key_group
        self.horizon = horizon
        self.newest_event = state.newest_event
        """The latest time of an event that was rated."""
        self._prints: dict[str, Prints] = {}
        self._beside: dict[tuple[str, str], dict[int, int]] = {}
        """By source and id, the fingerprints of customers that were not the first to have the id, by their number."""
        self._open_beside: list[tuple[str, str, int]] = []
        """Source, id and print of those in the open segment."""
        self._segments = state.segments
        self._next_segment = state.next_segment
        self._ids_by_segment: dict[int, Ids] = {}
        for segment, packed in zip(state.segments, load(key_group, [s.number for s in state.segments]), strict=True):
            ids = unpack_ids(packed)
            self._ids_by_segment[segment.number] = ids
            self._read(ids)
        self._sealed_by_source = {source: len(prints) for source, prints in self._prints.items()}
        self._open_beside = self._read(state.open_ids)
        self._open_count = sum(len(ids) for ids, _ in state.open_ids.values())

    def _read(self, segment: Ids) -> list[tuple[str, str, int]]:
        """Take the ids of a segment in. Returns those that another customer has too, and had first."""
        beside = []
        for source, (ids, prints) in segment.items():
            known = self._prints.setdefault(source, {})
            for event_id, found in zip(ids, prints, strict=True):
                if known.setdefault(event_id, found) != found:
                    self._keep_beside(source, event_id, found)
                    beside.append((source, event_id, found))
        return beside

    def _keep_beside(self, source: str, event_id: str, found: int) -> None:
        number = found >> _FINGERPRINT_BITS
        self._beside.setdefault((source, event_id), {})[number] = found & _FINGERPRINT

    def __len__(self) -> int:
        held = sum(found != LEFT for prints in self._prints.values() for found in prints.values())
        return held + sum(map(len, self._beside.values()))

    def of_source(self, source: str) -> Prints:
        """The prints of a source's events by id, to look up, and to add ids to that are not there."""
        prints = self._prints.get(source)
        if prints is None:
            prints = self._prints[source] = {}
        return prints

    def fingerprint(self, source: str, event_id: str, known: int, number: int) -> int | None:
        """
        The fingerprint of a customer's event, None where it was not rated yet.

        Args:
            source: Of the event.
            event_id: Of the event.
            known: What `of_source` has of the id.
            number: The customer's.
        """
        if known >> _FINGERPRINT_BITS in (number, ANYBODY):
            return known & _FINGERPRINT
        beside = self._beside.get((source, event_id))
        return None if beside is None else beside.get(number)

    def print_of(self, source: str, event_id: str, number: int) -> int | None:
        """The fingerprint of the event that a customer, by its number, has under an id; None where it has none."""
        known = self._prints.get(source, {}).get(event_id)
        return None if known is None else self.fingerprint(source, event_id, known, number)

    def add(self, source: str, event_id: str, found: int) -> bool:
        """Add the print of an event, where its customer has none under the id. Returns whether it is new."""
        if self.print_of(source, event_id, found >> _FINGERPRINT_BITS) is not None:
            return False
        prints = self.of_source(source)
        if event_id in prints:
            self.add_beside(source, event_id, found)
        else:
            prints[event_id] = found
        return True

    def add_beside(self, source: str, event_id: str, found: int) -> None:
        """Add the print of an event whose id `of_source` has, but which is new for its customer."""
        self._keep_beside(source, event_id, found)
        self._open_beside.append((source, event_id, found))

    def snapshot(self) -> SeenState:
        """What to go on from."""
        return SeenState(self._open_ids(), self._segments, self._next_segment, self.newest_event)

    def _open_ids(self) -> Ids:
        opened: Ids = {}
        for source, prints in self._prints.items():
            count = len(prints) - self._sealed_by_source.get(source, 0)
            if count:
                opened[source] = (_last(prints, count), _last(prints.values(), count))
        for source, event_id, found in self._open_beside:
            ids, prints_beside = opened.setdefault(source, ([], []))
            ids.append(event_id)
            prints_beside.append(found)
        return opened

    def seal(self, added: int, received_at: datetime) -> SeenIds | None:
        """Count what was added to the open segment, seal it if it is full, and forget what is beyond the horizon."""
        self._open_count += added
        if self._open_count < SEGMENT_IDS:
            return None
        newest_event = self.newest_event
        assert newest_event is not None
        number = self._next_segment
        self._next_segment += 1
        full = self._open_ids()
        self._open_count = 0
        self._open_beside = []
        self._segments.append(SealedSegment(number, newest_event, received_at))
        self._ids_by_segment[number] = full
        self._forget(received_at - self.horizon, newest_event - self.horizon)
        self._prints = {source: prints for source, prints in self._prints.items() if prints}
        self._sealed_by_source = {source: len(prints) for source, prints in self._prints.items()}
        return SeenIds(self.key_group, number, pack_ids(full), self._segments[0].number)

    def _forget(self, sealed_before: datetime, newest_before: datetime) -> None:
        segments = self._segments
        while segments and segments[0].sealed_at < sealed_before and segments[0].newest_event < newest_before:
            for source, (ids, found) in self._ids_by_segment.pop(segments.pop(0).number).items():
                prints = self._prints[source]
                for event_id, its_print in zip(ids, found, strict=True):
                    if prints.get(event_id) != its_print:
                        self._forget_beside(source, event_id, its_print >> _FINGERPRINT_BITS)
                    elif (source, event_id) in self._beside:
                        prints[event_id] = LEFT
                    else:
                        del prints[event_id]

    def _forget_beside(self, source: str, event_id: str, number: int) -> None:
        beside = self._beside.get((source, event_id))
        if beside is None:
            return
        beside.pop(number, None)
        if not beside:
            del self._beside[source, event_id]
            prints = self._prints[source]
            if prints.get(event_id) == LEFT:
                del prints[event_id]


def _last(items: Reversible[T], count: int) -> list[T]:
    newest = [*islice(reversed(items), count)]
    newest.reverse()
    return newest


def pack_ids(ids: Ids) -> bytes:
    """Ids and prints as compressed MessagePack. Ids rarely repeat in parts, so only letters are coded short."""
    compressor = zlib.compressobj(1, strategy=zlib.Z_HUFFMAN_ONLY)
    return compressor.compress(msgspec.msgpack.encode(ids)) + compressor.flush()


def unpack_ids(packed: bytes) -> Ids:
    """The inverse of `pack_ids`."""
    return msgspec.msgpack.decode(zlib.decompress(packed), type=Ids)
