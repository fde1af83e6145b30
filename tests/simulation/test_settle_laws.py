"""SETTLE as laws: however a stream is cut, the same grants pay the same, and the gate shuts at the same event."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from rating.catalog import Grant, Record, SettlementMode
from rating.meters import Aggregation
from rating.money import ZERO
from rating.outcome import BalanceRow, ChargeRow
from rating.prices import Pricing, Tier, Volume
from rating.time_rules import TimeRules
from tests.rating.strategies import amounts, pricings, usage_prices
from tests.repeats import repeats
from tests.simulation.settling import (
    DAY,
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
from tests.world import START

FEATURES = ("a", "b", "c")
RISING = [Aggregation.SUM, Aggregation.COUNT, Aggregation.MAX, Aggregation.UNIQUE_COUNT]
D = Decimal


@st.composite
def grants(draw: st.DrawFn) -> list[Grant]:
    """Up to four grants, some for some features only."""
    found = []
    for number in range(draw(st.integers(0, 4))):
        features = draw(st.sampled_from([(), (), ("a",), ("b",), ("a", "b"), ("c",)]))
        amount = draw(amounts) * 3 + 1
        found.append(grant(f"g{number}", amount, features=features, priority=draw(st.integers(1, 3))))
    return found


@st.composite
def worlds(
    draw: st.DrawFn, rising: bool = False, blocks: bool | None = None, mode: SettlementMode | None = None
) -> list[Record]:
    """A customer with a plan of three features and some grants."""
    records: list[Record] = []
    cards = []
    for feature in FEATURES:
        records += metered(feature, draw(st.sampled_from(RISING if rising else list(Aggregation))))
        pricing: Pricing = draw(pricings(usage_prices))
        if rising and isinstance(pricing.price, Volume):
            pricing = unit("2.5")
        cards.append(card(feature, pricing))
    limits = tuple(draw(st.lists(amounts, max_size=2)))
    if blocks is None:
        blocks = draw(st.booleans())
    return [
        *records,
        plan(*cards),
        customer(low_balance_thresholds=limits, block_when_exhausted=blocks),
        subscription(mode or draw(st.sampled_from(SettlementMode))),
        *draw(grants()),
    ]


@st.composite
def streams(draw: st.DrawFn, span: timedelta = timedelta(hours=5)) -> list[dict[str, Any]]:
    """Up to forty events in any order of time."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    return [
        event(
            f"e{number}",
            chance.choice(FEATURES),
            D(chance.randrange(60)) / chance.choice([1, 2, 10]),
            START + span * chance.random(),
        )
        for number in range(draw(st.integers(1, 40)))
    ]


def figures(balance: BalanceRow) -> BalanceRow:
    """A balance without what depends on the instant it was told."""
    return balance._replace(as_of=START)


def opened(records: list[Record], **rules: Any) -> World:
    """A world at the end of a day."""
    world = World(rules=TimeRules(**rules))
    world.now = START + DAY
    world.apply(*records)
    return world


def opened_twice(records: list[Record]) -> tuple[World, World]:
    """The same world with lanes and without."""
    with_lanes, without = (opened(records, late_windows=10, with_lanes=lanes) for lanes in (True, False))
    return with_lanes, without


def check_alike(with_lanes: World, without: World, one_by_one: bool = False) -> None:
    """
    With lanes and without, every row says the same.

    In a batch, lanes change which event has an account settled. That is another cut: it decides at which revision a row
    was last emitted, and, where a period became cheaper, which of its windows shows a payment; no more than that.
    """
    assert figures(with_lanes.balance) == figures(without.balance)
    assert with_lanes.ended == without.ended
    assert with_lanes.paid() == without.paid()
    assert with_lanes.by_feature() == without.by_feature()
    assert {key: usage_of(row) for key, row in with_lanes.charges.items()} == {
        key: usage_of(row) for key, row in without.charges.items()
    }
    if one_by_one:
        assert with_lanes.charges == without.charges


def usage_of(row: ChargeRow) -> tuple[Any, ...]:
    """What was used in a window, and what it costs."""
    return row.quantity, row.late_quantity, row.events, row.amount, row.commitment, row.closed


@settings(max_examples=repeats(300), deadline=None)
@given(records=worlds(), stream=streams(), seed=st.integers(0, 2**32))
def test_however_the_stream_is_cut_the_same_grants_pay_the_same(
    records: list[Record], stream: list[dict[str, Any]], seed: int
) -> None:
    """One event at a time, or in batches with beats and restarts at random: the same balance, paid alike."""
    singles, cuts = opened_twice(records), opened_twice(records)
    for single, cut in zip(singles, cuts, strict=True):
        for found in stream:
            single.use(found)
        chance = random.Random(seed)
        at = 0
        while at < len(stream):
            size = chance.randrange(1, 20)
            cut.fold(*stream[at : at + size])
            at += size
            if chance.random() < 0.3:
                cut.beat()
            if chance.random() < 0.2:
                cut.restart()
        cut.beat()
        assert figures(cut.balance) == figures(single.balance)
        assert cut.paid() == single.paid()
        assert cut.by_feature() == single.by_feature()
    check_alike(*singles, one_by_one=True)
    check_alike(*cuts)


def test_what_moves_between_the_windows_of_a_meter_stays_with_the_meter() -> None:
    """A price that falls moves an amount from a later window to an earlier one: no other meter's usage gets it."""
    falling = Volume(tiers=(Tier(D(1), flat_price=D(1)), Tier(D(3), unit_price=D(0)), Tier(None, flat_price=D("0.1"))))
    cards = (card("a"), card("b", Pricing(falling, "USD")))
    records = [*metered("a"), *metered("b"), plan(*cards), customer(), subscription(), grant("g", 1)]
    hour = timedelta(hours=1)
    stream = [
        event("e0", "a", 36, START + hour),
        event("e1", "b", 24, START + 2 * hour),
        event("e2", "b", 50, START),
        event("e3", "a", 28, START + 2 * hour),
    ]
    single, batch = opened(records, late_windows=10), opened(records, late_windows=10)
    for found in stream:
        single.use(found)
    batch.fold(*stream)
    batch.beat()
    assert batch.by_feature() == single.by_feature() == {"a": (D(64), D(64), D("63.1")), "b": (D(74), D("0.1"), D(0))}


@settings(max_examples=repeats(300), deadline=None)
@given(
    records=worlds(rising=True, mode=SettlementMode.CREDIT_THEN_INVOICE),
    topups=st.lists(grants(), max_size=3),
    stream=streams(),
    seed=st.integers(0, 2**32),
)
def test_no_window_is_paid_for_below_zero(
    records: list[Record], topups: list[list[Grant]], stream: list[dict[str, Any]], seed: int
) -> None:
    """
    Where more usage never costs less, a window gives back no more than was paid for it.

    But for the last digit of a third of a unit, which moves with the total before it.
    """
    worlds_alike = opened_twice(records)
    for world in worlds_alike:
        chance = random.Random(seed)
        at = 0
        for number, topup in enumerate(topups):
            size = chance.randrange(1, 20)
            world.use(*stream[at : at + size])
            at += size
            for found in topup:
                start = START + chance.randrange(6) * HOUR
                end = start + chance.randrange(1, 6) * HOUR if chance.random() < 0.4 else None
                world.apply(replace(found, id=f"{found.id}-{number}", effective_at=start, expires_at=end))
        world.use(*stream[at:])
        assert all(min(row.paid.values(), default=ZERO) > D("-1e-25") for row in world.charges.values())
    check_alike(*worlds_alike)


@settings(max_examples=repeats(300), deadline=None)
@given(records=worlds(blocks=True) | worlds(rising=True), stream=streams())
def test_access_changes_at_the_same_event_in_a_batch_as_one_by_one(
    records: list[Record], stream: list[dict[str, Any]]
) -> None:
    """
    Each state of the gate is told first with the same revision: the event that led to it was the last folded.

    Where access does not hang on it, a balance that recovers since a period became cheaper is told on the beat.
    """
    # What comes back from the ledger, since it left the state before it was corrected, counts in the revision.
    singles, cuts = opened_twice(records), opened_twice(records)
    for single, cut in zip(singles, cuts, strict=True):
        for found in stream:
            single.use(found)
        cut.fold(*stream)
        cut.beat()
        assert states(cut) == states(single)
    check_alike(*singles, one_by_one=True)
    check_alike(*cuts)


def states(world: World) -> list[tuple[Any, ...]]:
    """Access, level and blocked features, whenever they changed, with the revision that they came with."""
    found: list[tuple[Any, ...]] = []
    for out in world.outs:
        for row in out.balances:
            if row.customer_id != ID:
                continue
            state = (row.access, row.level, row.blocked_features)
            if not found or found[-1][1:] != state:
                found.append((row.revision, *state))
    return found
