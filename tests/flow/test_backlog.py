"""What comes to a key group is taken in for so long a turn; what waits is kept, in order, over a crash too."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dataflows.rate
from dataflows.backlog import PART_BYTES, PART_LINES, Backlog, pack_backlog, parts, rest_of, unpack_backlog
from dataflows.engine import run_engine
from dataflows.messages import header, microseconds, segment_header, segments
from rating.catalog import SettlementMode
from rating.outcome import Outcome
from tests.conftest import Stores
from tests.engine_runs import check_ledger, write_records
from tests.flow.keyed_step import ControlLog, logic_of
from tests.kafka.runs import CUSTOMERS, usage, world
from tests.simulation.settling import NUMBER, card, customer, event, metered, plan, subscription
from tests.world import line


def _message(*blobs: bytes, meter: str = "") -> bytes:
    at = microseconds(datetime.now(UTC))
    return header(NUMBER, 5) + b"".join(segment_header(at, len(blob), False, meter) + blob for blob in blobs)


def _lines(messages: list[bytes]) -> list[bytes]:
    return [found for message in messages for _, blob, *_ in segments(message) for found in blob.split(b"\n")]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 3 * PART_LINES), st.sampled_from([0, 1, 40, 300])), min_size=1, max_size=3))
def test_parts_are_the_message_in_its_order(shape: list[tuple[int, int]]) -> None:
    """Each has as many lines as a turn has time for; a line stays whole, however long. After each the rest is left."""
    blobs = [b"\n".join(b"%d" % number + b"x" * length for number in range(count)) for count, length in shape]
    message = _message(*blobs, meter="m")
    found = [*parts(message)]
    lines = [part[1].split(b"\n") for part in found]
    assert [one for of_part in lines for one in of_part] == _lines([message])
    assert {part[3] for part in found} == {"m"}
    assert all(len(of_part) <= 2 * PART_LINES for of_part in lines)
    assert all(len(part[1]) < 2 * PART_BYTES + 4000 for part in found)
    for number, part in enumerate(found):
        rest = rest_of(message, part)
        if number + 1 == len(found):
            assert rest is None
        else:
            assert rest is not None
            assert [of_rest[:5] for of_rest in parts(rest)] == [of_rest[:5] for of_rest in found[number + 1 :]]


def test_a_snapshot_holds_what_waits() -> None:
    assert unpack_backlog(pack_backlog(63, []) + b"state") == (63, [], b"state")
    assert unpack_backlog(pack_backlog(63, [b"one", b"", b"three"]) + b"state") == (
        63,
        [b"one", b"", b"three"],
        b"state",
    )


def _view() -> Any:
    view: Any = ControlLog()
    start = datetime.now(UTC) - timedelta(days=3)
    view.log = [*metered("a"), plan(card("a")), customer(), subscription(SettlementMode.CREDIT_THEN_INVOICE, start)]
    return view


def _take(ended: Counter[tuple[str, str]], outcomes: Any) -> None:
    for out in outcomes:
        assert isinstance(out, Outcome)
        ended.update(out.ended)


@pytest.mark.parametrize("crashes", [False, True])
def test_a_turn_takes_in_what_it_has_time_for(monkeypatch: pytest.MonkeyPatch, crashes: bool) -> None:
    """The rest follows at once, from the snapshot too, and meanwhile nothing more is read."""
    monkeypatch.setattr(dataflows.rate, "TURN_SECONDS", 0.0)
    now = datetime.now(UTC) - timedelta(minutes=1)
    good = [line(event(str(number), "a", 1, now)) for number in range(1500)]
    message = _message(b"\n".join(good), b"\n".join([b"bad"] * 1500))
    backlog, view = Backlog(), _view()
    logic = logic_of(view, backlog=backlog)
    ended: Counter[tuple[str, str]] = Counter()
    _take(ended, logic.on_batch([message])[0])
    assert 0 < sum(ended.values()) <= PART_LINES
    turns = 1
    while backlog:
        due = logic.notify_at()
        assert due is not None
        assert due <= datetime.now(UTC)
        if crashes:
            logic = logic_of(view, backlog=backlog, snapshot=logic.snapshot())
        _take(ended, logic.on_notify()[0])
        turns += 1
    assert ended == {("rated", ""): 1500, ("rejected", "malformed"): 1500}
    assert turns >= 4


def test_the_flow_comes_to_the_same_with_short_turns(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each turn takes one part of a few events in, and sources wait meanwhile."""
    monkeypatch.setattr(dataflows.rate, "TURN_SECONDS", 0.0)
    monkeypatch.setattr("dataflows.backlog.PART_LINES", 7)
    write_records(stores, world("50", "150"))
    stream = usage(11, 2000)
    path = stores.settings.home / "usage.jsonl"
    path.write_bytes(b"\n".join(map(line, stream)))
    quick = msgspec.structs.replace(stores.settings, epoch_ms=50, batch_bytes=100_000)
    run_engine(quick, stores.redis_url, stores.postgres_dsn, files=[path], drain=True)
    check_ledger(stores, stream, CUSTOMERS)
