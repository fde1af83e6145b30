"""Sources that say how far they have read their log, and when they have read what it had as they began."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol, TypeVar, cast

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from dataflows.log_clock import LogClock
from dataflows.messages import RawBatch
from sinks.catching_up import CatchingUp

S = TypeVar("S")


class _KnowsItsEnd(Protocol):
    @property
    def at_end(self) -> bool:
        """Whether there was nothing more to read the last time."""


class _Partition(StatefulSourcePartition[RawBatch, S]):
    def __init__(
        self,
        partition: StatefulSourcePartition[RawBatch, S],
        place: tuple[str, str],
        catching_up: CatchingUp,
        clock: LogClock,
    ) -> None:
        self._partition = partition
        self._place = place
        self._catching_up = catching_up
        self._clock = clock
        self._passed = False
        catching_up.opened(place)
        clock.expects(place)

    def next_batch(self) -> list[RawBatch]:
        place, clock = self._place, self._clock
        if clock.holds_back(place):
            return []
        asked_at = datetime.now(UTC)
        try:
            batches = list(self._partition.next_batch())
        except StopIteration:
            self._look(None)
            clock.left(place, at_end=self._at_end)
            raise
        self._look(batches[-1] if batches else None)
        if not batches:
            clock.gave_nothing(place, asked_at, at_end=self._at_end)
        for number, batch in enumerate(batches):
            clock.gave(place, asked_at)
            batches[number] = batch._replace(place=place)
        return batches

    @property
    def _at_end(self) -> bool:
        return cast(_KnowsItsEnd, self._partition).at_end

    def _look(self, newest: RawBatch | None) -> None:
        if self._passed:
            return
        if newest is None:
            self._passed = self._at_end
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
        step_id: The step that reads it.
        catching_up: Is told when they have.
        clock: Is told how far they are.
    """

    def __init__(
        self, source: FixedPartitionedSource[RawBatch, S], step_id: str, catching_up: CatchingUp, clock: LogClock
    ) -> None:
        self._source = source
        self._step_id = step_id
        self._catching_up = catching_up
        self._clock = clock

    def list_parts(self) -> list[str]:
        parts = self._source.list_parts()
        if self._clock.is_alone:
            # None of them is open yet: it is no time before they were asked.
            for part in parts:
                self._clock.expects((self._step_id, part))
        return parts

    def build_part(self, step_id: str, for_part: str, resume_state: S | None) -> StatefulSourcePartition[RawBatch, S]:
        partition = self._source.build_part(step_id, for_part, resume_state)
        return _Partition(partition, (self._step_id, for_part), self._catching_up, self._clock)
