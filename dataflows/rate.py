"""
The keyed step: gives a key group its input and its instants, and keeps its state. No rule lives here.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from bytewax.operators import StatefulBatchLogic

from dataflows.backlog import Backlog, pack_backlog, sliced, unpack_backlog
from dataflows.catalog_view import CatalogView
from dataflows.log_clock import LogClock
from dataflows.messages import read_header, segments
from rating.catalog import KEY_GROUPS
from rating.dedup import LoadSegments, Reread, was_read_again
from rating.group import KeyGroup
from rating.outcome import Outcome
from rating.time_rules import TimeRules
from rating.windows import LoadWindows
from sinks import metrics

BEAT_REST = 3 * KEY_GROUPS
"""A key group rests this many times as long as its last beat took: all of them together take a quarter of the time."""
TURN_WORK = 2000
"""How much work a key group does in one turn, some hundredths of a second: see `rating.group.KeyGroup.begin_turn`."""
TURN_SECONDS = 0.08
"""So long a turn takes events in; what came beyond that is taken in by the turns after it, which follow at once."""
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
AGAIN_MIN, AGAIN_MAX = timedelta(milliseconds=5), timedelta(milliseconds=250)
"""Where an instant has passed, but not yet in the log, it is looked at again after a quarter of the time to make up."""
QUIET = timedelta(seconds=1)
"""A flow that has read nothing for so long has caught up."""


_log = logging.getLogger("tollway.engine")


class Pace:
    """
    How far the flow is behind its log, in one process.

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


class RateLogic(StatefulBatchLogic[bytes, Outcome, bytes]):
    """
    One key group in the flow.

    A snapshot is one byte with the number of the group, then the group's own bytes. Where messages wait for their turn,
    they stand between the two, and the byte says so: see `pack_backlog`.
    """

    def __init__(
        self,
        view: CatalogView,
        rules: TimeRules,
        beat: timedelta,
        load_segments: LoadSegments,
        load_windows: LoadWindows,
        rereads: tuple[Reread, ...],
        pace: Pace,
        clock: LogClock,
        backlog: Backlog,
        snapshot: bytes | None,
    ) -> None:
        self._view = view
        self._pace = pace
        self._clock = clock
        self._at: datetime | None = None
        """What time it was last; None: the group has not begun."""
        self._backlog = backlog
        self._messages: deque[bytes] = deque()
        """What came and was not taken in yet, in order."""
        self._rules = rules
        self._beat = beat
        self._load_segments = load_segments
        self._load_windows = load_windows
        self._rereads = rereads
        self._group: KeyGroup | None = None
        self._told_at = datetime.now(UTC)
        self._rest = beat
        self._went_on = False
        """Whether the last turn left work for this one."""
        if snapshot is not None:
            number, waiting, snapshot = unpack_backlog(snapshot)
            for message in waiting:
                if any(segments(message)):
                    self._clock.sent(number)
            self._wait(waiting)
            self._group = self._open(number, snapshot)

    def _open(self, number: int, snapshot: bytes | None) -> KeyGroup:
        view = self._view
        group = KeyGroup(
            number, view.catalog, self._rules, snapshot, self._load_segments, view.refresh, self._load_windows
        )
        self._started = False
        metrics.watch_watermark(number, lambda: _timestamp(group.seen.newest_event))
        metrics.watch_aside(number, lambda: group.aside)
        self._aside: set[str] = set()
        return group

    def on_batch(self, values: list[bytes]) -> tuple[Iterable[Outcome], bool]:
        out = Outcome(self._view.version)
        self._wait(values)
        self._begin_turn()
        self._take_in(out, TURN_SECONDS)
        self._beat_if_due(out)
        return self._emit(out)

    def _wait(self, messages: Iterable[bytes]) -> None:
        """Let messages wait for their turn, those that hold much in slices."""
        for message in messages:
            slices = [*sliced(message)]
            self._messages += slices
            for _ in slices[1:]:
                self._clock.sent(read_header(message)[0])
        self._backlog.of(self, len(self._messages))

    def _take_in(self, out: Outcome, seconds: float) -> None:
        """Take in messages that wait, in order, for so long; one at least."""
        until = time.perf_counter() + seconds
        now = datetime.now(UTC)
        changed_by: datetime | None = None
        while self._messages:
            message = self._messages.popleft()
            number, head = read_header(message)
            group = self._group
            if group is None:
                group = self._group = self._open(number, None)
                group.begin_turn(TURN_WORK)
            self._view.catch_up_to(head)
            found = [*segments(message)]
            self._look_at_clock(number, now, found[0][0] if found else None)
            self._take_over(group, out)
            told = out.urgent
            for received_at, blob, framed, meter, read_version in found:
                if read_version is not None and was_read_again(self._rereads, received_at, read_version):
                    out.ended["duplicate", ""] += blob.count(b"\n") + 1
                    continue
                timed = len(group.received)
                group.fold(blob, received_at, now, out, framed, meter, read_version is not None)
                if read_version is not None:
                    # It waited: its first receipt is not what the flow is behind by, nor how old a balance is.
                    del group.received[timed:]
                    continue
                self._pace.read(received_at, now)
                if not told and out.urgent:
                    told, changed_by = True, received_at
            if found:
                self._clock.arrived(number)
            if time.perf_counter() >= until:
                break
        self._backlog.of(self, len(self._messages))
        if changed_by is not None:
            # Its events are told on the beat; no number of events says that it is for the signal's sake.
            out.received.append((changed_by, 0))

    def on_notify(self) -> tuple[Iterable[Outcome], bool]:
        out = Outcome(self._view.version)
        self._begin_turn()
        if self._group is not None:
            self._look_at_clock(self._group.number, datetime.now(UTC))
            self._take_over(self._group, out)
        self._take_in(out, TURN_SECONDS)
        self._beat_if_due(out)
        return self._emit(out)

    def _begin_turn(self) -> None:
        if self._group is not None:
            self._went_on = self._group.goes_on
            self._group.begin_turn(TURN_WORK)

    def on_eof(self) -> tuple[Iterable[Outcome], bool]:
        out = Outcome(self._view.version)
        self._take_in(out, math.inf)
        if self._group is not None:
            self._group.begin_turn(math.inf)
            self._look_at_clock(self._group.number, datetime.now(UTC))
            self._take_over(self._group, out)
            if self._at is not None:
                self._group.beat(self._at, out)
        return self._emit(out)

    def notify_at(self) -> datetime | None:
        if self._messages:
            return datetime.now(UTC)
        if self._group is None:
            return None
        if self._group.goes_on:
            return datetime.now(UTC)
        now = datetime.now(UTC)
        if self._at is None:
            return now + AGAIN_MIN
        due = self._group.calendar.next_due()
        if due is not None and self._at < due <= now:
            due = now + min(max((now - self._at) / 4, AGAIN_MIN), AGAIN_MAX)
        if not self._group.is_waiting:
            return due
        look = self._told_at + self._rest
        behind = self._told_at + self._pace.rest(now)
        if look < behind:
            # It may have caught up long before it has rested as long as it is behind.
            look = min(max(look, now + LOOK), behind)
        return look if due is None else min(due, look)

    def snapshot(self) -> bytes:
        if self._group is None:
            assert not self._messages, "a turn takes one message in at least, and so opens the group"
            return b""
        return pack_backlog(self._group.number, self._messages) + self._group.snapshot()

    def _look_at_clock(self, number: int, now: datetime, received_at: datetime | None = None) -> None:
        """Look what time it is. All that was received before what has just arrived had arrived before."""
        at = self._clock.at(number, now)
        if at is None and received_at is not None:
            at = min(now, received_at)
        if at is not None and (self._at is None or self._at < at):
            self._at = at

    def _take_over(self, group: KeyGroup, out: Outcome) -> None:
        if self._at is None:
            return
        changed = self._view.take_changed(group.number)
        if not self._started:
            self._started = True
            group.resume(self._at, out)
        elif changed:
            group.reconcile(changed, self._at, out)

    def _beat_if_due(self, out: Outcome) -> None:
        group, now = self._group, datetime.now(UTC)
        if group is None:
            return
        self._look_at_clock(group.number, now)
        if self._at is None:
            return
        self._take_over(group, out)
        due = group.calendar.next_due()
        rested = now - self._told_at
        if (
            not self._went_on
            and (due is None or self._at < due)
            and (rested < self._rest or rested < self._pace.rest(now))
        ):
            return
        group.beat(self._at, out)
        self._told_at = datetime.now(UTC)
        took = self._told_at - now
        self._rest = self._beat
        if self._pace.beaten(took, self._told_at):
            self._rest = max(self._beat, min(BEAT_REST * took, REST_MAX))

    def _emit(self, out: Outcome) -> tuple[Iterable[Outcome], bool]:
        metrics.count(out)
        if self._group is not None and self._aside != self._group.aside.keys():
            for customer_id in self._group.aside.keys() - self._aside:
                how = self._group.aside[customer_id]
                _log.error("Customer %s is set aside, since the engine failed at its data: %s", customer_id, how)
            self._aside = set(self._group.aside)
        return ([out] if out else []), StatefulBatchLogic.RETAIN


def _timestamp(instant: datetime | None) -> float:
    return math.nan if instant is None else instant.timestamp()


def builder(
    view: CatalogView,
    rules: TimeRules,
    beat: timedelta,
    load_segments: LoadSegments,
    load_windows: LoadWindows,
    rereads: tuple[Reread, ...],
    clock: LogClock,
    backlog: Backlog,
) -> Callable[[bytes | None], RateLogic]:
    """What makes the logic of a key group, new or from its snapshot."""
    pace = Pace()
    return lambda snapshot: RateLogic(
        view, rules, beat, load_segments, load_windows, rereads, pace, clock, backlog, snapshot or None
    )
