"""When a key group says what changed: often where there is little to say, seldom while the flow is behind its log."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from rating.catalog import KEY_GROUPS

REST_PER_BEAT = 3 * KEY_GROUPS
"""A key group rests this many times as long as its last beat took: all of them together take a quarter of the time."""
BUSY_OVER = timedelta(seconds=1)
"""Over how long it is looked at how much of the time beats take."""
BUSY_SHARE = 0.2
"""Beats that take less of the time than this need no longer rest than the beat."""
REST_MAX = timedelta(seconds=0.8)
"""The longest rest while the flow keeps up: what is told is then never older than a second."""
BEHIND_REST_MAX = timedelta(seconds=10)
"""The longest rest while the flow is behind its log."""
LOOK = timedelta(seconds=0.5)
"""So often a key group that rests looks whether the flow still is behind."""
QUIET = timedelta(seconds=1)
"""A flow that has read nothing for so long has caught up."""


class FlowLoad:
    """
    How far the flow is behind its log, and how busy its beats keep it, in one process.

    What is told of a flow that is behind is as old as it is behind. It rests as long again between beats, and catches
    up the sooner; a change of access is told at once all the same.
    """

    def __init__(self) -> None:
        self._behind = timedelta()
        self._busy = 0.0
        """Seconds that beats of all key groups took, each counting for less the longer ago it was."""
        self._beaten_at = datetime.min.replace(tzinfo=UTC)
        self._read_at = datetime.min.replace(tzinfo=UTC)

    def read(self, received_at: datetime, now: datetime) -> None:
        """Events were read now that the log had received at an instant."""
        self._behind = now - received_at
        self._read_at = now

    def rest(self, now: datetime) -> timedelta:
        """How long a key group may rest on account of the flow being behind."""
        if now - self._read_at > QUIET:
            return timedelta()
        return min(self._behind, BEHIND_REST_MAX)

    def beaten(self, took: timedelta, now: datetime) -> bool:
        """
        A key group has told what changed, which took so long.

        Returns:
            Whether all of them together take more of the time than they should.
        """
        self._busy *= math.exp((self._beaten_at - now) / BUSY_OVER)
        self._busy += took / BUSY_OVER
        self._beaten_at = now
        return self._busy > BUSY_SHARE


class Rest:
    """How long one key group rests between beats."""

    def __init__(self, beat: timedelta, load: FlowLoad) -> None:
        self._beat = self._rest = beat
        self._load = load
        self._beaten_at = datetime.now(UTC)

    def is_over(self, now: datetime) -> bool:
        """Whether it has rested for long enough."""
        rested = now - self._beaten_at
        return rested >= self._rest and rested >= self._load.rest(now)

    def look_at(self, now: datetime) -> datetime:
        """When to look whether it has."""
        look = self._beaten_at + self._rest
        behind = self._beaten_at + self._load.rest(now)
        # It may have caught up long before it has rested as long as it is behind.
        return look if look >= behind else min(max(look, now + LOOK), behind)

    def begin(self, began: datetime) -> None:
        """Rest, after a beat that began at an instant."""
        self._beaten_at = datetime.now(UTC)
        took = self._beaten_at - began
        self._rest = self._beat
        if self._load.beaten(took, self._beaten_at):
            self._rest = max(self._beat, min(REST_PER_BEAT * took, REST_MAX))
