"""
Keeps sources in step, so that none waits long for another at the end of an epoch.

The engine lets a partition end its epoch as it awakes for the first time after the interval, and does not poll it again
until all partitions of all processes have ended theirs. Whoever awakes more seldom ends each epoch a few milliseconds
later than the others, and nothing brings them together again: after some minutes of that, a partition would be polled
once an epoch. So here whoever would end its epoch early sleeps until the last one is due.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TypeVar

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

X = TypeVar("X")
S = TypeVar("S")

NEARLY = timedelta(milliseconds=10)
"""An epoch may end so much earlier than is known here, as the engine took the time before it asked for a snapshot."""
COMMIT = timedelta(milliseconds=50)
"""A commit takes about so long at least: so much earlier than all was committed, the last partition ended its epoch."""
STEP = timedelta(milliseconds=25)
"""So long, or a quarter of what seems too early, a process sleeps for others: the commit itself may have been slow."""


class EpochPacer:
    """
    The pace of all sources of one process.

    Within the process the partition is known that was the last to end an epoch. Of other processes it is only known
    when all of them had ended it.

    Args:
        interval: The length of an epoch.
        alone: Whether there are no other processes.
    """

    def __init__(self, interval: timedelta, *, alone: bool) -> None:
        self.interval = interval
        self.alone = alone
        self._last_began: dict[int, datetime] = {}

    def keeping(self, source: FixedPartitionedSource[X, S]) -> FixedPartitionedSource[X, S]:
        """A source whose partitions keep the pace."""
        return _Source(source, self)

    def began(self, epoch: int, at: datetime) -> None:
        """A partition begins an epoch, counted from the start of the flow."""
        self._last_began[epoch] = at
        self._last_began.pop(epoch - 2, None)

    def due(self, epoch: int) -> datetime:
        """When an epoch may end that all partitions of this process have begun."""
        return self._last_began[epoch] + self.interval


class _Partition(StatefulSourcePartition[X, S]):
    def __init__(self, partition: StatefulSourcePartition[X, S], pace: EpochPacer) -> None:
        self._partition = partition
        self._pace = pace
        self._epoch = 0
        self._may_end = self._polled_since = datetime.min.replace(tzinfo=UTC)
        self._begin()

    def _begin(self) -> None:
        now = datetime.now(UTC)
        self._pace.began(self._epoch, now)
        self._may_end = now + self._pace.interval - NEARLY
        self._waited = False

    def next_batch(self) -> list[X]:
        if not self._waited:
            self._waited = True
            self._polled_since = datetime.now(UTC)
        return list(self._partition.next_batch())

    def next_awake(self) -> datetime | None:
        awake = self._partition.next_awake()
        at = awake or datetime.now(UTC)
        if at < self._may_end:
            return awake
        due = self._due(busy=awake is None)
        return due if at < due else awake

    def _due(self, *, busy: bool) -> datetime:
        """When all partitions may end the epoch, as far as is known."""
        here = self._pace.due(self._epoch)
        if self._pace.alone:
            return here
        early = self._polled_since - COMMIT + self._pace.interval - here
        return here + max(min(early, STEP if busy else max(STEP, early / 4)), timedelta())

    def snapshot(self) -> S:
        state = self._partition.snapshot()
        self._epoch += 1
        self._begin()
        return state

    def close(self) -> None:
        self._partition.close()


class _Source(FixedPartitionedSource[X, S]):
    def __init__(self, source: FixedPartitionedSource[X, S], pace: EpochPacer) -> None:
        self._source = source
        self._pace = pace

    def list_parts(self) -> list[str]:
        return self._source.list_parts()

    def build_part(self, step_id: str, for_part: str, resume_state: S | None) -> StatefulSourcePartition[X, S]:
        return _Partition(self._source.build_part(step_id, for_part, resume_state), self._pace)
