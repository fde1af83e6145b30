"""Nothing ends the rating: what fails at an event is a dead letter, whom it fails at is set aside, all others go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

import rating.aside
import rating.intake
import rating.tallies
from rating.account import Account
from rating.calendar import Calendar
from rating.catalog import FeatureSet, MeterSet, Record, SettlementMode, key_group
from rating.meters import Aggregation, Feature, Meter
from rating.money import use_exact
from rating.refusals import ParkCode, RejectCode
from rating.routes import measure
from rating.tallies import Tally, UniqueTally
from rating.time_rules import TimeRules
from rating.usage import UsagePeriod
from tests.simulation.settling import (
    HOUR,
    ID,
    World,
    card,
    customer,
    event,
    grant,
    metered,
    plan,
    subscription,
    unit,
)
from tests.world import START, line

INVOICE = SettlementMode.CREDIT_THEN_INVOICE
LENIENT = TimeRules(lane_check_events=100_000)
"""As in an installation: where each fold is checked, as in all other tests, an error is raised."""
OTHER = next(name for name in map("other-{}".format, range(1000)) if key_group(name) == key_group(ID))
"""A customer of the same key group."""


def _world(aggregation: Aggregation = Aggregation.SUM) -> World:
    """Two customers; each event counts towards two meters, of which one has to remember."""
    second = Meter(key="b", event_type="a", aggregation=aggregation, value_property="$.n")
    return World(
        *metered("a"),
        MeterSet(second),
        FeatureSet(Feature(key="b", meter_key="b")),
        plan(card("a"), card("b", unit("0.5"))),
        customer(),
        customer(customer_id=OTHER, key="d"),
        subscription(INVOICE),
        subscription(INVOICE, customer_id=OTHER, name="s2"),
        grant("g", 10),
        rules=LENIENT,
    )


def _state(world: World) -> tuple[Any, ...]:
    return (
        {key: row[:-3] + row[-2:] for key, row in world.charges.items()},
        {name: balance[:-1] for name, balance in world.balances.items()},
        world.ended,
    )


def test_an_event_that_fails_before_it_changes_anything_is_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = measure

    def failing(meters: Any, found: Any, *more: Any) -> Any:
        if found.id == "bad":
            raise ZeroDivisionError("of its own")
        return measured(meters, found, *more)

    monkeypatch.setattr(rating.intake, "measure", failing)
    world = _world()
    bad = event("bad", "a", 5, START)
    out = world.fold(event("1", "a", 1, START), bad, event("2", "a", 2, START), event("3", "a", 4, START, "d"))
    assert [(found.code, found.raw, found.path) for found in out.rejected] == [(RejectCode.FAILED, line(bad), "$")]
    assert "of its own" not in out.rejected[0].message
    world.beat()
    assert (world.balance.charged, world.balances[OTHER].charged) == (Decimal("4.5"), Decimal(6))
    monkeypatch.undo()
    world.use(bad)
    assert world.balance.charged == 12


@pytest.mark.parametrize("aggregation", [found for found in Aggregation if found is not Aggregation.COUNT])
def test_an_event_that_fails_half_way_leaves_the_account_as_it_was(
    monkeypatch: pytest.MonkeyPatch, aggregation: Aggregation
) -> None:
    used = Account.use

    def failing(self: Account, meter: UsagePeriod, quantity: Decimal, at: Any, seconds: int) -> Any:
        if meter.card_key == "b" and at == START + 2 * HOUR:
            raise OverflowError
        return used(self, meter, quantity, at, seconds)

    monkeypatch.setattr(Account, "use", failing)
    failed, calm = _world(aggregation), _world(aggregation)
    for world in (failed, calm):
        world.beat(START + 3 * HOUR)
        world.fold(event("1", "a", 3, START), event("2", "a", 5, START + HOUR))
        if world is failed:
            out = world.fold(event("bad", "a", 9, START + 2 * HOUR))
            assert [found.code for found in out.rejected] == [RejectCode.FAILED]
        world.use(event("3", "a", 4, START + HOUR), event("4", "a", 1, START))
    assert _state(failed)[:2] == _state(calm)[:2]
    failed.restart()
    calm.restart()
    assert failed.group.accounts[ID].state.periods[0].usage == calm.group.accounts[ID].state.periods[0].usage
    assert failed.balance[:-1] == calm.balance[:-1]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_customer_whose_data_fails_waits_and_all_others_go_on(
    monkeypatch: pytest.MonkeyPatch, restarts: bool
) -> None:
    pricing = Calendar.pricing

    def failing(self: Calendar, account: Account, meter: UsagePeriod) -> Any:
        if account.state.customer_id == ID and meter.card_key == "b":
            raise KeyError("a plan that is not there")
        return pricing(self, account, meter)

    failed, calm = _world(), _world()
    for world in (failed, calm):
        world.use(event("1", "a", 3, START), event("2", "a", 3, START, "d"))
    monkeypatch.setattr(Calendar, "pricing", failing)
    failed.use(event("3", "a", 5, START), event("4", "a", 5, START, "d"))
    assert set(failed.group.aside) == {ID}
    assert "KeyError" in failed.group.aside[ID]
    assert "not there" not in failed.group.aside[ID]
    failed.use(event("5", "a", 7, START), event("5", "a", 7, START), event("6", "a", 7, START, "d"))
    assert failed.balances[OTHER].charged == Decimal("22.5")
    assert failed.balance.charged == Decimal("4.5")
    if restarts:
        failed.restart()
        failed.restart()
        assert set(failed.group.aside) == {ID}
    monkeypatch.setattr(Calendar, "pricing", pricing)
    calm.use(event("3", "a", 5, START), event("4", "a", 5, START, "d"))
    calm.use(event("5", "a", 7, START), event("5", "a", 7, START), event("6", "a", 7, START, "d"))
    for world in (failed, calm):
        world.apply(replace(customer(), name="changed"))
        world.beat()
        if restarts:
            world.restart()
    assert not failed.group.aside
    assert _state(failed) == _state(calm)
    assert failed.paid() == {"g": 10}


def test_usage_of_a_customer_whose_plan_is_missing_waits_until_it_is_there() -> None:
    world = _world()
    world.apply(subscription(INVOICE, plan_key="gone"))
    first = event("1", "a", 3, START)
    world.use(first, event("2", "a", 5, START, "d"))
    assert world.ended["parked", ParkCode.NO_FEATURE] == 1
    assert world.balances[OTHER].charged == Decimal("7.5")
    world.restart()
    world.apply(plan(card("a"), card("b", unit("0.5")), key="gone"))
    world.use(first, is_back=True)
    assert not world.group.aside
    assert world.balance.charged == Decimal("4.5")


def test_a_cadence_that_no_check_lets_in_any_more_holds_up_its_customer_alone() -> None:
    """A real failure, of a record of old; at each start again, until the record is another."""
    world = _world()
    world.apply(replace(plan(card("a"), key="long"), cadence="P9000Y"), subscription(INVOICE, plan_key="long"))
    for number in range(2):
        world.use(event(f"1-{number}", "a", 3, START), event(f"2-{number}", "a", 4, START, "d"))
        assert set(world.group.aside) == {ID}
        assert "CadenceError" in world.group.aside[ID]
        world.restart()
    assert world.balances[OTHER].charged == 12
    world.apply(subscription(INVOICE))
    assert not world.group.aside
    assert world.balance.charged == 9


FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "records",
    [
        [subscription(INVOICE, end=LAST)],
        [subscription(INVOICE, start=FIRST)],
        [subscription(INVOICE, anchor=FIRST)],
        [subscription(INVOICE, anchor=LAST)],
        *(
            [
                replace(plan(card("a"), key="long"), cadence=cadence),
                subscription(INVOICE, plan_key="long", anchor=anchor),
            ]
            for cadence in ("P1W", "P99Y")
            for anchor in (FIRST, LAST)
        ),
        [replace(grant("h", 5), effective_at=FIRST, created_at=FIRST, expires_at=LAST)],
        [replace(grant("h", 5), effective_at=FIRST, created_at=FIRST, expires_at=FIRST)],
    ],
)
def test_instants_at_the_ends_of_the_years_hold_up_nobody(records: list[Record]) -> None:
    """As a control log of old may have them."""
    world = _world()
    world.apply(*records)
    world.use(event("1", "a", 3, START), event("2", "a", 4, START, "d"))
    world.beat(START + 3 * HOUR)
    world.restart()
    assert not world.group.aside
    assert world.ended == {("rated", ""): 2}
    assert world.balances[OTHER].charged == 6


def test_what_waits_for_a_customer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rating.aside, "HELD_BYTES_MAX", 400)
    monkeypatch.setattr(Calendar, "pricing", lambda *_: 1 / 0)
    world = _world()
    world.use(event("first", "a", 1, START))
    out = world.fold(*(event(str(number), "a", 1, START) for number in range(9)))
    assert world.ended["rejected", RejectCode.FAILED] == len(out.rejected) == 9 - len(world.group._aside.held())
    assert 0 < len(out.rejected) < 9


def test_a_store_that_is_away_is_no_dead_letter() -> None:
    """The flow ends then, and goes on from its last epoch."""
    world = _world()

    def away() -> bool:
        raise ConnectionError

    world.group.intake.refresh = world.group._outside.watched(away)
    with pytest.raises(ConnectionError):
        world.fold(event("1", "a", 1, START, "unknown"))


def test_the_longest_numbers_there_may_be_are_charged_exactly() -> None:
    great, price = Decimal("9" * 100 + "." + "9" * 100), Decimal("8" * 100 + "." + "7" * 100)
    world = World(
        *metered("a"), plan(card("a", unit(str(price)))), customer(), subscription(INVOICE), grant("g", great)
    )
    world.beat(START + 3 * HOUR)
    world.use(*(event(str(number), "a", str(great), START + number * timedelta(minutes=7)) for number in range(20)))
    assert world.ended == {("rated", ""): 20}, [out.rejected for out in world.outs]
    use_exact()
    assert world.balance.charged == 20 * great * price
    assert not world.group.aside


# -- UNIQUE_COUNT keeps digests, and so many -------------------------------------------------------


def test_a_text_beyond_the_bound_is_refused_for_that_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rating.tallies, "UNIQUE_MAX", 3)
    world = _world(Aggregation.UNIQUE_COUNT)
    for number in (1, 2, 3, 4, 2, 5):
        world.use(event(f"{number}-{len(world.outs)}", "a", number, START))
    assert world.ended == {("rated", ""): 6}
    refused = [found for out in world.outs for found in out.rejected]
    assert [(found.code, found.meter, found.path) for found in refused] == [
        (RejectCode.VALUE_TOO_MANY, "b", "$.data.n")
    ] * 2
    assert world.balance.charged == 17 + 3 * Decimal("0.5")
    world.restart()
    world.use(event("late", "a", 3, START))
    assert world.balance.charged == 20 + 3 * Decimal("0.5")


def test_a_snapshot_with_texts_is_read() -> None:
    packed = msgspec.msgpack.encode(["unique", ["x", "y"]])
    tally: Any = msgspec.msgpack.decode(packed, type=Tally)
    assert isinstance(tally, UniqueTally)
    assert (len(tally), tally.has("x"), tally.has("z"), tally.texts) == (2, True, False, set())
    again: Any = msgspec.msgpack.decode(msgspec.msgpack.encode(tally), type=Tally)
    assert again.known == tally.known
    assert len(again.digests) == 32
