"""
What time it is in the flow: the present once the log has been read, and before that the receipt of what was read last.

Usage that was received before an instant is so charged before what that instant alone does, also where the log is read
long after it was written.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dataflows.messages import RawBatch, instant
from rating.catalog import KEY_GROUPS

NEARLY = timedelta(seconds=1)
"""A partition of which something was read that is no older has caught up, whether or not it is at its end."""
STALLED = timedelta(seconds=10)
"""A partition that gave nothing for so long, though it is not known to be at its end, holds back time no more."""
ENDED = datetime.max.replace(tzinfo=UTC)

Place = tuple[str, str]
"""A partition: the step that reads it, and its name there."""


class LogClock:
    """
    The clock of one process.

    Each partition of usage says up to when all that it received has been read. The earliest of them is the time, as
    far as it has come; a partition that is at its end does not hold it back. Where the process is alone, a key group
    for which something is under way is not asked the time before that has arrived.

    Args:
        alone: Whether there are no other processes. Of the partitions of others nothing is known here.
    """

    def __init__(self, *, alone: bool = True) -> None:
        self._alone = alone
        self._through: dict[Place, datetime | None] = {}
        self._unrouted: dict[Place, int] = {}
        """Batches that were read and have not been taken apart yet."""
        self._gave_at: dict[Place, datetime] = {}
        self._behind: set[Place] = set()
        """Partitions that have not been at their end since the flow began."""
        self._under_way = [0] * KEY_GROUPS

    # -- the sources ------------------------------------------------------------------------------

    def expects(self, place: Place) -> None:
        """There is a partition, which will be read."""
        if place not in self._through:
            self._through[place] = None
            self._unrouted[place] = 0
            self._behind.add(place)

    @property
    def is_alone(self) -> bool:
        """Whether all partitions are read in this process."""
        return self._alone

    def holds_back(self, place: Place) -> bool:
        """
        Whether a partition is not to be read now, since the flow has just begun and others are further behind.

        So what was received at about the same time is read at about the same time.
        """
        if place not in self._behind:
            return False
        if self._unrouted[place]:
            return True
        mine = self._through[place]
        others = (self._through[other] for other in self._behind)
        return mine is not None and any(other is not None and other < mine for other in others)

    def gave(self, place: Place, asked_at: datetime) -> None:
        """A partition gave a batch."""
        self._unrouted[place] += 1
        self._gave_at[place] = asked_at

    def gave_nothing(self, place: Place, asked_at: datetime, *, at_end: bool) -> None:
        """A partition was asked at an instant, and had nothing."""
        if self._unrouted[place]:
            return
        if at_end or asked_at - self._gave_at.setdefault(place, asked_at) > STALLED:
            self._come_to(place, asked_at)
            self._behind.discard(place)

    def left(self, place: Place, *, at_end: bool) -> None:
        """A partition is not read any more."""
        self._behind.discard(place)
        if at_end:
            self._come_to(place, ENDED)

    def _come_to(self, place: Place, at: datetime) -> None:
        through = self._through[place]
        if through is None or through < at:
            self._through[place] = at

    # -- the way to a key group -------------------------------------------------------------------

    def sent(self, group: int) -> None:
        """A message for a key group is under way."""
        if self._alone:
            self._under_way[group] += 1

    def routed(self, batch: RawBatch) -> None:
        """All messages of a batch are under way."""
        place = batch.place
        if place is None or place not in self._through:
            return
        self._unrouted[place] -= 1
        for segment in reversed(batch.segments):
            if segment.read_version is None:
                received_at = instant(segment.received_us)
                self._come_to(place, received_at)
                if self._gave_at[place] - received_at < NEARLY:
                    self._behind.discard(place)
                break

    def arrived(self, group: int) -> None:
        """A message has been taken in by its key group."""
        if self._alone:
            self._under_way[group] -= 1

    # -- the key groups ---------------------------------------------------------------------------

    def at(self, group: int, now: datetime) -> datetime | None:
        """What time it is for a key group; None: that can't be told as long as something is under way."""
        if self._under_way[group]:
            return None
        earliest = now
        for through in self._through.values():
            if through is None:
                return None
            if through < earliest:
                earliest = through
        return now if not self._alone and now - earliest < NEARLY else earliest
