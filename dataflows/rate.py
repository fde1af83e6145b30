"""
The keyed step: gives a key group its input and its instants, and keeps its state. No rule lives here.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from bytewax.operators import StatefulBatchLogic
from msgspec import Struct

from dataflows.backlog import Backlog, pack_backlog, parts, rest_of, unpack_backlog
from dataflows.beats import FlowLoad, Rest
from dataflows.catalog_view import CatalogView
from dataflows.log_clock import LogClock
from dataflows.messages import first_receipt, read_header
from rating.dedup import LoadSegments, Reread, was_read_again
from rating.group import KeyGroup
from rating.outcome import Outcome
from rating.time_rules import TimeRules
from rating.windows import LoadWindows
from sinks import metrics

TURN_WORK = 5000
"""How much work a key group does in one turn, some hundredths of a second: see `rating.group.KeyGroup.begin_turn`."""
TURN_SECONDS = 0.08
"""So long a turn takes events in; what came beyond that is taken in by the turns after it, which follow at once."""
AGAIN_MIN, AGAIN_MAX = timedelta(milliseconds=5), timedelta(milliseconds=250)
"""Where an instant has passed, but not yet in the log, it is looked at again after a quarter of the time to make up."""

_log = logging.getLogger("tollway.engine")


class Shared(Struct, frozen=True):
    """What all key groups of one process share."""

    view: CatalogView
    rules: TimeRules
    beat: timedelta
    load_segments: LoadSegments
    load_windows: LoadWindows
    rereads: tuple[Reread, ...]
    clock: LogClock
    backlog: Backlog
    load: FlowLoad


class RateLogic(StatefulBatchLogic[bytes, Outcome, bytes]):
    """
    One key group in the flow.

    A snapshot is one byte with the number of the group, then the group's own bytes. Where messages wait for their turn,
    they stand between the two, and the byte says so: see `pack_backlog`.
    """

    def __init__(self, shared: Shared, snapshot: bytes | None) -> None:
        self._shared = shared
        self._view = shared.view
        self._clock = shared.clock
        self._at: datetime | None = None
        """What time it was last; None: the group has not begun."""
        self._messages: deque[bytes] = deque()
        """What came and was not taken in yet, in order."""
        self._group: KeyGroup | None = None
        self._rest = Rest(shared.beat, shared.load)
        self._went_on = False
        """Whether the last turn left work for this one."""
        if snapshot is not None:
            number, waiting, snapshot = unpack_backlog(snapshot)
            self._messages += waiting
            for message in waiting:
                if first_receipt(message) is not None:
                    self._clock.sent(number)
            shared.backlog.waits(number, is_waiting=bool(waiting))
            self._group = self._open(number, snapshot)

    def _open(self, number: int, snapshot: bytes | None) -> KeyGroup:
        view, shared = self._view, self._shared
        group = KeyGroup(
            number, view.catalog, shared.rules, snapshot, shared.load_segments, view.refresh, shared.load_windows
        )
        self._started = False
        metrics.watch_watermark(number, lambda: _timestamp(group.seen.newest_event))
        metrics.watch_aside(number, lambda: group.aside)
        self._aside: set[str] = set()
        return group

    def on_batch(self, values: list[bytes]) -> tuple[Iterable[Outcome], bool]:
        self._messages += values
        return self._take_turn()

    def on_notify(self) -> tuple[Iterable[Outcome], bool]:
        return self._take_turn()

    def _take_turn(self) -> tuple[Iterable[Outcome], bool]:
        out = Outcome(self._view.version)
        if self._group is not None:
            self._went_on = self._group.goes_on
            self._group.begin_turn(TURN_WORK)
        self._take_in(out, TURN_SECONDS)
        self._beat_if_due(out)
        return self._emit(out)

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

    def _take_in(self, out: Outcome, seconds: float) -> None:
        """Take in messages that wait, in order, for so long; a part of one at least."""
        until = time.perf_counter() + seconds
        now = datetime.now(UTC)
        while self._messages:
            message = self._messages.popleft()
            number, head = read_header(message)
            group = self._group
            if group is None:
                group = self._group = self._open(number, None)
                group.begin_turn(TURN_WORK)
            self._view.catch_up_to(head)
            received_at = first_receipt(message)
            self._look_at_clock(number, now, received_at)
            self._take_over(group, out)
            if received_at is not None:
                rest = self._fold(group, message, now, out, until)
                if rest is None:
                    self._clock.arrived(number)
                else:
                    self._messages.appendleft(rest)
            if time.perf_counter() >= until:
                break
        if self._group is not None:
            self._shared.backlog.waits(self._group.number, is_waiting=bool(self._messages))

    def _fold(self, group: KeyGroup, message: bytes, now: datetime, out: Outcome, until: float) -> bytes | None:
        """
        Take a message in, as long as there is time.

        Returns:
            What is left of it, a message too; None: nothing.
        """
        rereads, load = self._shared.rereads, self._shared.load
        was_urgent = out.urgent
        for part in parts(message):
            received_at, lines, framed, meter, read_version, *_ = part
            if read_version is None:
                group.fold(lines, received_at, now, out, framed, meter)
                load.read(received_at, now)
                if out.urgent and not was_urgent:
                    was_urgent = True
                    # Its events are told on the beat; no number of events says that it is for the signal's sake.
                    out.received.append((received_at, 0))
            elif was_read_again(rereads, received_at, read_version):
                out.ended["duplicate", ""] += lines.count(b"\n") + 1
            else:
                timed = len(group.received)
                group.fold(lines, received_at, now, out, framed, meter, is_back=True)
                # It waited: its first receipt is not what the flow is behind by, nor how old a balance is.
                del group.received[timed:]
            if time.perf_counter() >= until:
                return rest_of(message, part)
        return None

    def _beat_if_due(self, out: Outcome) -> None:
        group, now = self._group, datetime.now(UTC)
        if group is None:
            return
        self._look_at_clock(group.number, now)
        if self._at is None:
            return
        self._take_over(group, out)
        due = group.calendar.next_due()
        if self._went_on or (due is not None and due <= self._at) or self._rest.is_over(now):
            group.beat(self._at, out)
            self._rest.begin(now)

    def _look_at_clock(self, number: int, now: datetime, received_at: datetime | None = None) -> None:
        """Look what time it is. All that was received before what has just arrived had arrived before."""
        at = self._clock.at(number, now)
        if at is None and received_at is not None:
            at = min(now, received_at)
        if at is not None and (self._at is None or self._at < at):
            self._at = at

    def _take_over(self, group: KeyGroup, out: Outcome) -> None:
        """Let the group know what changed in the catalog, and begin if it has not yet."""
        if self._at is None:
            return
        changed = self._view.take_changed(group.number)
        if not self._started:
            self._started = True
            group.resume(self._at, out)
        elif changed:
            group.reconcile(changed, self._at, out)

    def notify_at(self) -> datetime | None:
        if self._messages:
            return datetime.now(UTC)
        group = self._group
        if group is None:
            return None
        now = datetime.now(UTC)
        if group.goes_on:
            return now
        if self._at is None:
            return now + AGAIN_MIN
        due = group.calendar.next_due()
        if due is not None and self._at < due <= now:
            due = now + min(max((now - self._at) / 4, AGAIN_MIN), AGAIN_MAX)
        if not group.is_waiting:
            return due
        look = self._rest.look_at(now)
        return look if due is None else min(due, look)

    def snapshot(self) -> bytes:
        if self._group is None:
            assert not self._messages, "a turn takes a part of a message in at least, and so opens the group"
            return b""
        return pack_backlog(self._group.number, self._messages) + self._group.snapshot()

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
