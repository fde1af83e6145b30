"""
The keyed step: gives a key group its input and its instants, and keeps its state. No rule lives here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from bytewax.operators import StatefulBatchLogic

from dataflows.catalog_view import CatalogView
from dataflows.messages import read_header, segments
from rating.catalog import KEY_GROUPS
from rating.dedup import LoadSegments
from rating.group import KeyGroup, Rules
from rating.rows import Outcome
from sinks import metrics

BEAT_REST = 3 * KEY_GROUPS
"""A key group rests this many times as long as its last beat took: all of them together take a quarter of the time."""
REST_MAX = timedelta(seconds=0.8)
"""The longest rest while the flow keeps up: what is told is then never older than a second."""
BEHIND = timedelta(seconds=2)
"""A flow that is further behind its log than this can't be fresh in any case: it rests longer, and catches up."""
BEHIND_REST = timedelta(seconds=4)


class RateLogic(StatefulBatchLogic[bytes, Outcome, bytes]):
    """
    One key group in the flow.

    A snapshot is one byte with the number of the group, then the group's own bytes.
    """

    def __init__(
        self,
        view: CatalogView,
        rules: Rules,
        beat: timedelta,
        load_segments: LoadSegments,
        snapshot: bytes | None,
    ) -> None:
        self._view = view
        self._rules = rules
        self._beat = beat
        self._load_segments = load_segments
        self._group: KeyGroup | None = None
        self._next_beat = datetime.now(UTC)
        self._behind = False
        if snapshot is not None:
            self._group = self._open(snapshot[0], snapshot[1:])

    def _open(self, number: int, snapshot: bytes | None) -> KeyGroup:
        group = KeyGroup(number, self._view.catalog, self._rules, snapshot, self._load_segments, self._view.refresh)
        self._started = False
        return group

    def on_batch(self, values: list[bytes]) -> tuple[Iterable[Outcome], bool]:
        out = Outcome(self._view.version)
        now = datetime.now(UTC)
        for message in values:
            number, head = read_header(message)
            group = self._group
            if group is None:
                group = self._group = self._open(number, None)
            self._view.catch_up_to(head)
            self._take_over(group, now, out)
            for received_at, blob in segments(message):
                group.fold(blob, received_at, now, out)
                self._behind = now - received_at > BEHIND
        if self._group is not None and datetime.now(UTC) >= self._next_beat:
            self._tell(self._group, datetime.now(UTC), out)
        return self._emit(out)

    def on_notify(self) -> tuple[Iterable[Outcome], bool]:
        out = Outcome(self._view.version)
        now = datetime.now(UTC)
        if self._group is not None:
            self._take_over(self._group, now, out)
            self._tell(self._group, now, out)
        return self._emit(out)

    def on_eof(self) -> tuple[Iterable[Outcome], bool]:
        out = Outcome(self._view.version)
        if self._group is not None:
            self._group.price_dirty(datetime.now(UTC), out)
        return self._emit(out)

    def notify_at(self) -> datetime | None:
        if self._group is None:
            return None
        due = self._group.next_due()
        if self._group.dirty:
            return self._next_beat if due is None else min(due, self._next_beat)
        return due

    def snapshot(self) -> bytes:
        if self._group is None:
            return b""
        return bytes([self._group.number]) + self._group.snapshot()

    def _take_over(self, group: KeyGroup, now: datetime, out: Outcome) -> None:
        changed = self._view.take_changed(group.number)
        if not self._started:
            self._started = True
            group.resume(now, out)
        elif changed:
            group.reconcile(changed, now, out)

    def _tell(self, group: KeyGroup, now: datetime, out: Outcome) -> None:
        group.beat(now, out)
        told = datetime.now(UTC)
        rest = min(BEAT_REST * (told - now), REST_MAX)
        if self._behind:
            rest = BEHIND_REST
        self._next_beat = told + max(self._beat, rest)
        self._behind = False

    def _emit(self, out: Outcome) -> tuple[Iterable[Outcome], bool]:
        metrics.count(out)
        return ([out] if out else []), StatefulBatchLogic.RETAIN


def builder(
    view: CatalogView, rules: Rules, beat: timedelta, load_segments: LoadSegments
) -> Callable[[bytes | None], RateLogic]:
    """What makes the logic of a key group, new or from its snapshot."""
    return lambda snapshot: RateLogic(view, rules, beat, load_segments, snapshot or None)
