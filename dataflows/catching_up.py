"""Sources that say when they have read what the log had as they began."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, TypeVar, cast

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from dataflows.messages import RawBatch
from sinks.catching_up import CatchingUp

S = TypeVar("S")


class _KnowsItsEnd(Protocol):
    @property
    def at_end(self) -> bool:
        """Whether there was nothing more to read the last time."""


class _Partition(StatefulSourcePartition[RawBatch, S]):
    def __init__(
        self, partition: StatefulSourcePartition[RawBatch, S], place: tuple[str, str], catching_up: CatchingUp
    ) -> None:
        self._partition = partition
        self._place = place
        self._catching_up = catching_up
        self._passed = False
        catching_up.opened(place)

    def next_batch(self) -> list[RawBatch]:
        try:
            batches = list(self._partition.next_batch())
        except StopIteration:
            self._look(None)
            raise
        self._look(batches[-1] if batches else None)
        return batches

    def _look(self, newest: RawBatch | None) -> None:
        if self._passed:
            return
        if newest is None:
            self._passed = cast(_KnowsItsEnd, self._partition).at_end
        else:
            self._passed = newest.segments[-1].received_us >= self._catching_up.began_us
        if self._passed:
            self._catching_up.passed(self._place)

    def next_awake(self) -> datetime | None:
        return self._partition.next_awake()

    def snapshot(self) -> S:
        return self._partition.snapshot()

    def close(self) -> None:
        self._partition.close()


class Following(FixedPartitionedSource[RawBatch, S]):
    """
    A source of a log, whose partitions say so when they have caught up with it.

    Args:
        source: Its partitions know whether they are `at_end`.
        catching_up: Who is told.
    """

    def __init__(self, source: FixedPartitionedSource[RawBatch, S], catching_up: CatchingUp) -> None:
        self._source = source
        self._catching_up = catching_up

    def list_parts(self) -> list[str]:
        return self._source.list_parts()

    def build_part(self, step_id: str, for_part: str, resume_state: S | None) -> StatefulSourcePartition[RawBatch, S]:
        partition = self._source.build_part(step_id, for_part, resume_state)
        return _Partition(partition, (step_id, for_part), self._catching_up)
