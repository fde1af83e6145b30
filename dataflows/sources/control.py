"""
The control log as a source: tells key groups that the catalog moved, and drives parked events again.

What changed is read from the catalog itself, so a notice may come twice or be merged with another. The
offset is the id of the last entry that was told.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Event

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from dataflows.catalog_view import CatalogView
from dataflows.messages import header
from dataflows.redrive import Redrive
from rating.catalog import KEY_GROUPS

POLL = timedelta(milliseconds=20)


class ControlPartition(StatefulSourcePartition[tuple[str, bytes], int]):
    """Polls the control log, and answers at once either way, since a waiting source would hold up every epoch."""

    def __init__(self, view: CatalogView, redrive: Redrive | None, stopping: Event, drain: bool) -> None:
        self._view = view
        self._redrive = redrive
        self._stopping = stopping
        self._drain = drain
        self._told = -1
        if redrive is not None:
            redrive.start()

    def next_batch(self) -> list[tuple[str, bytes]]:
        if self._stopping.is_set():
            raise StopIteration
        self._view.catch_up()
        head = self._view.version
        if self._redrive is not None:
            self._redrive.drive()
        if head == self._told:
            if self._drain and (self._redrive is None or self._redrive.is_idle()):
                raise StopIteration
            return []
        self._told = head
        return [(f"{group:02}", header(group, head)) for group in range(KEY_GROUPS)]

    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + POLL

    def snapshot(self) -> int:
        return self._told

    def close(self) -> None:
        if self._redrive is not None:
            self._redrive.close()


class ControlSource(FixedPartitionedSource[tuple[str, bytes], int]):
    """The control log: one partition. At every start all key groups are told, so that each sees the present."""

    def __init__(self, view: CatalogView, redrive: Redrive | None, stopping: Event, drain: bool = False) -> None:
        self._view = view
        self._redrive = redrive
        self._stopping = stopping
        self._drain = drain
        self.begun = Event()
        """Set once the flow begins in this process, which is when all processes of its cluster are there."""

    def list_parts(self) -> list[str]:
        self.begun.set()
        return ["control"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> ControlPartition:
        return ControlPartition(self._view, self._redrive, self._stopping, self._drain)
