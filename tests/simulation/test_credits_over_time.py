"""Grants that take effect, expire and are voided while usage comes in time or late, against a plain loop."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from rating.catalog import Grant, SettlementMode
from rating.meters import Aggregation
from rating.time_rules import TimeRules
from tests.repeats import repeats
from tests.simulation.settling import DAY, HOUR, World, card, customer, event, grant, metered, plan, subscription, unit
from tests.world import START

D = Decimal
PRICES = {"a": D("1"), "b": D("0.5")}
APRIL = START + 31 * DAY
BEGIN = START + 30 * DAY
GRACE = 12 * HOUR


class Loop:
    """The oracle: one event, and one instant, at a time."""

    def __init__(self, mode: SettlementMode) -> None:
        self.repays = mode is SettlementMode.CREDIT_ONLY
        self.grants: dict[str, Grant] = {}
        self.paid: dict[str, Decimal] = {}
        self.paid_for: dict[tuple[str, str], Decimal] = {}
        self.owed: dict[tuple[str, bool], list[list[Any]]] = {}
        self.charged = self.parked = D(0)
        self.now = BEGIN

    def order(self) -> list[Grant]:
        return sorted(
            self.grants.values(),
            key=lambda g: (
                g.priority,
                not g.features,
                g.expires_at or datetime.max.replace(tzinfo=START.tzinfo),
                g.created_at,
                g.effective_at,
                g.id,
            ),
        )

    def left(self, found: Grant) -> Decimal:
        return found.amount - self.paid.get(found.id, D(0))

    def pay(self, found: Grant, feature: str, amount: Decimal) -> Decimal:
        taken = min(amount, self.left(found))
        self.paid[found.id] = self.paid.get(found.id, D(0)) + taken
        self.paid_for[found.id, feature] = self.paid_for.get((found.id, feature), D(0)) + taken
        return taken

    def use(self, feature: str, at: datetime, quantity: Decimal) -> None:
        if self.now >= APRIL + GRACE and at < APRIL:
            self.parked += 1
            return
        amount = PRICES[feature] * quantity
        self.charged += amount
        for found in self.order():
            if found.effective_at <= at < end(found) and (not found.features or feature in found.features):
                amount -= self.pay(found, feature, amount)
        self.owed.setdefault((feature, at < APRIL), []).append([at, amount])
        self.repay()

    def repay(self) -> None:
        """Active at some instant since the usage: in the order in which each could first have paid."""
        able = []
        for place, found in enumerate(self.order() if self.repays else []):
            for number, ((feature, _), owed) in enumerate(self.owed.items()):
                if not found.features or feature in found.features:
                    for entry in owed:
                        if found.effective_at <= self.now and max(entry[0], found.effective_at) < end(found):
                            first = max(entry[0], found.effective_at)
                            able.append((first, place, number, entry[0], feature, found, entry))
        for *_, feature, found, entry in sorted(able, key=lambda one: one[:4]):
            entry[1] -= self.pay(found, feature, entry[1])

    def advance(self, now: datetime) -> None:
        stops = {stop for g in self.grants.values() for stop in (g.effective_at, end(g)) if self.now < stop < now}
        for stop in [*sorted(stops), now]:
            self.now = stop
            self.repay()

    def uncovered(self) -> Decimal:
        return sum((amount for owed in self.owed.values() for _, amount in owed), D(0))


def end(found: Grant) -> datetime:
    """When a grant ceases to pay."""
    return min(
        found.expires_at or datetime.max.replace(tzinfo=START.tzinfo),
        found.voided_at or found.expires_at or datetime.max.replace(tzinfo=START.tzinfo),
    )


@settings(max_examples=repeats(300), deadline=None)
@given(seed=st.integers(0, 2**32), mode=st.sampled_from(SettlementMode), ahead=st.booleans())
def test_each_grant_pays_what_a_plain_loop_lets_it_pay(seed: int, mode: SettlementMode, ahead: bool) -> None:
    """By time of use: late usage finds the grants of its own time, whatever window shows it."""
    chance = random.Random(seed)
    world = World(rules=TimeRules(grace=GRACE, late_windows=chance.choice([1, 2, 5]), keep_closed=HOUR))
    world.now = BEGIN
    cards = [card(feature, unit(str(price))) for feature, price in PRICES.items()]
    records = [*metered("a"), *metered("b"), plan(*cards), customer(), subscription(mode)]
    coming = [
        grant(
            f"g{number}",
            chance.randrange(1, 60),
            BEGIN + chance.random() * 2 * DAY,
            chance.choice([None, BEGIN + DAY + chance.random() * 2 * DAY]),
            chance.choice([(), (), ("a",), ("b",)]),
            chance.randrange(1, 3),
        )
        for number in range(chance.randrange(6))
    ]
    coming = [found for found in coming if found.expires_at is None or found.effective_at < found.expires_at]
    loop = Loop(mode)
    world.apply(*records)
    for number in range(40):
        now = world.now + chance.random() * 3 * HOUR
        for found in sorted(coming, key=lambda g: g.effective_at):
            if ahead or found.effective_at <= now:
                coming.remove(found)
                at = max(world.now, min(found.effective_at, now))
                world.beat(at)
                loop.advance(at)
                found = replace(found, created_at=min(found.created_at, at))
                loop.grants[found.id] = found
                world.apply(found)
                loop.repay()
        world.beat(now)
        loop.advance(now)
        if loop.grants and chance.random() < 0.05:
            found = chance.choice(list(loop.grants.values()))
            if found.voided_at is None and end(found) > now:
                loop.grants[found.id] = replace(found, voided_at=now)
                world.apply(loop.grants[found.id])
        if chance.random() < 0.05:
            world.restart()
        if chance.random() < 0.8:
            feature, quantity = chance.choice("ab"), D(chance.randrange(20))
            at = max(BEGIN, now - chance.choice([timedelta(), timedelta(), 10 * HOUR]) * chance.random())
            world.use(event(f"e{number}", feature, quantity, at))
            loop.use(feature, at, quantity)
        balance = world.balance
        assert world.ended.get(("parked", "period_closed"), 0) == loop.parked
        assert balance.charged == loop.charged
        assert balance.uncovered == loop.uncovered()
        assert balance.overage == (loop.uncovered() if loop.repays else 0)
        assert world.paid() == {name: paid for name, paid in loop.paid.items() if paid}
        found_for: dict[tuple[str, str], Decimal] = {}
        for row in world.charges.values():
            for name, amount in row.paid.items():
                assert row.feature_key is not None
                found_for[name, row.feature_key] = found_for.get((name, row.feature_key), D(0)) + amount
        assert {k: v for k, v in found_for.items() if v} == {k: v for k, v in loop.paid_for.items() if v}
        live = [g for g in loop.grants.values() if g.effective_at <= now < end(g)]
        assert balance.settled == sum(loop.left(g) for g in live)
        assert balance.pending == sum(
            loop.left(g) for g in loop.grants.values() if now < g.effective_at and now < end(g)
        )


def test_of_two_grants_alike_the_one_created_first_burns_first() -> None:
    """Also where the second was backdated to before the first."""
    first = grant("first", 10, BEGIN)
    second = replace(grant("second", 10, BEGIN - HOUR), created_at=BEGIN + HOUR)
    world = World(*metered("a"), plan(card("a")), customer(), subscription(), first, second)
    world.now = BEGIN + 2 * HOUR
    world.beat()
    world.use(event("1", "a", 4, world.now))
    assert world.paid() == {"first": D(4)}


@pytest.mark.parametrize("restarts", [False, True])
def test_a_grant_that_came_and_went_while_nobody_looked_repays_all_the_same(restarts: bool) -> None:
    """The engine was down, or late: overage is what it would be had it been up."""
    short = grant("short", 10, BEGIN + DAY, BEGIN + 2 * DAY)
    world = World()
    world.now = BEGIN
    world.apply(*metered("a"), plan(card("a")), customer(), subscription(start=BEGIN), short)
    world.beat(BEGIN + HOUR)
    world.use(event("1", "a", 4, world.now))
    assert world.balance.overage == 4
    world.now = BEGIN + 3 * DAY
    if restarts:
        world.restart()
    else:
        world.late_beat()
    assert (world.balance.overage, world.balance.consumed, world.balance.expired) == (D(0), D(4), D(6))


def test_a_grant_repays_no_more_than_a_period_owes_in_all() -> None:
    """A later window made the period cheaper: what is left of it is repaid, and nothing below zero is told."""
    records = [*metered("a", Aggregation.LATEST), plan(card("a")), customer(), subscription(start=BEGIN)]
    world = World(rules=TimeRules(late_windows=5))
    world.now = BEGIN
    world.apply(*records)
    world.beat(BEGIN + HOUR)
    world.use(event("1", "a", D("2.25"), world.now))
    world.beat(BEGIN + 2 * HOUR)
    world.use(event("2", "a", 2, world.now))
    world.apply(grant("late", 10, world.now))
    world.beat(BEGIN + 3 * HOUR)
    assert (world.balance.consumed, world.balance.uncovered, world.balance.overage) == (D(2), D(0), D(0))


@pytest.mark.parametrize("mode", SettlementMode)
@pytest.mark.parametrize("what", ["granted", "granted for later", "voided"])
def test_what_is_granted_or_voided_while_usage_waits_for_its_time_leaves_it_as_it_was_charged(
    mode: SettlementMode, what: str
) -> None:
    """Usage ahead of its arrival is paid for by what was known then: live, after a standstill, and in a rebuild."""
    setup = [*metered("a"), plan(card("a")), customer(), subscription(mode, BEGIN)]
    made = BEGIN + timedelta(minutes=2)
    if what == "voided":
        first = grant("g", 100, BEGIN)
        setup.append(first)
        change = replace(first, voided_at=made)
    else:
        starts = made + timedelta(minutes=1) if what == "granted for later" else made
        change = replace(grant("g", 100, starts), created_at=made)
    arrives = BEGIN + timedelta(minutes=1)
    used = event("1", "a", 5, arrives + timedelta(minutes=4))
    end = BEGIN + HOUR
    live = World()
    live.now = BEGIN
    live.apply(*setup)
    live.beat(arrives)
    live.use(used)
    live.beat(made)
    live.apply(change)
    live.beat(end)
    found = []
    for late in (made + timedelta(seconds=30), end):
        # The catalog is at its head before the log is read, whose clock goes by what was received.
        again = World()
        again.record(*setup, change)
        again.now = late
        again._do(lambda out, world=again: world.group.resume(BEGIN, out))
        again.fold(used, received=arrives)
        again.beat(late)
        again.beat(end)
        found.append(again)
    for again in found:
        assert again.paid() == live.paid()
        assert again.by_feature() == live.by_feature()
        assert again.balance[:-2] == live.balance[:-2]
    is_paid = what == "voided" or mode is SettlementMode.CREDIT_ONLY
    assert (live.balance.consumed, live.balance.uncovered) == ((D(5), D(0)) if is_paid else (D(0), D(5)))
    assert live.balance.voided == (D(95) if what == "voided" else D(0))
