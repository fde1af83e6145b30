"""
Routes raw batches: peeks the subject, finds its customer's key group, and lets the bytes go on as bytes.

Where a subject has changed hands, the event's time is looked at too: usage belongs to who had the subject then. An
event whose subject no customer has goes by its subject, and is parked where it arrives.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from dataflows.log_clock import LogClock
from dataflows.messages import RawBatch, header, instant, segment_header
from rating.catalog import KEY_GROUPS, Catalog, key_group
from rating.events import WHITE_SPACE, is_framed, subjects, time_of

SUBJECTS_MAX = 1_000_000
"""Subjects whose key group is remembered."""


class SeesCatalog(Protocol):
    """A catalog that can be asked to have seen an entry of the control log."""

    catalog: Catalog

    @property
    def version(self) -> int: ...

    def catch_up_to(self, head: int) -> None: ...


class Router:
    """Turns a `RawBatch` into at most one message for each key group, and tells the clock what is under way."""

    def __init__(self, view: SeesCatalog, clock: LogClock | None = None) -> None:
        self._view = view
        self._clock = clock or LogClock(alone=False)
        self._group_by_subject: dict[str | None, int] = {}
        self._version = -1

    def route(self, batch: RawBatch) -> Iterable[tuple[str, bytes]]:
        """The messages of a batch, each with the key of its group. The order of events within a group is kept."""
        view = self._view
        view.catch_up_to(batch.head)
        if self._version != view.version:
            self._version = view.version
            self._group_by_subject.clear()
        group_by_subject = self._group_by_subject
        parts: list[list[bytes]] = [[] for _ in range(KEY_GROUPS)]
        for received_us, blob, meter, read_version in batch.segments:
            lines_by_group: list[list[bytes]] = [[] for _ in range(KEY_GROUPS)]
            blob = blob.strip(WHITE_SPACE)
            lines = blob.split(b"\n")
            framed = is_framed(lines)
            found = subjects(blob, lines, framed)
            for line, subject, group in zip(lines, found, map(group_by_subject.get, found), strict=True):
                if group is None:
                    group = self._group_of(subject or "", line, received_us)
                lines_by_group[group].append(line)
            for part, of_group in zip(parts, lines_by_group, strict=True):
                if of_group:
                    joined = b"\n".join(of_group)
                    part += (segment_header(received_us, len(joined), framed, meter, read_version), joined)
        head = view.version
        for group, part in enumerate(parts):
            if part:
                self._clock.sent(group)
                yield f"{group:02}", header(group, head) + b"".join(part)
        self._clock.routed(batch)

    def _group_of(self, subject: str, line: bytes, received_us: int) -> int:
        catalog = self._view.catalog
        if catalog.has_moved(subject):
            # It depends on the time, and so is not remembered.
            received_at = instant(received_us)
            owner = catalog.owner_of_usage(subject, time_of(line) or received_at, received_at)
            return key_group(subject if owner is None else owner)
        if len(self._group_by_subject) >= SUBJECTS_MAX:
            self._group_by_subject.clear()
        group = key_group(catalog.customer_id_by_subject.get(subject, subject))
        self._group_by_subject[subject] = group
        return group
