"""Moves to another version of the same plan: what they re-rate, what they keep, and what they leave as it was."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rating.catalog import (
    FeatureSet,
    MeterSet,
    Phase,
    PlanVersion,
    RateCard,
    Record,
    SettlementMode,
    Subscription,
    VersionMove,
)
from rating.charge import total
from rating.entitlements import MeteredEntitlement
from rating.meters import Aggregation, Feature, Meter
from rating.money import ZERO, quotient, round_minor
from rating.prices import Discounts, Flat, Graduated, Package, PaymentTerm, Price, Pricing, Tier, Unit, Volume
from rating.time_rules import TimeRules
from tests.simulation.settling import DAY, HOUR, World, card, customer, event, grant, metered, plan, subscription, unit
from tests.world import START, line
from tollway.batch import BatchResult, rate_file

D = Decimal
APRIL = START + 31 * DAY
MAY = START + 61 * DAY
MID = START + timedelta(days=10, hours=7, minutes=23, microseconds=1)
"""An instant within March that is on no edge of a window."""
INVOICE = SettlementMode.CREDIT_THEN_INVOICE
TIERS = Graduated((Tier(D(10), D(2)), Tier(None, D(1))))
CHEAP = Graduated((Tier(D(10), D(1)), Tier(None, D("0.5"))))


def version(number: int, *cards: RateCard, prorate: bool = False, phases: tuple[Phase, ...] = ()) -> PlanVersion:
    """A version of the monthly plan."""
    return replace(plan(*cards, prorate=prorate, phases=phases), version=number)


def moved(*moves: tuple[datetime, int], mode: SettlementMode = INVOICE, end: datetime | None = None) -> Subscription:
    """The customer's subscription, which began on version 1, and moved."""
    return replace(subscription(mode, end=end), moves=tuple(VersionMove(at, number, START) for at, number in moves))


def world_of(*records: Record, now: datetime = START, **rules: Any) -> World:
    world = World(rules=TimeRules(**rules))
    world.now = now
    world.apply(customer(), *records)
    return world


def by_period(world: World, card_key: str = "a") -> dict[tuple[datetime, datetime], Decimal]:
    """What each part of a rate card's periods came to."""
    found: dict[datetime, Decimal] = {}
    ends: dict[datetime, tuple[int, datetime]] = {}
    for row in world.charges.values():
        if row.card_key == card_key:
            found[row.period_start] = found.get(row.period_start, ZERO) + row.amount
            ends[row.period_start] = max(ends.get(row.period_start, (0, START)), (row.revision, row.period_end))
    return {(start, ends[start][1]): amount for start, amount in found.items() if amount}


def price(body: Price, **more: Any) -> Pricing:
    return Pricing(body, "USD", **more)


# -- prices that are new, the same, or gone -----------------------------------------------------


def test_a_price_that_is_new_in_the_version_counts_from_the_move_on() -> None:
    """Earlier usage waits, later usage is rated; what has the same price in both is not touched."""
    records = [*metered("a"), *metered("b"), version(1, card("a")), version(2, card("a"), card("b", unit("3")))]
    world = world_of(*records, moved(mode=INVOICE))
    world.now = START + 5 * DAY
    world.use(event("1", "a", 5, START + DAY), event("2", "b", 7, START + DAY))
    assert world.ended == {("rated", ""): 1, ("parked", "no_feature"): 1}
    world.apply(moved((START, 2)))
    world.fold(event("2", "b", 7, START + DAY), is_back=True)
    world.use(event("3", "a", 1, START + 5 * DAY))
    assert by_period(world, "a") == {(START, APRIL): 6}
    assert by_period(world, "b") == {(START, APRIL): 21}
    late = world_of(*records, moved((MID, 2)), now=START + 12 * DAY)
    late.use(event("1", "b", 7, MID - HOUR / 60), event("2", "b", 5, MID))
    assert late.ended == {("rated", ""): 1, ("parked", "no_feature"): 1}
    assert by_period(late, "b") == {(MID, APRIL): 15}


def test_a_price_that_stays_the_same_is_not_cut() -> None:
    """Tiers, free units and the row in the ledger go on, and nothing is told of it."""
    same = price(TIERS, discounts=Discounts(usage=D(3)))
    records = [*metered("a"), *metered("b"), version(1, card("a", same)), version(2, card("a", same), card("b"))]
    world = world_of(*records, moved())
    world.use(event("1", "a", 8, START))
    world.beat(MID - HOUR)
    world.apply(moved((MID, 2)))
    assert not world.out.charges
    world.beat(MID + HOUR)
    world.use(event("2", "a", 10, MID + HOUR))
    assert by_period(world) == {(START, APRIL): 25}


def test_usage_of_a_price_that_the_version_drops_waits_from_the_move_on() -> None:
    """What was used before is charged, and its period ends."""
    records = [*metered("a"), *metered("b"), version(1, card("a"), card("b")), version(2, card("b"))]
    world = world_of(*records, moved((MID, 2)), now=MID + HOUR)
    world.use(event("1", "a", 5, MID - HOUR), event("2", "a", 7, MID), event("3", "b", 1, MID))
    assert world.ended == {("rated", ""): 2, ("parked", "no_feature"): 1}
    assert by_period(world) == {(START, MID): 5}


# -- from the start of the open period ----------------------------------------------------------


@pytest.mark.parametrize(("new", "expected"), [(CHEAP, D(15)), (TIERS, D(30)), (Unit(D(3)), D(60))])
def test_a_move_from_the_start_of_the_period_rates_all_of_it_anew(new: Price, expected: Decimal) -> None:
    """Windows that have left the state too: the difference is charged, or given back to who paid."""
    records = [*metered("a"), version(1, card("a", price(TIERS))), version(2, card("a", price(new)))]
    world = world_of(*records, moved(), grant("g", 25))
    for number in range(20):
        world.beat(START + number * DAY)
        world.use(event(str(number), "a", 1, START + number * DAY))
    assert (world.balance.charged, world.balance.consumed) == (D(30), D(25))
    world.apply(moved((START, 2)))
    assert (world.balance.charged, world.balance.consumed) == (expected, min(expected, D(25)))
    assert by_period(world) == {(START, APRIL): expected}
    world.restart()
    assert world.balance.charged == expected


def test_a_period_that_is_over_keeps_its_price() -> None:
    """It may still take usage, which is rated as what was used then."""
    records = [*metered("a"), version(1, card("a")), version(2, card("a", unit("5")))]
    world = world_of(*records, moved())
    world.use(event("1", "a", 3, START))
    world.beat(APRIL + HOUR)
    world.use(event("2", "a", 2, APRIL))
    world.apply(moved((APRIL, 2)))
    world.use(event("3", "a", 4, APRIL - DAY), event("4", "a", 1, APRIL + HOUR))
    assert by_period(world) == {(START, APRIL): 7, (APRIL, MAY): 15}


def test_a_second_move_from_the_start_of_the_period_corrects_the_first() -> None:
    """The one that came later holds."""
    records = [
        *metered("a"),
        version(1, card("a")),
        version(2, card("a", unit("50"))),
        version(3, card("a", unit("5"))),
    ]
    world = world_of(*records, moved(), now=MID)
    world.use(event("1", "a", 3, START + DAY))
    world.apply(moved((START, 2)))
    assert by_period(world) == {(START, APRIL): 150}
    world.apply(moved((START, 2), (START, 3)))
    assert by_period(world) == {(START, APRIL): 15}


# -- within a period ----------------------------------------------------------------------------


def test_a_price_that_changes_within_the_period_goes_on_at_the_tier_that_was_reached() -> None:
    """Units before the move at the old price, those after at the new one, of which free units and tiers are used up."""
    old, new = price(TIERS, discounts=Discounts(usage=D(5))), price(CHEAP, discounts=Discounts(usage=D(5)))
    world = world_of(*metered("a"), version(1, card("a", old)), version(2, card("a", new)), moved((MID, 2)))
    world.beat(MID - DAY)
    world.use(event("1", "a", 11, MID - DAY))
    assert by_period(world) == {(START, MID): 12}
    world.beat(MID + DAY)
    world.use(event("2", "a", 8, MID + DAY))
    # Billable 6 of 14 were used: four more at 1, and four at 0.5.
    assert by_period(world) == {(START, MID): 12, (MID, APRIL): 6}
    world.use(event("late", "a", 3, MID - HOUR))
    # Now 9 of 17: one at 1, and seven at 0.5.
    assert by_period(world) == {(START, MID): 18, (MID, APRIL): D("4.5")}
    world.restart()
    world.beat(APRIL + HOUR)
    world.use(event("next", "a", 6, APRIL))
    assert by_period(world)[APRIL, MAY] == 1


def test_all_parts_of_a_period_close_together() -> None:
    """Usage of before the move comes in time until the grace after the whole period is over."""
    records = [*metered("a"), version(1, card("a")), version(2, card("a", unit("2"))), moved((MID, 2))]
    world = world_of(*records)
    world.beat(APRIL + HOUR)
    world.use(event("1", "a", 3, MID - HOUR), event("2", "a", 5, MID + HOUR))
    assert by_period(world) == {(START, MID): 3, (MID, APRIL): 10}
    world.beat(APRIL + 2 * DAY)
    world.use(event("3", "a", 3, MID - HOUR), event("4", "a", 5, MID + HOUR))
    assert world.ended == {("rated", ""): 2, ("parked", "period_closed"): 2}


def test_more_usage_after_a_move_never_gives_back_what_was_used_before() -> None:
    """A volume tier of the new version makes later usage free at most."""
    volume = Volume((Tier(D(100), D(1)), Tier(None, D("0.1"))))
    records = [*metered("a"), version(1, card("a")), version(2, card("a", price(volume))), moved((MID, 2))]
    world = world_of(*records, now=MID + DAY)
    for number, (amount, at, before, after) in enumerate(
        (
            (90, MID - HOUR, 90, D(0)),
            (5, MID, 90, D(5)),
            (15, MID, 90, D(0)),
            (1000, MID, 90, D(21)),
            (5, MID - DAY, 95, D("16.5")),
        ),
    ):
        world.use(event(str(number), "a", amount, at))
        assert world.balance.charged == before + after, number


@pytest.mark.parametrize(
    ("aggregation", "before", "after"),
    [
        (Aggregation.MAX, D(9), D(9)),
        (Aggregation.LATEST, D(4), D(6)),
        (Aggregation.AVG, D(5), quotient(D(21), D(4), 18)),
        (Aggregation.MIN, D(2), D(2)),
        (Aggregation.UNIQUE_COUNT, D(3), D(4)),
        (Aggregation.SUM, D(15), D(21)),
        (Aggregation.COUNT, D(3), D(4)),
    ],
)
def test_an_aggregation_counts_the_whole_period(aggregation: Aggregation, before: Decimal, after: Decimal) -> None:
    """What it came to before the move costs the old price; what usage after makes of it, the difference at the new."""
    records = [*metered("a", aggregation), version(1, card("a")), version(2, card("a", unit("10"))), moved((MID, 2))]
    events = [
        event("1", "a", 2, MID - 3 * HOUR),
        event("2", "a", 9, MID - 2 * HOUR),
        event("3", "a", 4, MID - HOUR),
        event("4", "a", 6, MID + HOUR),
    ]
    if aggregation is Aggregation.UNIQUE_COUNT:
        events = [{**one, "data": {"n": str(one["data"]["n"])}} for one in events]
    for seed in range(4):
        world = world_of(*records, now=MID + DAY)
        random.Random(seed).shuffle(events)
        for one in events:
            world.use(one)
        world.restart()
        assert world.balance.charged == before + 10 * (after - before)
        assert world.by_feature()["a"][0] == after


def test_two_moves_within_one_period() -> None:
    """Each part goes on from those before it, in whatever order their usage comes."""
    prices = [price(TIERS), price(CHEAP), unit("4")]
    records = [*metered("a"), *(version(n, card("a", found)) for n, found in enumerate(prices, 1))]
    later = MID + 3 * DAY
    world = world_of(*records, moved((MID, 2), (later, 3)), now=later + DAY)
    for number, (amount, at) in enumerate(((3, later), (6, MID), (8, START))):
        world.use(event(str(number), "a", amount, at))
    assert by_period(world) == {(START, MID): 16, (MID, later): 4, (later, APRIL): 12}


def test_a_price_that_was_dropped_and_came_back_goes_on_where_it_was() -> None:
    """Free units are given once a period."""
    free = price(Unit(D(1)), discounts=Discounts(usage=D(10)))
    records = [*metered("a"), *metered("b"), version(1, card("a", free)), version(2, card("b"))]
    world = world_of(*records, moved((MID, 2), (MID + DAY, 1)), now=MID + 2 * DAY)
    world.use(event("1", "a", 9, START), event("2", "a", 100, MID), event("3", "a", 4, MID + DAY))
    assert world.ended == {("rated", ""): 2, ("parked", "no_feature"): 1}
    assert world.balance.charged == 3


def test_a_lane_ends_with_the_version() -> None:
    """Usage that gathers does not go past the move, though it is within the window."""
    records = [*metered("a"), version(1, card("a")), version(2, card("a", unit("100"))), moved((MID, 2))]
    world = world_of(*records, now=MID)
    world.fold(*(event(f"{n}", "a", 1, MID - timedelta(minutes=9 - n)) for n in range(9)))
    world.fold(*(event(f"{n}+", "a", 1, MID + timedelta(seconds=n)) for n in range(7)))
    world.fold(*(event(f"{n}-", "a", 1, MID - timedelta(seconds=n + 1)) for n in range(5)))
    world.beat()
    assert by_period(world) == {(START, MID): 14, (MID, APRIL): 700}


def test_what_is_left_of_a_limit_is_told_across_the_move() -> None:
    """The usage that the gate compares with the limit is that of the whole period."""
    limited = [replace(card("a", unit(amount)), entitlement=MeteredEntitlement(D(10))) for amount in ("1", "2")]
    world = world_of(*metered("a"), version(1, limited[0]), version(2, limited[1]), moved((MID, 2)))
    world.beat(MID - HOUR)
    world.use(event("1", "a", 6, MID - HOUR))
    assert [tuple(told) for told in world.balance.usage] == [("a", START, MID, D(6))]
    world.beat(MID)
    assert [tuple(told) for told in world.balance.usage] == [("a", MID, APRIL, D(6))]
    world.use(event("2", "a", 3, MID))
    assert [tuple(told) for told in world.balance.usage] == [("a", MID, APRIL, D(9))]


def test_usage_of_before_a_move_blocks_at_once_by_what_it_makes_later_usage_cost() -> None:
    """It moves the tier at which usage after the move begins, and that may exhaust the credit."""
    rising = price(Graduated((Tier(D(10), D(1)), Tier(None, D(10)))))
    records = [
        *metered("a"),
        version(1, card("a")),
        version(2, card("a", rising)),
        moved((MID, 2), mode=SettlementMode.CREDIT_ONLY),
    ]
    world = world_of(*records, grant("g", 100), now=MID + HOUR)
    world.use(event("0", "a", 1, MID - HOUR), event("1", "a", 9, MID))
    assert world.balance.access == "allowed"
    assert world.fold(event("2", "a", 9, MID - HOUR)).balances[-1].access == "blocked"
    assert world.balance.charged == 10 + 90


# -- fees and minimums --------------------------------------------------------------------------


@pytest.mark.parametrize("prorate", [False, True])
@pytest.mark.parametrize("term", PaymentTerm)
def test_a_fee_that_changes_within_its_period_changes_with_the_next(term: PaymentTerm, prorate: bool) -> None:
    """The running period keeps the fee that it began with, also where the version drops it or makes a new one."""
    one, two = price(Flat(D(31), term)), price(Flat(D(62), term))
    cards = [
        [card(None, one, "kept"), card(None, one, "gone")],
        [card(None, two, "kept"), card(None, two, "new")],
    ]
    world = world_of(version(1, *cards[0], prorate=prorate), version(2, *cards[1], prorate=prorate), moved((MID, 2)))
    world.beat(MAY + 5 * DAY)
    expected = {
        "kept": {(START, APRIL): 31, (APRIL, MAY): 62},
        "gone": {(START, APRIL): 31},
        "new": {(APRIL, MAY): 62},
    }
    for key, periods in expected.items():
        found = by_period(world, key)
        found.pop((MAY, START + 92 * DAY), None)
        assert found == periods, key


def test_a_move_from_the_start_of_the_period_changes_its_fees() -> None:
    """What was charged in advance is charged anew, given back, or charged for the first time."""
    one, two = price(Flat(D(31))), price(Flat(D(62)))
    first = version(1, card(None, one, "kept"), card(None, one, "gone"))
    second = version(2, card(None, two, "kept"), card(None, two, "new"))
    world = world_of(first, second, moved(), grant("g", 100))
    world.beat(MID)
    assert world.balance.consumed == 62
    world.apply(moved((START, 2)))
    assert {key: sum(by_period(world, key).values()) for key in ("kept", "gone", "new")} == {
        "kept": 62, "gone": 0, "new": 62,
    }  # fmt: skip
    assert (world.balance.consumed, world.balance.uncovered) == (D(100), D(24))
    world.restart()
    world.beat(APRIL)
    assert world.balance.charged == 248


ADVANCE, ARREARS = PaymentTerm


@pytest.mark.parametrize(
    ("old", "new", "before", "open_", "over"),
    [
        (price(Flat(D(2))), price(Flat(D(9), ARREARS)), D(2), D(0), D(9)),
        (price(Flat(D(9), ARREARS)), price(Flat(D(2))), D(0), D(2), D(2)),
        (price(Flat(D(2), ARREARS)), price(Flat(D(9), ARREARS)), D(0), D(0), D(9)),
        (price(Flat(D(2))), None, D(2), D(0), D(0)),
        (None, price(Flat(D(9), ARREARS)), D(0), D(0), D(9)),
        (price(Flat(D(2))), price(Flat(D(9), ARREARS), discounts=Discounts(percentage=D(100))), D(2), D(0), D(0)),
    ],
)
def test_a_move_from_the_start_of_the_period_changes_when_its_fee_is_due(
    old: Pricing | None, new: Pricing | None, before: Decimal, open_: Decimal, over: Decimal
) -> None:
    """What was charged in advance is given back until it is due; the gate is that of a log that is read again."""
    records = [
        *metered("a"),
        version(1, card("a"), *([] if old is None else [card(None, old)])),
        version(2, card("a"), *([] if new is None else [card(None, new)])),
    ]
    mode, move = SettlementMode.CREDIT_ONLY, VersionMove(START, 2, MID)
    told = []
    for known in (False, True):
        world = world_of(*records, replace(moved(mode=mode), moves=(move,) if known else ()), grant("g", 12))
        world.use(event("1", "a", 6, START))
        world.beat(MID)
        assert known or world.balance.charged == 6 + before
        world.apply(*([] if known else [replace(moved(mode=mode), moves=(move,))]))
        world.restart()
        world.use(event("2", "a", 1, MID))
        told.append((world.balance.charged, world.balance.live, world.balance.access))
        world.beat(APRIL - timedelta(microseconds=1))
        assert world.balance.charged == 7 + open_
        world.beat(APRIL + DAY)
        assert sum(row.amount for row in world.charges.values() if row.period_start == START) == 7 + over
        told.append((world.balance.charged, world.balance.live, world.balance.access))
    assert told[0] == (7 + open_, 5 - open_, "allowed")
    assert told[:2] == told[2:]


@pytest.mark.parametrize("new", [price(Flat(D(9), ARREARS)), price(Flat(D(9)))])
@pytest.mark.parametrize("days", [1, 20])
def test_usage_whose_price_becomes_a_fee_from_the_start_of_the_period_is_given_back(new: Pricing, days: int) -> None:
    """In windows that have left the state too; a fee in arrears is due at the end."""
    tiers = price(Graduated((Tier(D(5), D(1), D(3)), Tier(None, D(2)))))
    world = world_of(*metered("a"), version(1, card("a", tiers)), version(2, card("a", new)), moved(), grant("g", 8))
    for number in range(days):
        world.beat(START + number * DAY)
        world.use(event(str(number), "a", 1, START + number * DAY))
    assert world.balance.consumed == min(3 + days, 8)
    world.apply(moved((START, 2)))
    assert by_period(world) == ({} if new.price.payment_term is ARREARS else {(START, APRIL): 9})  # type: ignore[union-attr]
    world.restart()
    world.use(event("last", "a", 1, world.now))
    world.beat(APRIL)
    assert by_period(world)[START, APRIL] == 9
    world.apply(moved((START, 2), (START, 1)))
    assert by_period(world)[START, APRIL] == 3 + total(
        price(Graduated((Tier(D(5), D(1)), Tier(None, D(2))))), D(days + 1)
    )


def test_a_fee_that_a_move_brings_is_due_in_its_own_periods() -> None:
    """A fee each week, in a plan by the month that asked for nothing: the next week's is due with the week."""
    fee = card(None, price(Flat(D(7))), cadence="P1W")
    records = [*metered("a"), version(1, card("a")), version(2, card("a"), fee)]
    move = VersionMove(START + 15 * DAY, 2, START + 16 * DAY)
    for read_at in (16, 30):
        world = world_of(*records, moved())
        world.beat(START + 16 * DAY)
        world.now = START + read_at * DAY
        world.apply(replace(moved(), moves=(move,)))
        world.beat(START + 31 * DAY)
        weeks = [(START + at * DAY, START + (at + 7) * DAY) for at in (21, 28)]
        assert by_period(world, "fee") == dict.fromkeys(weeks, D(7))


def test_a_feature_whose_price_becomes_a_fee_is_only_counted_until_the_next_period() -> None:
    """The fee is due from then on."""
    records = [*metered("a"), version(1, card("a")), version(2, card("a", price(Flat(D(7))))), moved((MID, 2))]
    world = world_of(*records, now=MID + DAY)
    world.use(event("1", "a", 3, MID - DAY), event("2", "a", 5, MID))
    assert by_period(world) == {(START, MID): 3}
    assert world.by_feature()["a"][0] == 8
    world.beat(APRIL)
    assert by_period(world) == {(START, MID): 3, (APRIL, MAY): 7}


def test_a_feature_whose_fee_becomes_a_price_costs_both_in_the_period() -> None:
    """The fee was due for all of it, whatever becomes of usage."""
    records = [*metered("a"), version(1, card("a", price(Flat(D(31))))), version(2, card("a")), moved((MID, 2))]
    world = world_of(*records, now=MID + DAY)
    world.use(event("1", "a", 3, MID - DAY), event("2", "a", 5, MID))
    assert by_period(world) == {(START, APRIL): 31, (MID, APRIL): 5}
    world.beat(APRIL + 3 * DAY)
    assert by_period(world) == {(START, APRIL): 31, (MID, APRIL): 5}


@pytest.mark.parametrize(("used", "expected"), [(3, D(20)), (10, D(32))])
def test_a_period_has_one_minimum(used: int, expected: Decimal) -> None:
    """That of the version in force when it ends; all of the period counts towards it, with usage after or without."""
    old = price(Unit(D(2), minimum_amount=D(100)))
    new = price(Unit(D(4), minimum_amount=D(20)))
    world = world_of(*metered("a"), version(1, card("a", old)), version(2, card("a", new)), moved((MID, 2)))
    world.beat(MID + DAY)
    world.use(event("1", "a", used, MID - DAY))
    if used > 5:
        world.use(event("2", "a", 3, MID + DAY))
    world.restart()
    world.beat(APRIL + HOUR)
    assert world.balance.charged == (2 * used if used < 5 else expected)
    world.beat(APRIL + 2 * DAY)
    march = {span: amount for span, amount in by_period(world).items() if span[0] < APRIL}
    assert sum(march.values()) == expected
    world.restart()
    assert sum(amount for span, amount in by_period(world).items() if span[0] < APRIL) == expected


@pytest.mark.parametrize(("back", "expected"), [(1, D(22)), (3, D(40))])
def test_a_period_has_one_minimum_also_where_its_price_was_gone_for_a_while(back: int, expected: Decimal) -> None:
    """All parts close together, so late usage of the first one comes in time; as the log is read again, too."""
    floor = {"minimum_amount": D(20)}
    records = [
        *metered("a"),
        *metered("b"),
        version(1, card("a", price(Unit(D(1), **floor))), card("b")),
        version(2, card("b")),
        version(3, card("a", price(Unit(D(2), **floor))), card("b")),
    ]
    gone, returns = VersionMove(MID, 2, MID), VersionMove(MID + 9 * DAY, back, MID + 9 * DAY)
    worlds = []
    for known in (False, True):
        world = world_of(*records, replace(moved(), moves=(gone, returns) if known else ()))
        world.beat(START + DAY)
        world.use(event("1", "a", 3, START + DAY))
        world.beat(MID)
        world.apply(*([] if known else [replace(moved(), moves=(gone,))]))
        world.beat(MID + 5 * DAY)
        assert world.balance.charged == 3
        world.use(event("2", "a", 1, MID - HOUR), event("no", "a", 1, MID))
        world.restart()
        world.beat(MID + 9 * DAY)
        world.apply(*([] if known else [replace(moved(), moves=(gone, returns))]))
        world.use(event("3", "a", 18, MID + 9 * DAY))
        world.beat(APRIL + 2 * DAY)
        assert world.ended == {("rated", ""): 3, ("parked", "no_feature"): 1}
        assert sum(amount for span, amount in by_period(world).items() if span[0] < APRIL) == expected
        worlds.append(by_period(world))
    assert worlds[0] == worlds[1]


def test_a_price_that_is_gone_for_good_owes_its_minimum_when_the_period_closes() -> None:
    """Not when the grace after the move is over: it may come back until then. A file is rated the same."""
    floor = price(Unit(D(1), minimum_amount=D(20)))
    records = [*metered("a"), *metered("b"), version(1, card("a", floor), card("b")), version(2, card("b"))]
    held = moved((MID, 2))
    world = world_of(*records, held)
    world.use(event("1", "a", 4, START))
    world.beat(APRIL + DAY - HOUR)
    assert world.balance.charged == 4
    world.beat(APRIL + DAY)
    assert by_period(world) == {(START, MID): 20}
    lines = line(event("1", "a", 4, START))
    for until, amount in ((MID + 5 * DAY, D(4)), (APRIL, D(20))):
        result = rate_file([customer(), *records, held], BytesIO(lines), until)
        assert sum((row.amount for row in result.charges.values()), ZERO) == amount


def test_a_trial_of_the_new_version_does_not_begin_anew() -> None:
    """Phases are counted from where the subscription began; how long one is follows the version then in force."""
    trial = Phase("trial", (card("a", unit("0")),), "P7D")
    versions = [version(n, phases=(trial, Phase("paid", (card("a", unit(str(n))),)))) for n in (1, 2)]
    longer = version(3, phases=(replace(trial, duration="P14D"), Phase("paid", (card("a", unit("3")),))))
    world = world_of(*metered("a"), *versions, longer, moved((START + 8 * DAY, 2)), now=START + 9 * DAY)
    for number, day in enumerate((6, 7, 8)):
        world.use(event(str(number), "a", 1, START + day * DAY))
    assert world.balance.charged == 1 + 2
    stretched = world_of(*metered("a"), *versions, longer, moved((START + 5 * DAY, 3)), now=START + 14 * DAY + HOUR)
    for number, day in enumerate((4, 7, 13, 14)):
        stretched.use(event(str(number), "a", 1, START + day * DAY))
    assert stretched.balance.charged == 3
    assert {row.period_end for row in stretched.charges.values()} == {START + 14 * DAY, APRIL}


def test_an_end_before_a_move_that_lies_ahead_takes_it_back() -> None:
    """Neither part of the period goes beyond the end."""
    records = [*metered("a"), version(1, card("a")), version(2, card("a", unit("2")))]
    world = world_of(*records, moved((MID, 2)))
    world.apply(moved((MID, 2), end=MID - DAY))
    world.now = MID - HOUR / 60
    world.use(event("1", "a", 3, MID - 2 * DAY), event("2", "a", 5, MID))
    assert world.ended == {("rated", ""): 1, ("parked", "no_subscription"): 1}
    after = world_of(*records, moved((MID, 2), end=MID + DAY), now=MID + DAY + HOUR)
    after.use(event("1", "a", 3, MID - DAY), event("2", "a", 5, MID), event("3", "a", 5, MID + DAY))
    assert by_period(after) == {(START, MID): 3, (MID, MID + DAY): 10}


def test_a_feature_of_the_new_version_is_shut_where_only_restricted_credit_is_left() -> None:
    """The gate knows what the plan has from the move on."""
    records = [*metered("a"), *metered("b"), version(1, card("a")), version(2, card("a"), card("b"))]
    world = world_of(*records, moved((MID, 2), mode=SettlementMode.CREDIT_ONLY), grant("g", 9, features=["a"]))
    assert not world.balance.blocked_features
    world.beat(MID)
    assert world.balance.blocked_features == ("b",)


# -- the law ------------------------------------------------------------------------------------

amounts = st.integers(0, 30).map(lambda n: D(n) / 4)
bounds = st.one_of(st.none(), st.integers(1, 60).map(D))


@st.composite
def prices(draw: st.DrawFn) -> Pricing:
    """A price by usage of any model, with free units, maximum and minimum or without."""
    low, high = draw(bounds), draw(bounds)
    if low is not None and high is not None:
        low, high = min(low, high), max(low, high)
    commitments = {"minimum_amount": low, "maximum_amount": high}
    steps = sorted(draw(st.sets(st.integers(1, 40), max_size=2)))
    tiers = tuple(
        Tier(None if step is None else D(step), draw(amounts), draw(st.sampled_from([None, D(0), D(2)])))
        for step in (*steps, None)
    )
    body = draw(
        st.one_of(
            amounts.map(lambda amount: Unit(amount, **commitments)),
            st.just(Graduated(tiers, **commitments)),
            st.just(Volume(tiers, **commitments)),
            st.builds(lambda a, n: Package(a, D(n), **commitments), amounts, st.integers(1, 9)),
        )
    )
    return Pricing(body, "USD", discounts=Discounts(usage=draw(st.one_of(st.none(), st.integers(1, 20).map(D)))))


def aggregate(aggregation: Aggregation, used: Sequence[tuple[int, datetime, str]]) -> Decimal:
    """What usage comes to, the plain way."""
    values = [D(amount) for amount, _, _ in used]
    if not values:
        return ZERO
    match aggregation:
        case Aggregation.SUM:
            return sum(values, ZERO)
        case Aggregation.COUNT:
            return D(len(values))
        case Aggregation.AVG:
            return quotient(sum(values, ZERO), D(len(values)), 18)
        case Aggregation.MIN:
            return min(values)
        case Aggregation.MAX:
            return max(values)
        case Aggregation.LATEST:
            return D(max((at, name, amount) for amount, at, name in used)[2])
        case Aggregation.UNIQUE_COUNT:
            return D(len(set(values)))


def plainly(
    aggregation: Aggregation, versions: Sequence[Pricing], starts: Sequence[datetime],
    used: Sequence[tuple[int, datetime, str]],
) -> Decimal:  # fmt: skip
    """What the period costs when it is over: each version from its instant on, at what had been reached by then."""
    charged = ZERO
    parts = [
        (pricing, start, ([*starts[1:], APRIL])[number])
        for number, (pricing, start) in enumerate(zip(versions, starts, strict=True))
    ]
    joined: list[tuple[Pricing, datetime, datetime]] = []
    for pricing, start, end in parts:
        if start == end:
            continue
        if joined and joined[-1][0] == pricing:
            joined[-1] = (pricing, joined[-1][1], end)
        else:
            joined.append((pricing, start, end))
    for number, (pricing, start, end) in enumerate(joined):
        through = aggregate(aggregation, [one for one in used if one[1] < end])
        if number == 0:
            charged += total(pricing, through)
        else:
            before = aggregate(aggregation, [one for one in used if one[1] < start])
            charged += max(total(pricing, through) - total(pricing, before), ZERO)
    minimum = joined[-1][0].price.minimum_amount  # type: ignore[union-attr]
    return charged if minimum is None else max(charged, minimum)


instants = st.integers(0, 40 * 24 * 60 * 60).map(lambda n: START + timedelta(seconds=n * 0.75, microseconds=n % 7))


@given(
    st.data(),
    st.sampled_from(list(Aggregation)),
    st.lists(prices(), min_size=2, max_size=3),
    st.lists(instants, min_size=2, max_size=2).map(sorted),
    st.lists(st.tuples(st.integers(0, 25), instants), max_size=12),
)
def test_a_period_with_moves_costs_what_a_plain_calculation_says(
    data: st.DataObject,
    aggregation: Aggregation,
    versions: list[Pricing],
    found: list[datetime],
    usage: list[tuple[int, datetime]],
) -> None:
    """In whatever order events come, with beats, snapshots and resumes between, whenever the moves become known."""
    starts = [START, *found[: len(versions) - 1]]
    for number in range(1, 1 + data.draw(st.integers(0, len(starts) - 1), label="from the start of the period")):
        starts[number] = START
    used = [(amount, at, f"e{number}") for number, (amount, at) in enumerate(usage)]
    records: list[Record] = [
        MeterSet(Meter("a", "a", aggregation, None if aggregation is Aggregation.COUNT else "$.n")),
        FeatureSet(Feature("a", meter_key="a")),
        *(version(number, card("a", pricing)) for number, pricing in enumerate(versions, 1)),
    ]
    moves = [(at, number) for number, at in enumerate(starts[1:], 2)]
    grants = [grant("g", 40), grant("h", 7, START + 9 * DAY, START + 20 * DAY)]
    # A move is known before its instant, or it holds from the start of the period.
    from_start = all(at == START for at, _ in moves)
    known = data.draw(st.integers(0, len(moves)), label="moves known at first") if from_start else len(moves)
    world = world_of(*records, moved(*moves[:known]), *grants, window_seconds=3600, late_windows=2)
    order = data.draw(st.permutations(used), label="order")
    world.now = START + 30 * DAY + 23 * HOUR
    steps = data.draw(
        st.lists(st.sampled_from(["beat", "restart", "move", "none"]), min_size=len(order)), label="steps"
    )
    for (amount, at, name), step in zip(order, steps, strict=False):
        world.fold(event(name, "a", str(amount), at))
        if step == "beat":
            world.beat()
        elif step == "restart":
            world.restart()
        elif step == "move":
            world.apply(moved(*moves))
    world.apply(moved(*moves))
    world.beat(APRIL + 2 * DAY)
    march = sum((row.amount for row in world.charges.values() if row.period_start < APRIL), ZERO)
    assert march == plainly(aggregation, versions, starts, used)
    balance = world.balance
    assert balance.charged >= march
    result = BatchResult(world.catalog, world.now)
    for out in world.outs:
        result.take(out)
    for invoice in result.invoices():
        # Each line is held against the ledger as it is made.
        assert sum((line.charged for line in invoice.lines), ZERO) == balance.charged
        assert sum((line.credited for line in invoice.lines), ZERO) == balance.consumed
        # A line shows no more credits than it comes to, and is rounded.
        short = round_minor(balance.consumed, "USD") - invoice.totals.credits_total
        assert ZERO <= short <= D("0.01") * len(invoice.lines)
        assert min((line.totals.total for line in invoice.lines), default=ZERO) >= 0


def test_a_move_that_is_taken_back_rates_what_waited_and_leaves_the_rest() -> None:
    """What was counted from the move on goes on, at the tier that earlier usage has reached since."""
    records = [*metered("a"), *metered("b"), version(1, card("a")), version(2, card("a"), card("b", price(TIERS)))]
    first, back = VersionMove(MID, 2, MID), VersionMove(START + 5 * DAY, 2, MID + 2 * DAY)
    world = world_of(*records, moved(), grant("g", 30))
    world.now = START + 6 * DAY
    waits = event("1", "b", 8, START + 6 * DAY)
    world.use(event("0", "a", 2, START + DAY), waits)
    world.beat(MID)
    world.apply(replace(moved(), moves=(first,)))
    world.beat(MID + DAY)
    world.use(event("2", "b", 6, MID + DAY))
    assert by_period(world, "b") == {(MID, APRIL): 12}
    world.beat(MID + 2 * DAY)
    world.apply(replace(moved(), moves=(first, back)))
    world.fold(waits, is_back=True)
    world.use(event("3", "b", 4, MID + DAY), event("4", "b", 1, START + 4 * DAY))
    assert by_period(world, "b") == {(START + 5 * DAY, MID): 16, (MID, APRIL): 12}
    assert by_period(world, "a") == {(START, APRIL): 2}
    world.restart()
    world.beat(APRIL + 2 * DAY)
    assert world.balance.charged == 30
    assert world.ended["parked", "no_feature"] == 2


@pytest.mark.parametrize("ahead", [timedelta(), timedelta(seconds=2)])
def test_what_waited_ahead_of_its_arrival_is_rated_by_a_move_of_before(ahead: timedelta) -> None:
    """A move as of an instant that had passed holds for usage of a sender whose clock is ahead, too."""
    records = [*metered("a"), *metered("b"), version(1, card("a")), version(2, card("a"), card("b"))]
    arrived = START + 6 * DAY
    waits = event("1", "b", 8, arrived + ahead)
    for moves in ([(5, 2, 7)], [(7, 2, 7), (5, 2, 8)]):
        world = world_of(*records, moved())
        world.now = arrived
        world.use(waits)
        assert world.ended == {("parked", "no_feature"): 1}
        made = tuple(VersionMove(START + a * DAY, n, START + b * DAY) for a, n, b in moves)
        world.beat(START + 8 * DAY)
        world.apply(replace(moved(), moves=made))
        world.use(waits, received=arrived, is_back=True)
        assert world.balance.charged == 8


early = st.integers(0, 25 * 24 * 60 * 60).map(lambda n: START + timedelta(seconds=n, microseconds=n % 7))


@given(
    st.data(),
    st.sampled_from(list(Aggregation)),
    prices(),
    st.lists(early, min_size=2, max_size=3, unique=True).map(sorted),
    st.lists(st.tuples(st.integers(0, 25), early), max_size=12),
)
def test_moves_that_are_taken_back_cost_what_a_plain_calculation_says(
    data: st.DataObject,
    aggregation: Aggregation,
    pricing: Pricing,
    found: list[datetime],
    usage: list[tuple[int, datetime]],
) -> None:
    """Live, with what waits rated as the moves become known, and in one go: tiers count all usage of the period."""
    used = [(amount, at, f"e{number}") for number, (amount, at) in enumerate(usage)]
    records: list[Record] = [
        *metered("a"),
        MeterSet(Meter("b", "b", aggregation, None if aggregation is Aggregation.COUNT else "$.n")),
        FeatureSet(Feature("b", meter_key="b")),
        version(1, card("a")),
        version(2, card("a"), card("b", pricing)),
    ]
    made = [*reversed(found)]
    moves = tuple(VersionMove(at, 2, START + (26 + number) * DAY) for number, at in enumerate(made))
    grants = [grant("g", 40), grant("h", 7, START + 9 * DAY, START + 20 * DAY)]
    world = world_of(*records, moved(), *grants, window_seconds=3600, late_windows=2)
    world.now = START + 25 * DAY
    waiting = {name: event(name, "b", str(amount), at) for amount, at, name in used}
    for number in range(len(moves)):
        world.beat(moves[number].recorded_at)
        world.apply(replace(moved(), moves=moves[: number + 1]))
        ready = [name for _, at, name in used if name in waiting and at >= moves[number].at]
        some = ready if number == len(moves) - 1 else [name for name in ready if data.draw(st.booleans(), label=name)]
        world.fold(*(waiting.pop(name) for name in data.draw(st.permutations(some), label="order")))
        if data.draw(st.booleans(), label="restart"):
            world.restart()
        if data.draw(st.booleans(), label="beat"):
            world.beat()
    world.beat(APRIL + 2 * DAY)
    again = world_of(*records, replace(moved(), moves=moves), *grants, window_seconds=3600, late_windows=2)
    again.now = START + 30 * DAY
    again.fold(*(event(name, "b", str(amount), at) for amount, at, name in used if at >= made[-1]))
    again.beat(APRIL + 2 * DAY)
    live, replayed = ([row for row in by_period(one, "b").items() if row[0][0] < APRIL] for one in (world, again))
    assert sorted(live) == sorted(replayed)
    assert world.balance.charged == again.balance.charged
    counted = [one for one in used if one[1] >= made[-1]]
    parts = [*sorted(found), APRIL]
    through = [aggregate(aggregation, [one for one in counted if one[1] < end]) for end in parts[1:]]
    expected = total(pricing, through[0])
    for before, after in pairwise(through):
        expected += max(total(pricing, after) - total(pricing, before), ZERO)
    minimum = pricing.price.minimum_amount  # type: ignore[union-attr]
    march = sum((amount for _, amount in live), ZERO)
    assert march == (expected if minimum is None else max(expected, minimum))


def test_a_file_is_rated_as_the_stream_is() -> None:
    """`tollway rate` finds the parts of the period, and a line for each, with what it goes on from."""
    records = [customer(), *metered("a"), version(1, card("a", price(TIERS))), version(2, card("a", price(CHEAP)))]
    lines = b"\n".join(line(event(f"{n}", "a", 8, at)) for n, at in enumerate((MID, MID - HOUR, MID - DAY)))
    result = rate_file([*records, moved((MID, 2))], BytesIO(lines), APRIL + DAY)
    (invoice,) = result.invoices()
    shown = [(found.period_start, found.quantity, found.totals.total) for found in invoice.lines]
    assert shown == [(START, D(16), D(26)), (MID, D(8), D(4))]
    assert [child.name for child in invoice.lines[1].children] == ["graduated-tiered-2-price-usage"]
