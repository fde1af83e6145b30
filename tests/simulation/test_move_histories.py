"""
Whole histories of moves: planned, withdrawn, made too late, taken back. Live, they come to what a replay comes to.

What may be asked for is decided by the control plane itself. Fees are held against a plain calculation, too.
"""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from io import BytesIO

import pytest
from msgspec.structs import replace

from rating.catalog import FeatureSet, MeterSet, PlanVersion, RateCard, Record, SettlementMode
from rating.charge import share_after_discount
from rating.meters import Aggregation, Feature, Meter
from rating.money import ZERO
from rating.prices import Discounts, Flat, Graduated, Package, PaymentTerm, Price, Pricing, Tier, Unit
from rating.time_rules import TimeRules
from tests.simulation.settling import DAY, HOUR, World, card, customer, event, grant, subscription
from tests.simulation.test_moves import APRIL, MAY, version
from tests.world import START, line
from tollway.batch import rate_file
from tollway.control import Changes, ControlError, MoveTiming

D = Decimal
VERSIONS = 4
SEEDS = 60
WEEK = timedelta(days=7)
JUNE = MAY + 31 * DAY
METERED = "abz"
"""The price of `z` is the same in all versions."""

Amounts = dict[tuple[str, datetime], Decimal]
Sent = tuple[dict[str, object], datetime]


def pricing_of(rng: random.Random, *, fee: bool) -> Pricing:
    """A fee, or a price by usage, of any sort."""
    discounts = Discounts(percentage=rng.choice([None, None, D(50), D(100)]))
    floor = rng.choice([None, None, D(20)])
    tiers = Tier(D(5), D(1), rng.choice([None, D(3)])), Tier(None, D(2), rng.choice([None, D(1)]))
    bodies: list[Price] = [
        Flat(D(rng.choice([2, 9, 31])), rng.choice(list(PaymentTerm))),
        Unit(D(rng.choice([1, 2])), minimum_amount=floor),
        Graduated(tiers),
        Unit(D(0)),
        Package(D(4), D(3)),
    ]
    return Pricing(rng.choice(bodies[:1] if fee else bodies), "USD", discounts=discounts)


def versions_of(rng: random.Random) -> list[PlanVersion]:
    """Versions of a plan that have some rate cards each, by the month and by the week."""
    prorate, found = rng.random() < 0.3, []
    for number in range(1, VERSIONS + 1):
        cards: list[RateCard] = [card("z")]
        for share, made in (
            (1 if number == 1 else 0.7, card("a", pricing_of(rng, fee=False))),
            (0.6, card("b", pricing_of(rng, fee=False), cadence="P1W")),
            (0.6, card(None, pricing_of(rng, fee=True), "f")),
            (0.5, card(None, pricing_of(rng, fee=True), "w", cadence="P1W")),
            (0.4, replace(card(None, pricing_of(rng, fee=True), "o"), once=True)),
        ):
            if rng.random() < share:
                cards.append(made)
        found.append(version(number, *cards, prorate=prorate))
    return found


class History:
    """A customer's live world, and all that it is made of."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.plans = versions_of(rng)
        mode = rng.choice(list(SettlementMode))
        self.now = START
        self.fixed: list[Record] = [customer(), *self.plans]
        for key in METERED:
            aggregation = rng.choice([Aggregation.SUM, Aggregation.MAX, Aggregation.COUNT])
            path = None if aggregation is Aggregation.COUNT else "$.n"
            self.fixed += [MeterSet(Meter(key, key, aggregation, path)), FeatureSet(Feature(key, meter_key=key))]
        self.held = subscription(mode)
        if rng.random() < 0.8:
            self.fixed.append(grant("g", rng.choice([5, 20, 100])))
        self.sent: list[Sent] = []
        self.waiting: list[Sent] = []
        self.live = self.world()

    def world(self) -> World:
        """One that knows what is known by now."""
        world = World(rules=TimeRules(window_seconds=3600, late_windows=2))
        world.apply(*self.fixed, self.held)
        return world

    def step(self) -> None:
        """Some time later something happens."""
        rng = self.rng
        hours = rng.choice([0, 1, 5, 30, 24 * 6, 24 * 11])
        self.now += timedelta(hours=hours, minutes=rng.choice([0, 30]), microseconds=rng.randrange(1, 4))
        self.live.beat(self.now)
        known = self.held
        match rng.choice(["use", "use", "move", "move", "withdraw", "cancel", "restart"]):
            case "use":
                at = max(START, self.now - rng.choice([0, 0, 3, 20]) * HOUR)
                used = event(f"e{len(self.sent)}", rng.choice("aabz"), rng.choice([1, 3, 7]), at)
                self.sent.append((used, self.now))
                self.waiting.append((used, self.now))
            case "restart":
                self.live.restart()
            case asked:
                # What is asked for at random often can't be.
                with suppress(ControlError):
                    self.change(asked)
        if self.held != known:
            self.live.apply(self.held)
        self.waiting = [one for one in self.waiting if self.waits(one)]
        self.live.beat()

    def change(self, asked: str) -> None:
        """Ask the control plane for a change, in a transaction of its own."""
        rng, now = self.rng, self.now
        changes = Changes(None, lambda: now)
        for record in (*self.fixed, self.held):
            changes.record(record)
        if asked == "withdraw":
            changes.withdraw_moves("s1")
        elif asked == "move":
            instants = [now, now - rng.choice([1, 30, 192]) * HOUR, now + rng.choice([30, 192]) * HOUR]
            changes.move_subscription("s1", rng.randint(1, VERSIONS), rng.choice([*MoveTiming, *instants]))
        elif self.held.active_to is None and rng.random() < 0.3:
            changes.cancel_subscription("s1", now + rng.choice([0, 3, 20]) * DAY)
        self.held = changes.subscription("s1")

    def waits(self, one: Sent) -> bool:
        """Whether usage, sent or driven again, waits on."""
        parked = self.parked()
        self.live.fold(one[0], received=one[1])
        return self.parked() > parked

    def parked(self) -> int:
        return sum(count for end, count in self.live.ended.items() if end[0] == "parked")

    def replayed(self) -> World:
        """A world that reads all anew, with what is known by now."""
        world = self.world()
        for used, received in self.sent:
            if received > world.now and self.rng.random() < 0.5:
                world.beat(received)
            world.now = max(world.now, received)
            world.fold(used, received=received)
        world.beat(self.now)
        return world

    def fees(self) -> Amounts:
        """What the fees have come to by now, the plain way: each goes by the version in force where it begins."""
        found: Amounts = {}
        for key, starts in (
            ("f", [START, APRIL, MAY]),
            ("w", [START + number * WEEK for number in range(9)]),
        ):
            for start in starts:
                end = start + WEEK if key == "w" else next((one for one in starts if one > start), JUNE)
                cards = self.plans[self.held.version_at(start) - 1].phases[0].rate_cards
                priced = next((one.pricing for one in cards if one.key == key), None)
                if priced is None or not isinstance(priced.price, Flat):
                    continue
                in_advance = priced.price.payment_term is PaymentTerm.IN_ADVANCE
                if start <= self.now if in_advance else end <= self.now:
                    found[key, start] = priced.price.amount * share_after_discount(priced)
        return {place: amount for place, amount in found.items() if amount}


def amounts_of(world: World) -> Amounts:
    """What each period of each rate card came to."""
    found: Amounts = {}
    for row in world.charges.values():
        place = row.card_key, row.period_start
        found[place] = found.get(place, ZERO) + row.amount
    return {place: amount for place, amount in found.items() if amount}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_history_of_moves_comes_to_what_a_replay_comes_to(seed: int) -> None:
    """After each step; and when it is all over, to what a file comes to."""
    history = History(seed)
    for _ in range(history.rng.randrange(3, 12)):
        history.step()
        live, again = history.live, history.replayed()
        assert amounts_of(live) == amounts_of(again)
        for name in ("charged", "consumed", "overage", "live", "access"):
            assert getattr(live.balance, name) == getattr(again.balance, name), name
        if not history.plans[0].prorate and history.held.active_to is None and history.now < MAY:
            fees = {place: amount for place, amount in amounts_of(live).items() if place[0] in "fw"}
            assert fees == history.fees()
    end = history.now + 45 * DAY
    history.live.beat(end)
    lines = b"\n".join(line(used) for used, _ in history.sent)
    result = rate_file([*history.fixed, history.held], BytesIO(lines), end)
    rated: Amounts = {}
    for row in result.charges.values():
        rated[row.card_key, row.period_start] = rated.get((row.card_key, row.period_start), ZERO) + row.amount
    # A file closes what is over; the stream waits for its grace.
    over = history.now + 10 * DAY
    shown = [
        {place: amount for place, amount in found.items() if amount and place[1] < over}
        for found in (rated, amounts_of(history.live))
    ]
    assert shown[0] == shown[1]
