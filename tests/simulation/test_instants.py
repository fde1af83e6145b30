"""Instants at odd times: what begins, ends and comes due between events, by its own date and in its own order."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace

from rating.catalog import SettlementMode, Subscription
from rating.prices import Flat, Graduated, PaymentTerm, Pricing, Tier, Unit
from rating.time_rules import TimeRules
from tests.simulation.settling import DAY, HOUR, World, card, customer, event, grant, metered, plan, subscription
from tests.world import START

D = Decimal
TICK = timedelta(microseconds=1)
ODD = START + 10 * HOUR + timedelta(minutes=30) + TICK
"""10:30:00.000001: an anchor off every window's edge."""
NEXT = ODD + 31 * DAY
INVOICE = SettlementMode.CREDIT_THEN_INVOICE
ONLY = SettlementMode.CREDIT_ONLY


def flat(amount: str, term: PaymentTerm = PaymentTerm.IN_ADVANCE) -> Pricing:
    return Pricing(Flat(D(amount), term), "USD")


def at_least(amount: str) -> Pricing:
    return Pricing(Unit(amount=D(1), minimum_amount=D(amount)), "USD")


def world_at(now: datetime, *records: object, **rules: object) -> World:
    world = World(rules=TimeRules(**rules))  # type: ignore[arg-type]
    world.now = now
    world.apply(*records)  # type: ignore[arg-type]
    return world


def odd(mode: SettlementMode = ONLY, end: datetime | None = None) -> Subscription:
    return subscription(mode, start=ODD, end=end)


# -- usage ahead of its period ------------------------------------------------------------------


@pytest.mark.parametrize("restarts", [False, True])
def test_usage_ahead_of_its_period_counts_and_blocks_exactly_when_the_period_begins(restarts: bool) -> None:
    """By the timer alone, and after a snapshot too; not before."""
    world = world_at(ODD, *metered("a"), plan(card("a")), customer(), odd(), grant("g", 5, ODD))
    world.beat(NEXT - timedelta(minutes=4))
    world.use(event("ahead", "a", 7, NEXT + timedelta(seconds=30)))
    world.beat(NEXT - TICK)
    assert (world.balance.charged, world.balance.access) == (D(0), "allowed")
    if restarts:
        world.restart()
    assert world.group.calendar.next_due() == NEXT
    world.beat(NEXT)
    assert (world.balance.charged, world.balance.overage, world.balance.access) == (D(7), D(2), "blocked")
    assert world.balance.as_of == NEXT


def test_usage_ahead_of_a_subscription_or_a_day_counts_when_that_begins() -> None:
    """A daily rate card, and a subscription that begins within the minutes that usage may be ahead."""
    records = [*metered("a"), plan(card("a", cadence="P1D")), customer(), odd(INVOICE)]
    world = world_at(ODD - timedelta(minutes=3), *records)
    world.use(event("first", "a", 1, ODD))
    assert world.balance.charged == 0
    world.beat(ODD)
    assert world.balance.charged == 1
    world.beat(ODD + DAY - timedelta(minutes=1))
    world.use(event("second", "a", 1, ODD + DAY))
    assert world.balance.charged == 1
    world.beat(ODD + DAY)
    assert world.balance.charged == 2


# -- instants that passed meanwhile -------------------------------------------------------------


@pytest.mark.parametrize("exhausts", [False, True])
def test_a_grant_that_expired_before_an_event_was_received_does_not_pay_for_it(exhausts: bool) -> None:
    """The events are read an hour late, after the grant came and went: settled on the beat, or at once."""
    grants = [grant("short", 5, ODD + 15 * TICK, ODD + HOUR / 4)]
    if exhausts:
        grants.append(grant("small", 2, ODD))
    world = world_at(ODD, *metered("a"), plan(card("a")), customer(), odd(), *grants)
    received = ODD + HOUR / 3
    world.now = ODD + HOUR
    world.use(event("1", "a", 7, received), received=received)
    assert "short" not in world.paid()
    assert world.balance.expired == 5


def test_a_fold_after_a_standstill_leaves_what_one_without_left() -> None:
    """A period with a fee, grants that come and go, and overage in between, all read at the end."""
    records = [
        *metered("a"),
        *metered("b"),
        plan(card("a"), card("b", cadence="P1D"), card(None, flat("3"), cadence="P1D")),
        customer(),
        odd(),
        grant("one", 4, ODD + 2 * HOUR, ODD + 5 * HOUR),
        grant("two", 6, ODD + 4 * HOUR, ODD + 30 * HOUR, ["b"]),
        grant("three", 9, ODD + 25 * HOUR, ODD + 26 * HOUR),
    ]
    stream = [
        (ODD + hours * HOUR, event(str(hours), "ab"[hours % 2], hours % 5, ODD + hours * HOUR))
        for hours in range(1, 40, 3)
    ]
    prompt = world_at(ODD, *records)
    for received, found in stream:
        prompt.beat(received)
        prompt.use(found)
    prompt.beat(ODD + 50 * HOUR)
    late = world_at(ODD, *records)
    late.now = ODD + 50 * HOUR
    for received, found in stream:
        late.fold(found, received=received)
    late.beat()
    for world in (late, prompt):
        world.charges = {
            key: row._replace(revision=0, closed=False, was_left=False) for key, row in world.charges.items()
        }
    assert late.charges == prompt.charges
    assert late.balance[:-1] == prompt.balance[:-1]


def test_a_grant_that_is_over_when_it_becomes_known_repays_what_was_used_before_its_end() -> None:
    """It was recorded late, though the engine was up all the time; usage after it is not repaid."""
    world = world_at(ODD, *metered("a"), plan(card("a")), customer(), odd())
    world.beat(ODD + HOUR)
    world.use(event("before", "a", 4, world.now))
    world.beat(ODD + 10 * HOUR)
    world.use(event("after", "a", 4, world.now))
    world.apply(grant("late", 10, ODD + 2 * HOUR, ODD + 3 * HOUR))
    assert (world.balance.overage, world.balance.consumed, world.balance.expired) == (D(4), D(4), D(6))


# -- who pays what is owed for the plan ---------------------------------------------------------


@pytest.mark.parametrize("uses", [(), (1,), (20, 1), (1, 20)])
@pytest.mark.parametrize("term", list(PaymentTerm))
def test_a_fee_is_paid_as_of_when_it_is_due_whatever_was_used(term: PaymentTerm, uses: tuple[int, ...]) -> None:
    """In advance by the grant of the period's start, in arrears by that of its end, never by that of the usage."""
    grants = (
        grant("start", 100, ODD, ODD + TICK),
        grant("middle", 100, ODD + TICK, NEXT - TICK),
        grant("end", 100, NEXT - TICK, NEXT),
    )
    world = world_at(ODD, *metered("a"), plan(card("a", flat("30", term))), customer(), odd(INVOICE), *grants)
    for number, days in enumerate(uses):
        world.beat(max(world.now, ODD + days * DAY))
        world.use(event(str(number), "a", 1, ODD + days * DAY))
    world.beat(NEXT)
    expected = {"start": 30, "end": 30} if term is PaymentTerm.IN_ADVANCE else {"end": 30}
    first = {
        name: amount for row in world.charges.values() if row.period_start == ODD for name, amount in row.paid.items()
    }
    assert first == ({"start": 30} if term is PaymentTerm.IN_ADVANCE else {"end": 30})
    assert set(world.paid()) <= set(expected)


def test_the_flat_part_of_a_first_tier_is_owed_at_the_start_and_usage_when_it_was_used() -> None:
    """Though the usage is known first."""
    pricing = Pricing(Graduated((Tier(None, D(2), D(10)),)), "USD")
    grants = (grant("start", 100, ODD, ODD + HOUR), grant("later", 100, ODD + 5 * HOUR))
    world = world_at(
        ODD - timedelta(minutes=1), *metered("a"), plan(card("a", pricing)), customer(), odd(INVOICE), *grants
    )
    world.now = ODD + DAY
    world.fold(event("1", "a", 3, ODD + 20 * HOUR))
    world.beat()
    assert world.paid() == {"start": 10, "later": 6}
    assert {row.window_start.hour: row.amount for row in world.charges.values()} == {10: 10, 6: 6}


def test_fees_come_before_usage_of_the_same_beat() -> None:
    """A period begins with usage that came ahead of it: the fee is paid first."""
    cards = (card("a"), card(None, flat("5")))
    world = world_at(ODD, *metered("a"), plan(*cards), customer(), odd(INVOICE), grant("g", 5, NEXT))
    world.beat(NEXT - timedelta(minutes=1))
    world.use(event("ahead", "a", 4, NEXT + TICK))
    world.beat(NEXT)
    rows = {row.card_key: row.uncovered for row in world.charges.values() if row.period_start == NEXT}
    assert rows == {"fee": 0, "a": 4}


# -- periods that never were --------------------------------------------------------------------


@pytest.mark.parametrize("prorates", [False, True])
@pytest.mark.parametrize("term", list(PaymentTerm))
@pytest.mark.parametrize("before", [timedelta(), TICK, 3 * DAY])
def test_a_period_that_its_subscription_ended_before_costs_nothing(
    prorates: bool, term: PaymentTerm, before: timedelta
) -> None:
    """Fee, usage and minimum: all that was charged is given back, and the customer's rating goes on."""
    cards = (card("a", at_least("50")), card(None, flat("30", term)))
    records = [*metered("a"), plan(*cards, prorate=prorates), customer(), odd(INVOICE), grant("g", 1000, ODD)]
    world = world_at(ODD, *records)
    world.beat(NEXT + HOUR)
    for hours in (0, 1, 2, 3, 4):
        world.use(event(str(hours), "a", 7, NEXT + hours * HOUR))
        world.beat(NEXT + (hours + 1) * HOUR)
    world.apply(odd(INVOICE, end=NEXT - before))
    world.restart()
    world.beat(NEXT + 40 * DAY)
    second = [row for row in world.charges.values() if row.period_start == NEXT]
    assert sum(row.amount for row in second) == sum(row.credits for row in second) == 0
    assert sum(row.commitment for row in second) == 0
    first = [row for row in world.charges.values() if row.period_start == ODD]
    whole = not prorates or not before
    assert (sum(row.amount for row in first) == 80) == whole
    assert world.balance.consumed == sum(row.amount for row in first)
    world.use(event("after", "a", 1, world.now))
    assert world.ended["parked", "no_subscription"] == 1


def test_a_period_that_never_was_comes_back_when_the_end_is_taken_back() -> None:
    """With its fee and its usage, in arrears too."""
    cards = (card("a"), card(None, flat("30", PaymentTerm.IN_ARREARS)))
    world = world_at(ODD, *metered("a"), plan(*cards), customer(), odd(INVOICE))
    world.beat(NEXT + HOUR)
    world.use(event("1", "a", 7, NEXT + HOUR))
    world.apply(odd(INVOICE, end=NEXT - DAY))
    assert world.balance.charged == 30
    world.apply(odd(INVOICE))
    assert world.balance.charged == 37
    world.beat(NEXT + 31 * DAY)
    assert world.balance.charged == 67


def test_a_period_that_is_cut_short_keeps_its_fee_unless_it_is_prorated() -> None:
    """By its exact duration then; its minimum goes the same way."""
    for prorates, expected in ((False, D(80)), (True, D("2.580645161290322580645161290322"))):
        cards = (card("a", at_least("50")), card(None, flat("30")))
        world = world_at(ODD, *metered("a"), plan(*cards, prorate=prorates), customer(), odd(INVOICE))
        world.apply(odd(INVOICE, end=ODD + DAY))
        world.beat(ODD + 3 * DAY)
        assert abs(world.balance.charged - expected) < D("1e-25")


# -- minimums -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("prorates", "minimum"), [(False, D(93)), (True, D("6.642857142857142857142857142857"))])
def test_a_minimum_is_prorated_as_fees_are(prorates: bool, minimum: Decimal) -> None:
    """A first period of two days of 31; tiers, free units and a maximum stay whole."""
    two_days = replace(odd(INVOICE), anchor=ODD + 2 * DAY)
    world = world_at(ODD, *metered("a"), plan(card("a", at_least("93")), prorate=prorates), customer(), two_days)
    world.use(event("1", "a", 1, ODD))
    world.beat(ODD + 3 * DAY + HOUR)
    full = two_days.anchor - (ODD + 2 * DAY - timedelta(days=28))
    row = next(row for row in world.charges.values() if row.commitment)
    assert row.period_end - row.period_start == 2 * DAY
    whole = row.full_end - row.full_start
    assert full == whole
    assert whole == 28 * DAY
    assert abs(world.balance.charged - minimum) < D("1e-25")


# -- a grant that becomes known after a fee was due ----------------------------------------------

MINUTE = timedelta(minutes=1)
FIRST_TIER = Pricing(Graduated((Tier(None, D(1), D(3)),)), "USD")


@pytest.mark.parametrize("mode", [ONLY, INVOICE])
@pytest.mark.parametrize(
    ("start", "end", "pays"),
    [
        (ODD, None, True),
        (ODD - MINUTE, ODD + TICK, True),
        (ODD - DAY, ODD, False),
        (ODD - DAY, ODD - 5 * MINUTE, False),
        (ODD + TICK, None, False),
    ],
)
def test_what_is_owed_for_a_plan_has_its_own_date_also_where_a_grant_becomes_known_later(
    mode: SettlementMode, start: datetime, end: datetime | None, pays: bool
) -> None:
    """Though the window began half an hour before the period: a fee in advance, and the flat part of a first tier."""
    plan_of_two = plan(card(None, flat("10")), card("a", FIRST_TIER))
    world = world_at(ODD, *metered("a"), plan_of_two, customer(), subscription(mode, start=ODD))
    world.beat(ODD + timedelta(seconds=3))
    world.apply(replace(grant("g", 100, start, end), created_at=world.now))
    world.beat(ODD + 4 * HOUR)
    # Under `credit_only` what was used beyond the balance is repaid by the next grant.
    repays = mode is ONLY and (end is None or end > ODD)
    assert world.balance.consumed == (13 if pays or repays else 0)
    world.restart()
    world.beat(ODD + 5 * HOUR)
    assert world.balance.consumed == (13 if pays or repays else 0)


@pytest.mark.parametrize(
    ("start", "end", "pays"),
    [
        (NEXT - 10 * MINUTE, None, 7),
        (NEXT - TICK, NEXT, 7),
        (NEXT - DAY, NEXT - TICK, 1),
        (NEXT - DAY, NEXT - 5 * MINUTE, 1),
        (NEXT, None, 0),
    ],
)
def test_a_fee_in_arrears_has_its_own_date_also_where_a_grant_becomes_known_later(
    start: datetime, end: datetime | None, pays: int
) -> None:
    """Not that of the window it falls in, nor that of usage in this window, which is dated by the window's start."""
    due_at_end = card(None, flat("7", PaymentTerm.IN_ARREARS))
    world = world_at(ODD, *metered("a"), plan(card("a"), due_at_end), customer(), odd(INVOICE))
    world.beat(NEXT - 20 * MINUTE)
    world.use(event("1", "a", 1, NEXT - 20 * MINUTE))
    world.beat(NEXT + MINUTE)
    world.use(event("2", "a", 1, NEXT - 2 * MINUTE))
    world.apply(replace(grant("g", 100, start, end), created_at=world.now))
    for hours in range(1, 30):
        world.beat(NEXT + hours * HOUR)
        if hours % 10 == 0:
            world.restart()
    used_after = 1 if start == NEXT - DAY else 0
    assert world.balance.consumed == pays + used_after
    assert world.balance.charged == 9
