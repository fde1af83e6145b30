"""When a key group beats: within the beat where there is little to do, in its share of the time where there is much."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dataflows.beats import FlowLoad
from dataflows.messages import header, microseconds, segment_header
from dataflows.rate import RateLogic
from rating.catalog import SettlementMode
from rating.outcome import Outcome
from tests.flow.keyed_step import ControlLog, logic_of
from tests.simulation.settling import NUMBER, card, customer, event, metered, plan, subscription
from tests.waiting import let_pass
from tests.world import line

BEAT = timedelta(milliseconds=40)
MONTH = timedelta(days=31)


def _logic(start: datetime) -> RateLogic:
    records = [*metered("a"), plan(card("a")), customer(), subscription(SettlementMode.CREDIT_THEN_INVOICE, start)]
    view: Any = ControlLog()
    view.log = list(records)
    return logic_of(view, BEAT)


def _message(name: str, now: datetime) -> bytes:
    blob = line(event(name, "a", 1, now))
    return header(NUMBER, 5) + segment_header(microseconds(now), len(blob), True) + blob


def _told(outcomes: list[Outcome]) -> list[int]:
    return [int(row.charged) for out in outcomes for row in out.balances]


@pytest.mark.timed
def test_usage_that_comes_now_and_then_is_told_within_the_beat() -> None:
    logic = _logic(datetime.now(UTC) - MONTH)
    logic.on_batch([_message("first", datetime.now(UTC))])
    waits = []
    for number in range(8):
        came = datetime.now(UTC)
        told = _told(list(logic.on_batch([_message(f"e{number}", came)])[0]))
        while number + 2 not in told:
            due = logic.notify_at()
            assert due is not None
            let_pass(max((due - datetime.now(UTC)).total_seconds(), 0), "the beat is due then")
            told = _told(list(logic.on_notify()[0]))
        waits.append(datetime.now(UTC) - came)
    assert sorted(waits)[4] <= 2 * BEAT, waits


def test_beats_that_take_much_of_the_time_are_told_to_rest() -> None:
    load = FlowLoad()
    now = datetime.now(UTC)
    assert not load.beaten(timedelta(milliseconds=5), now)
    for _ in range(40):
        now += timedelta(milliseconds=10)
        busy = load.beaten(timedelta(milliseconds=8), now)
    assert busy
    assert not load.beaten(timedelta(milliseconds=1), now + timedelta(seconds=5))
