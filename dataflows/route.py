"""
Routes raw batches: peeks the subject, finds its customer's key group, and lets the bytes go on as bytes.

An event whose subject no customer has goes by its subject, and is parked where it arrives.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from dataflows.messages import RawBatch, header, segment_header
from rating.catalog import KEY_GROUPS, Catalog, key_group
from rating.events import subjects


class SeesCatalog(Protocol):
    """A catalog that can be asked to have seen an entry of the control log."""

    catalog: Catalog

    @property
    def version(self) -> int: ...

    def catch_up_to(self, head: int) -> None: ...


class Router:
    """Turns a `RawBatch` into at most one message for each key group."""

    def __init__(self, view: SeesCatalog) -> None:
        self._view = view
        self._group_by_id: dict[str, int] = {}

    def route(self, batch: RawBatch) -> Iterable[tuple[str, bytes]]:
        """The messages of a batch, each with the key of its group. The order of events within a group is kept."""
        self._view.catch_up_to(batch.head)
        owners = self._view.catalog.customer_id_by_subject
        group_by_id = self._group_by_id
        parts: list[list[bytes]] = [[] for _ in range(KEY_GROUPS)]
        for received_us, blob in batch.segments:
            lines = blob.split(b"\n")
            by_group: dict[int, list[bytes]] = {}
            for line, subject in zip(lines, subjects(lines), strict=True):
                if subject is None:
                    if not line.strip():
                        continue
                    subject = ""
                owner = owners.get(subject, subject)
                group = group_by_id.get(owner)
                if group is None:
                    group = group_by_id[owner] = key_group(owner)
                found = by_group.get(group)
                if found is None:
                    by_group[group] = [line]
                else:
                    found.append(line)
            for group, found in by_group.items():
                joined = b"\n".join(found)
                parts[group] += (segment_header(received_us, len(joined)), joined)
        head = self._view.version
        for group, part in enumerate(parts):
            if part:
                yield f"{group:02}", header(group, head) + b"".join(part)
