"""Many billing periods of one customer: those in which nothing is due are passed at once."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rating.calendar import Calendar
from rating.catalog import Phase, SettlementMode
from rating.prices import Flat, Pricing
from tests.simulation.settling import DAY, World, card, customer, event, metered, plan, subscription, unit
from tests.world import START

INVOICE = SettlementMode.CREDIT_THEN_INVOICE
FEE = Pricing(Flat(Decimal(3)), "USD")
MINUTE = timedelta(minutes=1)


def _world(phases: tuple[Phase, ...], ends: int | None, minutes: int) -> World:
    held = subscription(INVOICE, end=None if ends is None else START + ends * MINUTE)
    world = World(*metered("a"), replace(plan(phases=phases), cadence="PT7M"))
    world.now = START + minutes * MINUTE
    world.apply(customer(), replace(held, anchor=START - MINUTE))
    return world


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(["PT30M", "PT1H", "PT45M"])), min_size=1, max_size=3),
    st.one_of(st.none(), st.integers(1, 300)),
    st.integers(0, 400),
)
def test_passing_quiet_periods_at_once_comes_to_the_same_as_passing_each(
    shape: list[tuple[bool, str]], ends: int | None, minutes: int
) -> None:
    phases = tuple(
        Phase(
            f"p{n}",
            (card("a", cadence="PT11M"), *([card(None, FEE)] if fee else [])),
            length if n < len(shape) - 1 else None,
        )
        for n, (fee, length) in enumerate(shape)
    )
    fast = _world(phases, ends, minutes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Calendar, "_quiet_to", lambda _self, _subscription, at: at)
        slow = _world(phases, ends, minutes)
    assert fast.group.snapshot() == slow.group.snapshot()
    assert fast.charges == slow.charges
    assert fast.balances == slow.balances


def test_a_year_of_seconds_is_passed_at_once() -> None:
    """A control log of old may have such a cadence."""
    world = World(*metered("a"), replace(plan(card("a", unit())), cadence="PT1S"))
    world.now = START + 365 * DAY
    began = process_time()
    world.apply(customer(), subscription(INVOICE))
    assert process_time() - began < 1, "it took minutes where each period was looked at"
    world.use(event("1", "a", 2, world.now))
    assert world.balance.charged == 2
