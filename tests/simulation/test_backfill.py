"""A backfill opens many windows at once: settling them is linear in their number, and comes to the same."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.account import Account, AccountState
from rating.catalog import SettlementMode
from rating.money import ZERO, use_exact
from rating.payments import shift_between_slices, shift_payment
from rating.prices import Pricing, Tier, Volume
from rating.usage import Slice, UsagePeriod, slice_at
from tests.simulation.settling import HOUR, World, card, customer, event, grant, metered, plan, subscription
from tests.world import START

HOURS = 4000


@st.composite
def _changed(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """Slices: where they start, what they cost, what they were charged, and how much of that nobody paid."""
    found = []
    for _ in range(draw(st.integers(0, 12))):
        charged = draw(st.integers(0, 9))
        found.append((draw(st.integers(0, 20)), draw(st.integers(-3, 9)), charged, draw(st.integers(0, charged))))
    return found


def _slices(shapes: list[tuple[int, int, int, int]]) -> list[Slice]:
    return [
        Slice(
            START + start * HOUR,
            START + (start + 1) * HOUR,
            START,
            amount=Decimal(amount),
            settled=Decimal(charged),
            paid={"g": Decimal(charged - uncovered)} if charged > uncovered else {},
            uncovered=Decimal(uncovered),
        )
        for start, amount, charged, uncovered in shapes
    ]


def _each_with_each(account: Account, changed: list[Slice]) -> None:
    """The definition: whatever costs more is paid by the first that costs less, within the same span."""
    for target in changed:
        for source in changed:
            amount = min(target.amount - target.settled, source.settled - source.amount)
            if amount > 0 and account.wallet.span_of(source.start) == account.wallet.span_of(target.start):
                source.settled -= amount
                target.settled += amount
                shift_payment(source, target, amount)


@given(_changed(), st.lists(st.integers(0, 20), max_size=3))
def test_moving_what_was_paid_is_the_same_as_comparing_each_slice_with_each(
    shapes: list[tuple[int, int, int, int]], cuts: list[int]
) -> None:
    use_exact()
    account = Account(AccountState("customer"))
    account.wallet.boundaries = sorted(START + cut * HOUR for cut in cuts)
    found, expected = _slices(shapes), _slices(shapes)
    for parts in (found, expected):
        parts.sort(key=lambda part: min(part.amount - part.settled, ZERO))
    shift_between_slices(account, found)
    _each_with_each(account, expected)
    assert found == expected


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=30), st.lists(st.integers(0, 300), max_size=4))
def test_usage_finds_the_slice_that_a_look_at_all_of_them_finds(uses: list[tuple[int, bool]], cuts: list[int]) -> None:
    minute = timedelta(minutes=1)
    end = START + timedelta(days=30)
    meter = UsagePeriod("s", "c", "c", START, end, START, end, end, False, START)
    boundaries = sorted({START + cut * minute for cut in cuts})
    for at, closes in uses:
        before = list(meter.slices)
        used = START + at * minute
        expected = next((part for part in reversed(before) if part.start <= used < part.end), None)
        found = slice_at(meter, used, boundaries, 3600)
        assert found is expected or (expected is None and not any(found is part for part in before))
        places = [(part.window_start, part.start) for part in meter.slices]
        assert places == sorted(places)
        if closes:
            meter.closed_through = max(meter.closed_through or START, meter.slices[-1].window_start)
            meter.slices = [part for part in meter.slices if part.window_start >= meter.closed_through]


@pytest.mark.parametrize("order", ["forwards", "backwards", "shuffled"])
def test_half_a_year_by_the_hour_is_settled_in_a_moment(order: str) -> None:
    tiers = (Tier(Decimal(5000), Decimal("0.1"), None), Tier(None, Decimal("0.05"), None))
    world = World(
        *metered("a"),
        plan(card("a", Pricing(Volume(tiers), "USD"), cadence="P1Y")),
        customer(),
        subscription(SettlementMode.CREDIT_THEN_INVOICE),
        grant("g", 100, START + 100 * HOUR, START + 3000 * HOUR),
    )
    world.beat(START + timedelta(days=300))
    events = [event(f"e{hour}", "a", 1 + hour % 7, START + hour * HOUR) for hour in range(HOURS)]
    if order == "backwards":
        events.reverse()
    elif order == "shuffled":
        random.Random(1).shuffle(events)
    began = process_time()
    world.use(*events[: HOURS // 2])
    world.use(*events[HOURS // 2 :])
    assert process_time() - began < 5, "it took 25 s where each slice was compared with each"
    used = sum(1 + hour % 7 for hour in range(HOURS))
    assert world.balance.charged == used * Decimal("0.05")
    assert world.balance.consumed == 100
