"""Work that is done in turns comes to what it comes to at once, and one customer's holds up no other's."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace

from rating.catalog import SettlementMode, key_group
from rating.outcome import Outcome
from rating.prices import Flat, Pricing
from rating.time_rules import TimeRules
from tests.simulation.settling import ID, World, card, customer, event, grant, metered, plan, subscription
from tests.world import START

INVOICE = SettlementMode.CREDIT_THEN_INVOICE
FEE = Pricing(Flat(Decimal(3)), "USD")
MINUTE = timedelta(minutes=1)
NAMES = [name for name in map("other-{}".format, range(5000)) if key_group(name) == key_group(ID)][:20]
HOURS = 12


class Turns(World):
    """Does little in each turn, and as many turns as it takes."""

    work: float = float("inf")
    longest = 0
    """The most rows that one turn told."""

    def _do(self, work: object) -> Outcome:
        self.group.begin_turn(self.work)
        out = super()._do(work)
        self.longest = max(self.longest, len(out.charges))
        while self.group.goes_on:
            self.group.begin_turn(self.work)
            out = super()._do(lambda out: self.group.beat(self.now, out))
            self.longest = max(self.longest, len(out.charges))
        return out


def _after(work: float) -> Turns:
    """One customer of many begins a period each minute, and pays for each."""
    world = Turns(
        *metered("a"),
        replace(plan(card("a"), card(None, FEE), key="minutely"), cadence="PT1M"),
        plan(card("a"), card(None, FEE)),
        rules=TimeRules(grace=10 * MINUTE, keep_closed=10 * MINUTE),
    )
    world.work = work
    world.now = START + timedelta(hours=HOURS)
    world.apply(
        customer(),
        subscription(INVOICE, plan_key="minutely"),
        grant("g", 1000),
        *(customer(customer_id=name, key=name) for name in NAMES),
        *(subscription(INVOICE, customer_id=name, name=f"s-{name}") for name in NAMES),
    )
    for hour in range(3):
        events = [event(f"{hour}-{name}", "a", 2, world.now, name) for name in ("c", *NAMES)]
        world.fold(*events)
        world.now += timedelta(hours=1)
        world.late_beat()
    world.restart()
    return world


@pytest.mark.parametrize("work", [1, 30, 700])
def test_work_in_turns_comes_to_the_same_as_work_at_once(work: float) -> None:
    turns, whole = _after(work), _after(float("inf"))
    assert {key: row.amount for key, row in turns.charges.items()} == {
        key: row.amount for key, row in whole.charges.items()
    }
    assert {name: row[:-2] for name, row in turns.balances.items()} == {
        name: row[:-2] for name, row in whole.balances.items()
    }
    assert turns.balance.charged == 3 * ((HOURS + 3) * 60 + 1) + 6
    assert turns.ended == whole.ended
    assert turns.longest < whole.longest


def test_what_is_told_anew_after_a_start_is_told_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a customer with many billing periods so many at a time, and in the end all of them."""
    whole = _after(float("inf"))
    monkeypatch.setattr("rating.group.EMITTED_PERIODS_MAX", 3)
    turns = _after(1)
    told = turns.charges.copy()
    turns.charges.clear()
    turns.longest = 0
    turns.restart()
    assert {key: row.amount for key, row in turns.charges.items()}.items() <= {
        key: row.amount for key, row in told.items()
    }.items()
    assert len(turns.charges) > 100
    assert {key[:4] for key in turns.charges} == {
        (account.state.customer_id, *meter.key)
        for account in turns.group.accounts.values()
        for meter in account.state.periods
        if meter.slices
    }
    assert not turns.group.is_waiting
    turns.charges = told | turns.charges
    assert turns.balance[:-2] == whole.balance[:-2]
