"""What time alone does, and what a catalog that moves does, to a customer: by example."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from rating.catalog import FeatureSet, Grant, MeterSet, Phase, Record, SettlementMode, key_group
from rating.dedup import SEGMENT_IDS
from rating.group import KeyGroup
from rating.meters import Aggregation, Feature, Meter
from rating.money import quotient
from rating.outcome import Outcome
from rating.prices import Discounts, Flat, Graduated, Package, PaymentTerm, Pricing, Tier, Unit, Volume
from rating.tallies import AVERAGE_DIGITS
from rating.time_rules import TimeRules
from tests.simulation.settling import (
    DAY,
    HOUR,
    ID,
    NUMBER,
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

D = Decimal
APRIL = START + 31 * DAY
MAY = START + 61 * DAY
INVOICE = SettlementMode.CREDIT_THEN_INVOICE


def flat(amount: str, term: PaymentTerm = PaymentTerm.IN_ADVANCE) -> Pricing:
    return Pricing(Flat(D(amount), term), "USD")


def world_at(now: datetime, *records: Record, **rules: Any) -> World:
    world = World(rules=TimeRules(**rules))
    world.now = now
    world.apply(*records)
    return world


def simple(*grants: Grant, mode: SettlementMode = SettlementMode.CREDIT_ONLY) -> list[Record]:
    return [*metered("a"), *metered("b"), plan(card("a"), card("b")), customer(), subscription(mode), *grants]


def of_card(world: World, key: str) -> Decimal:
    return sum((row.amount for row in world.charges.values() if row.card_key == key), D(0))


# -- windows ------------------------------------------------------------------------------------


def test_a_window_that_a_grant_cuts_is_closed_as_a_whole() -> None:
    """Late usage after the cut does not open the window again, whose row would then be replaced by less."""
    world = world_at(START + DAY, *simple(grant("g", 100, START + HOUR / 2)))
    for number, minutes in enumerate((10, 70, 130, 45)):
        world.use(event(str(number), "a", 10, START + timedelta(minutes=minutes)))
    assert world.by_feature()["a"][0] == 40
    assert world.balance.charged == 40


def test_late_usage_is_paid_by_the_grants_of_its_own_time() -> None:
    """Shown in the newest window, but not paid by a grant that came after, and paid by one that ended before it."""
    grants = (grant("early", 100, START, START + 2 * HOUR), grant("late", 100, START + 6 * HOUR))
    world = world_at(START + DAY, *simple(*grants, mode=INVOICE))
    for number, hours in enumerate((5, 8, 9, 10)):
        world.use(event(str(number), "a", 1, START + hours * HOUR))
    assert world.paid() == {"late": 3}
    world.use(event("of the early", "a", 7, START + HOUR))
    world.use(event("of none", "a", 5, START + 3 * HOUR))
    assert world.paid() == {"late": 3, "early": 7}
    assert world.balance.uncovered == 6
    (newest,) = [row for row in world.charges.values() if row.window_start == START + 10 * HOUR]
    assert (newest.quantity, newest.late_quantity) == (D(13), D(12))


def test_a_correction_goes_to_the_grant_that_paid_for_that_time() -> None:
    """Late usage moves cost from the slice a grant may pay for to one it may not: the grant gets it back."""
    tiers = Graduated((Tier(D(10), D(1)), Tier(None, D(0))))
    records = [
        *metered("a"),
        plan(card("a", Pricing(tiers, "USD"))),
        customer(),
        subscription(INVOICE),
        grant("g", 50, START + HOUR),
    ]
    world = world_at(START + DAY, *records)
    world.use(event("1", "a", 10, START + HOUR))
    world.use(event("2", "a", 10, START))
    assert world.paid() == {}
    assert world.balance.uncovered == 10


def test_credit_that_was_given_back_pays_what_is_uncovered() -> None:
    """A volume tier makes one feature cheaper; the other's usage of the same time is then covered."""
    volume = Volume((Tier(D(10), D(1)), Tier(None, D("0.1"))))
    records = [
        *metered("a"),
        *metered("b"),
        plan(card("a", Pricing(volume, "USD")), card("b")),
        customer(),
        subscription(INVOICE),
        grant("g", 10),
    ]
    world = world_at(START + DAY, *records)
    world.use(event("1", "a", 10, START))
    world.use(event("2", "b", 4, START))
    assert world.balance.uncovered == 4
    world.use(event("3", "a", 10, START))
    assert world.balance.uncovered == 0
    assert world.paid() == {"g": 6}


# -- grants -------------------------------------------------------------------------------------


def test_a_voided_grant_pays_for_usage_before_it_was_voided() -> None:
    """A replay, which knows from the start that it was voided, lets it pay the same."""
    given = grant("g", 10)
    first = world_at(START + HOUR, *simple(given))
    first.use(event("1", "a", 6, START))
    first.now = START + 2 * HOUR
    first.apply(replace(given, voided_at=START + 2 * HOUR))
    second = world_at(START + 2 * HOUR, *simple(replace(given, voided_at=START + 2 * HOUR)))
    second.use(event("1", "a", 6, START))
    for world in (first, second):
        assert world.paid() == {"g": 6}
        assert (world.balance.voided, world.balance.live) == (D(4), D(0))


def test_a_grant_that_comes_to_be_known_late_covers_a_whole_period() -> None:
    """Effective since the period's start, it pays for windows that closed long ago too."""
    world = world_at(START + DAY, *simple(mode=INVOICE))
    for hour in range(10):
        world.use(event(str(hour), "a", 1, START + hour * HOUR))
    world.apply(grant("g", 8, START))
    assert (world.balance.uncovered, world.balance.consumed) == (D(2), D(8))


def test_a_clock_that_goes_back_changes_nothing() -> None:
    """Time has had its effect up to the latest instant seen; revisions do not fall."""
    world = world_at(START + 2 * DAY, *simple(grant("g", 10, START + DAY), grant("h", 5, START, START + DAY)))
    world.now = START + HOUR
    world.use(event("1", "a", 3, START + HOUR))
    assert (world.balance.settled, world.balance.pending, world.balance.expired) == (D(10), D(0), D(2))


def test_a_feature_that_no_grant_pays_for_is_shut_before_its_first_use() -> None:
    """Only restricted credit is left: what else the plan has may not be used."""
    world = world_at(START, *simple(grant("g", 10, features=["a"])))
    assert world.balance.access == "allowed"
    assert world.balance.blocked_features == ("b",)
    world.apply(grant("h", 1))
    assert not world.balance.blocked_features


def test_restricted_credit_is_burned_in_the_order_of_usage_within_a_batch() -> None:
    """First b from the credit for all, then a from it and from its own: nothing is uncovered."""
    grants = (grant("u", 5, priority=1), grant("r", 5, features=["a"], priority=2))
    world = world_at(START + HOUR, *simple(*grants, mode=INVOICE))
    world.use(event("0", "a", 0, START))
    world.use(event("1", "b", 5, START), event("2", "a", 5, START))
    assert world.paid() == {"u": 5, "r": 5}


def test_an_expired_grant_pays_no_minimum_of_a_period_that_closes_later() -> None:
    """The minimum is owed at the end of the period."""
    pricing = Pricing(Unit(amount=D(1), minimum_amount=D(20)), "USD")
    records = [*metered("a"), plan(card("a", pricing)), customer(), subscription(INVOICE)]
    world = world_at(START, *records, grant("g", 100, START, START + 10 * DAY))
    world.beat(START + DAY)
    world.use(event("1", "a", 5, START + DAY))
    world.beat(APRIL + 5 * DAY)
    assert (world.balance.charged, world.balance.consumed, world.balance.expired) == (D(20), D(5), D(95))
    (last,) = [row for row in world.charges.values() if row.commitment and row.period_start == START]
    assert (last.window_start, last.amount, last.closed) == (APRIL - HOUR, D(15), True)


# -- time alone ---------------------------------------------------------------------------------


def test_fees_are_booked_when_they_come_due() -> None:
    """In advance when the period starts, in arrears when it ends, usage of the same feature or not; month by month."""
    cards = [
        card("a", flat("10"), "advance"),
        card("b", flat("3", PaymentTerm.IN_ARREARS), "arrears"),
        card(None, flat("2", PaymentTerm.IN_ARREARS), "fee"),
    ]
    records = [*metered("a"), *metered("b"), plan(*cards), customer(), subscription()]
    world = world_at(START, *records, grant("g", 100))
    assert world.balance.charged == 10
    world.beat(START + DAY)
    world.use(event("1", "b", 5, START + DAY), event("2", "a", 5, START + DAY))
    assert world.balance.charged == 10
    world.beat(APRIL)
    assert world.balance.charged == 25
    world.beat(MAY + 10 * DAY)
    assert world.balance.charged == 40
    assert [of_card(world, key) for key in ("advance", "arrears", "fee")] == [30, 6, 4]


def test_a_first_tier_s_flat_part_is_charged_without_usage() -> None:
    """When the period opens; and the maximum and free units hold."""
    tiers = Graduated((Tier(D(5), D(1), D(7)), Tier(None, D(2))), maximum_amount=D(15))
    pricing = Pricing(tiers, "USD", None, Discounts(usage=D(2)))
    world = world_at(START, *metered("a"), plan(card("a", pricing)), customer(), subscription(), grant("g", 100))
    assert world.balance.charged == 7
    for number, expected in enumerate((7, 9, 11, 14, 15, 15)):
        world.use(event(str(number), "a", 2, START))
        assert world.balance.charged == expected
    world.beat(APRIL)
    assert world.balance.charged == 22


@pytest.mark.parametrize(("prorate", "charged"), [(True, D(62)), (False, D(62))])
def test_a_subscription_that_ends_within_a_period_ends_it(prorate: bool, charged: Decimal) -> None:
    """Half a month of a fee is half of it where the plan prorates; events after the end are parked."""
    end = START + DAY * 31 / 2
    records = [*metered("a"), plan(card(None, flat("62")), card("a"), prorate=prorate), customer(), subscription()]
    world = world_at(START, *records, grant("g", 100))
    assert world.balance.charged == charged
    world.beat(START + 10 * DAY)
    world.apply(subscription(end=end))
    assert world.balance.charged == (31 if prorate else 62)
    assert {row.period_end for row in world.charges.values()} == {end}
    world.beat(end + HOUR)
    world.use(event("1", "a", 1, end), event("2", "a", 1, end - HOUR))
    assert world.ended == {("parked", "no_subscription"): 1, ("rated", ""): 1}
    world.beat(MAY)
    assert world.balance.charged == (32 if prorate else 63)


def test_an_end_that_is_taken_back_opens_the_period_again() -> None:
    """Cancelled for next week, then not: usage after is rated in the same period, and the fee is whole again."""
    records = [*metered("a"), plan(card(None, flat("62")), card("a"), prorate=True), customer(), subscription()]
    world = world_at(START, *records, grant("g", 100))
    world.apply(subscription(end=START + DAY * 31 / 2))
    world.apply(subscription())
    world.beat(START + 20 * DAY)
    world.use(event("1", "a", 1, START + 20 * DAY))
    assert world.balance.charged == 63
    assert {row.period_end for row in world.charges.values()} == {APRIL}


def test_a_change_of_plan_holds_by_the_time_of_use() -> None:
    """Usage before the change is rated under the old plan though it comes after, and the other way about."""
    change = START + 10 * DAY
    records = [
        *metered("a"),
        plan(card("a", unit("1"))),
        plan(card("a", unit("100")), key="new"),
        customer(),
        subscription(),
    ]
    world = world_at(START, *records, grant("g", 100000))
    world.beat(change - HOUR)
    world.use(event("1", "a", 1, change - HOUR))
    world.apply(subscription(end=change), subscription(start=change, name="s2", plan_key="new", anchor=START))
    world.beat(change + HOUR)
    world.use(event("2", "a", 1, change + HOUR), event("3", "a", 1, change - 2 * HOUR), event("4", "a", 1, change))
    assert {row.subscription_id: row.period_start for row in world.charges.values()} == {"s1": START, "s2": change}
    assert world.balance.charged == 202


def test_of_subscriptions_that_overlap_the_one_that_started_last_is_in_force() -> None:
    """For each event by its time, whichever came before it."""
    records = [
        *metered("a"),
        plan(card("a", unit("1"))),
        plan(card("a", unit("100")), key="new"),
        customer(),
        subscription(),
        subscription(start=START + 2 * DAY, end=START + 3 * DAY, name="s2", plan_key="new"),
    ]
    world = world_at(START + 5 * DAY, *records, grant("g", 100000), grace=9 * DAY)
    for number, day in enumerate((1, 2, 4, 2.5, 1.5, 2)):
        world.use(event(str(number), "a", 1, START + day * DAY))
    assert world.balance.charged == 303


def test_phases_follow_each_other() -> None:
    """A trial of ten days, then the price; a period ends with its phase."""
    phases = (Phase("trial", (card("a", unit("0")),), "P10D"), Phase("paid", (card("a"), card(None, flat("5")))))
    world = world_at(START, *metered("a"), plan(phases=phases), customer(), subscription(), grant("g", 100))
    world.beat(START + 9 * DAY)
    world.use(event("1", "a", 3, START + 9 * DAY))
    assert world.balance.charged == 0
    world.beat(START + 10 * DAY)
    assert world.balance.charged == 5
    world.use(event("2", "a", 3, START + 10 * DAY), event("3", "a", 9, START + 10 * DAY - HOUR))
    assert world.balance.charged == 8
    world.beat(APRIL)
    assert world.balance.charged == 13


def test_a_phase_without_rate_cards_gives_way_to_the_next() -> None:
    """A plan may begin with time in which nothing is sold."""
    phases = (Phase("wait", (), "P10D"), Phase("paid", (card("a"), card(None, flat("5")))))
    world = world_at(START, *metered("a"), plan(phases=phases), customer(), subscription(), grant("g", 100))
    world.beat(START + 9 * DAY)
    assert world.balance.charged == 0
    world.beat(START + 10 * DAY)
    assert world.balance.charged == 5
    world.beat(MAY)
    assert world.balance.charged == 15


@pytest.mark.parametrize("prorate", [False, True])
def test_a_fee_that_is_due_once_is_charged_once(prorate: bool) -> None:
    """As its phase begins or ends, or as the subscription does; it is never prorated."""
    setup = replace(card(None, flat("20"), "setup"), once=True)
    leaving = replace(card(None, flat("7", PaymentTerm.IN_ARREARS), "leaving"), once=True)
    later = replace(card(None, flat("3"), "later"), once=True)
    phases = (
        Phase("first", (setup, leaving, card("a")), "P45D"),
        Phase("second", (later, replace(leaving, key="end"), card(None, flat("1")), card("a"))),
    )
    records = [*metered("a"), plan(phases=phases, prorate=prorate), customer(), subscription(anchor=START - 5 * DAY)]
    world = world_at(START, *records, grant("g", 100))
    assert world.balance.charged == 20
    world.beat(START + 40 * DAY)
    assert world.balance.charged == 20
    world.beat(START + 45 * DAY)
    assert [of_card(world, key) for key in ("setup", "leaving", "later", "end")] == [20, 7, 3, 0]
    world.apply(subscription(anchor=START - 5 * DAY, end=START + 200 * DAY))
    world.beat(START + 199 * DAY)
    assert [of_card(world, key) for key in ("setup", "leaving", "later", "end")] == [20, 7, 3, 0]
    world.beat(START + 201 * DAY)
    assert [of_card(world, key) for key in ("setup", "leaving", "later", "end")] == [20, 7, 3, 7]


def test_the_revision_does_not_depend_on_whether_time_or_usage_came_first() -> None:
    """A new period is opened by a beat, or by an event of it that is read before the beat."""
    pricing = Pricing(Graduated((Tier(None, D(1), D(7)),)), "USD")
    records = [
        *metered("a"),
        plan(card("a", pricing), card(None, flat("2", PaymentTerm.IN_ARREARS)), card("b", flat("1"), cadence="P1D")),
        customer(),
        subscription(),
        grant("g", 1000),
    ]
    found = []
    for beats in ([APRIL, APRIL + HOUR], [APRIL + HOUR], [START + k * DAY for k in range(1, 32)]):
        world = world_at(START, *records)
        for beat in beats:
            world.beat(beat)
        world.now = APRIL + HOUR
        if len(beats) == 2:
            world.restart()
        world.use(event("1", "a", 1, APRIL))
        world.beat(APRIL + 3 * HOUR)
        found.append(world.balance)
    jumped = world_at(START, *records)
    jumped.now = APRIL + HOUR
    jumped.fold(event("1", "a", 1, APRIL))
    jumped.beat(APRIL + 3 * HOUR)
    found.append(jumped.balance)
    assert {row.revision for row in found} == {found[0].revision}
    assert {row.charged for row in found} == {found[0].charged}


def test_a_subscription_that_starts_later_is_told_when_it_starts() -> None:
    """Access then follows its settlement mode, with a revision of its own."""
    later = replace(subscription(start=START + DAY, end=START + 2 * DAY), recorded_at=START)
    world = world_at(START, *metered("a"), plan(card("a")), customer(), later)
    assert world.balance.access == "allowed"
    world.beat(START + DAY)
    assert world.balance.access == "blocked"
    world.beat(START + 2 * DAY)
    assert world.balance.access == "allowed"


# -- closing ------------------------------------------------------------------------------------


def test_usage_is_too_late_by_when_it_was_received() -> None:
    """Received within the grace but read after it: rated, the minimum less. Received after it: parked."""
    pricing = Pricing(Unit(amount=D(1), minimum_amount=D(20)), "USD")
    world = world_at(START, *metered("a"), plan(card("a", pricing)), customer(), subscription(), grant("g", 100))
    world.beat(APRIL + DAY + HOUR)
    assert world.balance.charged == 20
    world.use(event("1", "a", 5, START), received=APRIL + DAY - HOUR)
    world.use(event("2", "a", 5, START), received=APRIL + DAY)
    assert world.balance.charged == 20
    assert world.ended == {("rated", ""): 1, ("parked", "period_closed"): 1}
    world.use(event("3", "a", 25, START), received=APRIL + DAY - HOUR)
    assert world.balance.charged == 30


def test_a_period_that_opens_after_its_grace_closes_at_once() -> None:
    """Its minimum is owed as soon as it is seen."""
    pricing = Pricing(Unit(amount=D(1), minimum_amount=D(20)), "USD")
    world = world_at(APRIL + 3 * DAY, *metered("a"), plan(card("a", pricing)), customer(), subscription())
    world.fold(event("1", "a", 5, START), received=START + HOUR)
    world.beat()
    march = [row for row in world.charges.values() if row.period_start == START]
    assert sum(row.amount for row in march) == 20
    assert all(row.closed for row in march)


def test_a_log_that_is_read_again_much_later_leaves_the_same_ledger() -> None:
    """After the state was lost: periods closed long ago are rated again as they were."""
    records = [*simple(grant("g", 30, START, START + 40 * DAY), grant("h", 30, APRIL)), *metered("x")]
    stream = [(START + day * DAY, event(str(day), "a", 1, START + day * DAY)) for day in range(0, 70, 2)]
    first = world_at(START, *records)
    for now, found in stream:
        first.beat(now)
        first.use(found)
    first.beat(START + 100 * DAY)
    again = world_at(START + 100 * DAY, *records)
    for now, found in stream:
        again.use(found, received=now)
    assert again.ended == first.ended == {("rated", ""): 35}
    assert again.balance[:-1] == first.balance[:-1]
    assert again.paid() == first.paid()


def ids_known(world: World) -> int:
    """How many event ids the key group holds."""
    return len(world.group.seen)


def test_the_state_does_not_grow_with_the_months() -> None:
    """Closed periods leave, and their prices, timers and routes with them."""
    records = [*metered("a"), plan(card("a"), card(None, flat("1"))), customer(), subscription(INVOICE)]
    world = world_at(START, *records)
    sizes = []
    for month in range(24):
        for day in (1, 15, 27):
            now = START + (30 * month + day) * DAY
            world.beat(now)
            world.use(event(f"{month}-{day}", "a", 1, now))
        sizes.append(len(world.group.snapshot()) - 60 * ids_known(world))
        (account,) = world.group.accounts.values()
        assert len(account.state.periods) == len(account.periods) <= 6
        assert len(world.group.calendar._pricings) <= 6
        assert len(world.group.calendar._due) <= 6
    assert max(sizes[6:]) <= max(sizes[:6]) + 200
    assert len({row.period_start for row in world.charges.values()}) == 24


# -- the catalog moves --------------------------------------------------------------------------


class Following(World):
    """A world whose group lets the catalog catch up by itself when it cannot place an event."""

    coming: list[Record]

    def _open(self, snapshot: bytes | None) -> KeyGroup:
        return KeyGroup(self.number, self.catalog, self.rules, snapshot, refresh=self._refresh)

    def _refresh(self) -> bool:
        coming, self.coming = getattr(self, "coming", []), []
        self.record(*coming)
        return bool(coming)


def test_an_event_is_placed_by_a_catalog_that_grew_under_it() -> None:
    """A meter that came to be after the batch was decoded reads the field that it looks at."""
    world = Following(*metered("a"), plan(card("a"), card("late")), customer(), subscription(), grant("g", 100))
    world.coming = [
        MeterSet(Meter("late", "late", Aggregation.SUM, "$.amount", {"kind": "$.kind"})),
        FeatureSet(Feature("late", meter_key="late", filters={"kind": ("x",)})),
    ]
    late = [event(f"l{n}", "late", 1, START) | {"data": {"amount": 4, "kind": "x"}} for n in range(2)]
    world.use(event("1", "a", 1, START), *late, event("2", "a", 1, START))
    assert world.ended == {("rated", ""): 4}
    assert world.balance.charged == 10


def test_a_customer_that_the_fold_met_first_is_told_when_it_is_taken_over() -> None:
    """Its event was parked, so nothing was dirty: the take-over tells its balance all the same."""
    world = Following(*metered("a"), *metered("b"), plan(card("a")))
    world.coming = [customer(), subscription(), grant("g", 5)]
    world.fold(event("1", "b", 1, START))
    assert world.ended == {("parked", "no_feature"): 1}
    world._do(lambda out: world.group.reconcile([ID], START, out))
    assert world.balance.settled == 5


def test_routes_are_found_anew_though_the_account_read_the_catalog_before() -> None:
    """A timer read the new subscription before the group took it over."""
    change = START + DAY
    world = world_at(
        START,
        *metered("a"),
        plan(card("a")),
        plan(card("a", unit("100")), key="new"),
        customer(),
        subscription(),
        grant("g", 500, change),
    )
    world.use(event("1", "a", 1, START))
    concerned = world.record(subscription(end=change), subscription(start=change, name="s2", plan_key="new"))
    world.beat(change + HOUR)
    world._do(lambda out: world.group.reconcile(sorted(concerned), world.now, out))
    world.use(event("2", "a", 1, change))
    assert world.balance.charged == 101


def test_a_subject_that_moved_is_the_new_customer_s() -> None:
    """Even where the new owner's record is all that changed."""
    other = next(name for name in (f"other-{n}" for n in range(10000)) if key_group(name) == NUMBER)
    world = world_at(
        START,
        *metered("a"),
        plan(card("a")),
        customer(("device",)),
        subscription(),
        customer(customer_id=other, key="o"),
        subscription(name="s9", customer_id=other),
    )
    world.use(event("1", "a", 1, START, "device"))
    world.apply(customer(("device",), customer_id=other, key="o"))
    world.use(event("2", "a", 10, START, "device"))
    assert {found: row.charged for found, row in world.balances.items()} == {ID: 1, other: 10}


def test_events_that_were_parked_are_rated_once_their_customer_exists() -> None:
    """Under the plan of their time, and each once."""
    world = world_at(START, *metered("a"), plan(card("a")))
    early = [event(str(number), "a", 1, START + number * HOUR) for number in range(3)]
    world.beat(START + DAY)
    parked = world.fold(*early).parked
    assert [(found.code, found.customer) for found in parked] == [("unknown_subject", None)] * 3
    world.apply(customer(), replace(subscription(start=START + HOUR), recorded_at=START + DAY), grant("g", 9))
    world.use(*(msgspec.json.decode(found.raw) for found in parked), is_back=True)
    world.use(*early)
    assert world.ended == {
        ("parked", "unknown_subject"): 3,
        ("parked", "no_subscription"): 1,
        ("rated", ""): 2,
        ("duplicate", ""): 3,
    }
    assert world.balance.charged == 2


# -- aggregations and duplicates ----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("aggregation", list(Aggregation))
def test_aggregates_come_to_the_same_in_any_order(aggregation: Aggregation, seed: int) -> None:
    """Late, twice, in cuts and over two periods: the period's value is that of its distinct events."""
    chance = random.Random(seed)
    package = Pricing(Package(amount=D(2), quantity_per_package=D(3)), "USD")
    records = [*metered("a", aggregation), plan(card("a", package)), customer(), subscription()]
    world = world_at(APRIL + 8 * HOUR, *records, grant("g", 50), late_windows=chance.choice([1, 2, 5]))
    stream = [
        event(f"e{number}", "a", chance.randrange(12), APRIL + chance.randrange(-480, 480) * timedelta(minutes=1))
        for number in range(30)
    ]
    values: dict[bool, list[tuple[str, str, Decimal]]] = {False: [], True: []}
    for found in stream:
        values[found["time"] >= APRIL.isoformat()].append((found["time"], found["id"], D(found["data"]["n"])))
    rest = stream + chance.sample(stream, 10)
    chance.shuffle(rest)
    while rest:
        world.fold(*(rest.pop() for _ in range(min(len(rest), chance.randrange(1, 12)))))
        if chance.random() < 0.5:
            world.beat()
        if chance.random() < 0.2:
            world.restart()
    world.beat()
    expected = {}
    for later, found_values in values.items():
        numbers = [number for _, _, number in found_values]
        if numbers:
            expected[APRIL if later else START] = {
                "SUM": sum(numbers),
                "COUNT": D(len(numbers)),
                "AVG": quotient(sum(numbers, D(0)), D(len(numbers)), AVERAGE_DIGITS),
                "MIN": min(numbers),
                "MAX": max(numbers),
                "LATEST": max(found_values)[2],
                "UNIQUE_COUNT": D(len(set(numbers))),
            }[aggregation]
    for start, value in expected.items():
        rows = [row for row in world.charges.values() if row.period_start == start]
        assert sum((row.quantity for row in rows), D(0)) == value
        assert sum((row.amount for row in rows), D(0)) == ceil(Fraction(value) / 3) * 2
        assert sum(row.events for row in rows) == len(values[start == APRIL])
    assert world.ended == {("rated", ""): 30, ("duplicate", ""): 10}
    assert world.balance.charged == sum(ceil(Fraction(value) / 3) * 2 for value in expected.values())


def test_an_id_with_other_content_is_a_duplicate_that_is_kept() -> None:
    """No effect on money, within a batch, across batches and after a restart."""
    world = world_at(START, *simple(grant("g", 100)))
    out = world.fold(event("1", "a", 1, START), event("1", "a", 2, START), event("1", "a", 1, START))
    assert [row.id for row in out.mismatches] == ["1"]
    world.beat()
    world.restart()
    out = world.use(event("1", "b", 5, START))
    assert world.balance.charged == 1
    assert world.ended == {("rated", ""): 1, ("duplicate", ""): 3}


def test_ids_are_forgotten_only_beyond_the_horizon_and_segments_come_back() -> None:
    """Sealed segments are loaded again on a restart; an old one goes once both clocks are past it."""
    world = world_at(START, *simple(grant("g", 10**9)), dedup_horizon=DAY)
    batches = [[event(f"{day}-{n}", "a", 1, START + day * DAY) for n in range(SEGMENT_IDS)] for day in range(4)]
    for day, batch in enumerate(batches):
        world.beat(START + day * DAY)
        world.use(*batch)
        world.restart()
        world.use(*batch[:10])
    assert world.ended == {("rated", ""): 4 * SEGMENT_IDS, ("duplicate", ""): 40}
    assert ids_known(world) == 2 * SEGMENT_IDS
    assert [segment.number for segment in world.group.seen.snapshot().segments] == [3, 4]
    world.use(*batches[2])
    assert world.ended["duplicate", ""] == 40 + SEGMENT_IDS


def test_what_an_event_lacks_for_one_meter_is_refused_for_that_meter_alone() -> None:
    """Two meters read one event: what has a value is charged, and what has none is told by meter, once."""
    records: list[Record] = [
        MeterSet(Meter("sum", "call", Aggregation.SUM, "$.n")),
        MeterSet(Meter("top", "call", Aggregation.MAX, "$.m")),
        FeatureSet(Feature("a", meter_key="sum")),
        FeatureSet(Feature("b", meter_key="top")),
    ]
    world = world_at(START, *records, plan(card("a"), card("b")), customer(), subscription())
    given: list[dict[str, object]] = [
        {"n": 1, "m": 5},
        {"n": "x", "m": 50},
        {"n": 1, "m": -1},
        {"n": 1},
        {"n": [], "m": None},
    ]
    refused = []
    for number, data in enumerate(given):
        refused += world.fold(event(str(number), "call", 0, START) | {"data": data}).rejected
    world.beat()
    assert {row.feature_key: row.quantity for row in world.charges.values()} == {"a": 3, "b": 50}
    assert [(one.code, one.path, one.meter) for one in refused] == [
        ("value_not_a_number", "$.data.n", "sum"),
        ("value_negative", "$.data.m", "top"),
        ("value_missing", "$.data.m", "top"),
        ("value_not_a_number", "$.data.n", ""),
    ]
    assert world.ended == {("rated", ""): 4, ("rejected", "value_not_a_number"): 1}


def test_lines_in_one_batch_before_and_after_the_end_of_a_period_are_each_rated_in_theirs() -> None:
    """The route of a subject follows the time of each event."""
    world = world_at(APRIL + HOUR, *simple(grant("g", 100)))
    world.fold(*(event(str(n), "a", 1, APRIL + (-1) ** n * timedelta(minutes=n + 1)) for n in range(10)))
    world.beat()
    out = Outcome()
    world.group.fold(line(event("x", "a", 1, APRIL)), world.now, world.now, out)
    assert {row.period_start: row.quantity for row in world.charges.values()} == {START: 5, APRIL: 5}
