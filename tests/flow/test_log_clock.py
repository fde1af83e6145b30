"""What time it is in a flow that is behind its log, and in one that has read it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from bytewax.inputs import StatefulSourcePartition

from dataflows.catching_up import Following
from dataflows.log_clock import STALLED, LogClock
from dataflows.messages import RawBatch, Segment, header, microseconds
from dataflows.rate import AGAIN_MAX
from dataflows.route import Router
from rating.catalog import SettlementMode
from rating.outcome import ChargeRow, Outcome
from rating.prices import Flat, Pricing
from sinks.catching_up import CatchingUp
from tests.flow.keyed_step import ControlLog, logic_of
from tests.simulation.settling import NUMBER, card, customer, event, grant, metered, plan, subscription
from tests.world import line

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
FIRST, OTHER = ("events", "000"), ("events", "001")


def _batch(place: tuple[str, str], *received: datetime, read_version: int | None = None) -> RawBatch:
    return RawBatch(0, [Segment(microseconds(at), b"{}", "", read_version) for at in received], place)


def _read(clock: LogClock, batch: RawBatch) -> None:
    assert batch.place is not None
    clock.gave(batch.place, NOW)
    clock.routed(batch)


def _clock(*places: tuple[str, str], alone: bool = True) -> LogClock:
    clock = LogClock(alone=alone)
    for place in places:
        clock.expects(place)
    return clock


def test_it_is_the_receipt_of_what_was_read_last_until_the_end_of_the_log() -> None:
    clock = _clock(FIRST)
    assert clock.at(1, NOW) is None
    _read(clock, _batch(FIRST, NOW - 2 * DAY, NOW - DAY))
    assert clock.at(1, NOW) == NOW - DAY
    clock.gave_nothing(FIRST, NOW, at_end=False)
    assert clock.at(1, NOW) == NOW - DAY
    clock.gave_nothing(FIRST, NOW, at_end=True)
    assert clock.at(1, NOW) == NOW
    assert clock.at(1, NOW + SECOND) == NOW, "what came since has not been asked for yet"


def test_the_partition_that_is_furthest_behind_sets_the_time_and_one_at_its_end_does_not() -> None:
    clock = _clock(FIRST, OTHER)
    _read(clock, _batch(FIRST, NOW - 2 * DAY))
    assert clock.at(1, NOW) is None
    _read(clock, _batch(OTHER, NOW - DAY))
    assert clock.at(1, NOW) == NOW - 2 * DAY
    assert not clock.holds_back(FIRST)
    assert clock.holds_back(OTHER)
    clock.gave_nothing(FIRST, NOW, at_end=True)
    assert clock.at(1, NOW) == NOW - DAY
    assert not clock.holds_back(OTHER)


def test_a_partition_that_gives_nothing_though_it_has_more_does_not_hold_back_time_for_ever() -> None:
    clock = _clock(FIRST)
    _read(clock, _batch(FIRST, NOW - DAY))
    clock.gave_nothing(FIRST, NOW + STALLED, at_end=False)
    assert clock.at(1, NOW + DAY) == NOW - DAY
    clock.gave_nothing(FIRST, NOW + STALLED + SECOND, at_end=False)
    assert clock.at(1, NOW + DAY) == NOW + STALLED + SECOND


def test_what_is_driven_again_does_not_set_the_time() -> None:
    clock = _clock(FIRST)
    _read(clock, _batch(FIRST, NOW - DAY))
    _read(clock, _batch(FIRST, NOW - SECOND, read_version=3))
    assert clock.at(1, NOW) == NOW - DAY


def test_a_key_group_is_not_told_the_time_while_a_message_for_it_is_under_way() -> None:
    clock = _clock(FIRST)
    clock.gave(FIRST, NOW)
    clock.gave_nothing(FIRST, NOW, at_end=True)
    assert clock.at(1, NOW) is None, "the batch has not been taken apart"
    clock.sent(1)
    clock.routed(_batch(FIRST, NOW - DAY))
    assert clock.at(1, NOW) is None
    assert clock.at(2, NOW) == NOW - DAY
    clock.arrived(1)
    assert clock.at(1, NOW) == NOW - DAY


def test_a_partition_that_is_left_holds_back_no_other_and_time_only_if_it_was_not_read() -> None:
    clock = _clock(FIRST, OTHER)
    _read(clock, _batch(FIRST, NOW - 2 * DAY))
    _read(clock, _batch(OTHER, NOW - DAY))
    clock.left(FIRST, at_end=False)
    assert not clock.holds_back(OTHER)
    assert clock.at(1, NOW) == NOW - 2 * DAY
    clock.left(FIRST, at_end=True)
    assert clock.at(1, NOW) == NOW - DAY


def test_one_process_of_several_goes_by_the_present_unless_its_own_partitions_are_far_behind() -> None:
    clock = _clock(FIRST, alone=False)
    _read(clock, _batch(FIRST, NOW - SECOND / 2))
    assert clock.at(1, NOW) == NOW
    assert clock.at(1, NOW + SECOND) == NOW - SECOND / 2
    assert LogClock(alone=False).at(1, NOW) == NOW


class _Log(StatefulSourcePartition[RawBatch, int]):
    """A partition of a log that is in memory."""

    def __init__(self, batches: list[RawBatch]) -> None:
        self._batches = batches
        self.at_end = False

    def next_batch(self) -> list[RawBatch]:
        self.at_end = not self._batches
        return [self._batches.pop(0)] if self._batches else []

    def snapshot(self) -> int:
        return 0


class _Source:
    def __init__(self, batches: list[RawBatch]) -> None:
        self._batches = batches

    def list_parts(self) -> list[str]:
        return ["000"]

    def build_part(self, _step_id: str, _part: str, _state: int | None) -> _Log:
        return _Log(self._batches)


def test_a_log_that_is_read_late_is_paid_for_as_if_it_had_been_read_in_time() -> None:
    """The fee of the second month comes after usage of the first, and is what the grant does not suffice for."""
    start = NOW - 40 * DAY
    fee = Pricing(Flat(Decimal(5)), "USD")
    records = [
        *metered("a"),
        plan(card("a"), card(None, fee)),
        customer(),
        subscription(SettlementMode.CREDIT_THEN_INVOICE, start),
        grant("g", 14, start),
    ]
    view: Any = ControlLog()
    view.log = list(records)
    used_at = start + DAY
    blob = line(event("e", "a", 9, used_at))
    clock = LogClock()
    source: Any = _Source([RawBatch(len(records), [Segment(microseconds(used_at), blob)])])
    following = Following(source, "events", CatchingUp(), clock)
    assert following.list_parts() == ["000"]
    partition = following.build_part("tollway.events", "000", None)
    router = Router(view, clock)
    logic = logic_of(view, SECOND, clock)
    told: dict[tuple[Any, ...], ChargeRow] = {}

    def take(outcomes: Iterable[Outcome]) -> None:
        told.update({row[:5]: row for out in outcomes for row in out.charges})

    take(logic.on_batch([header(NUMBER, len(records))])[0])
    assert logic.notify_at() is not None
    assert not told, "the log has not been asked yet"
    (batch,) = partition.next_batch()
    for key, message in router.route(batch):
        assert key == f"{NUMBER:02}"
        take(logic.on_batch([message])[0])
    take(logic.on_notify()[0])
    assert {row.period_start for row in told.values()} == {start}, "it is the day after the first"
    assert partition.next_batch() == []
    due = logic.notify_at()
    assert due is not None
    assert due <= datetime.now(UTC) + AGAIN_MAX
    take(logic.on_notify()[0])
    uncovered = {(row.card_key, row.period_start > start): int(row.uncovered) for row in told.values()}
    assert uncovered == {("fee", False): 0, ("a", False): 0, ("fee", True): 5}
