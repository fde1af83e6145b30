"""`tollway rate` lets time pass as the engine does, and its outcome does not depend on the order of the file."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest

from rating.catalog import Grant, Record, SettlementMode
from rating.prices import Flat, PaymentTerm, Pricing
from tests.simulation.settling import DAY, HOUR, ID, World, card, customer, event, grant, metered, plan, subscription
from tests.world import START, line
from tollway.batch import BatchResult, rate_file

D = Decimal
ODD = START + 10 * HOUR + timedelta(minutes=30, microseconds=1)


def rated(records: list[Record], stream: list[dict[str, Any]], days: float) -> BatchResult:
    return rate_file(records, BytesIO(b"\n".join(map(line, stream))), ODD + days * DAY)


def plan_of_two(mode: SettlementMode, *grants: Grant) -> list[Record]:
    fee = Pricing(Flat(D(3), PaymentTerm.IN_ARREARS), "USD")
    cards = (card("a"), card("b", cadence="P1D"), card(None, fee, cadence="P1D"))
    return [*metered("a"), *metered("b"), plan(*cards), customer(), subscription(mode, start=ODD), *grants]


def test_a_grant_that_came_and_went_before_the_end_repays() -> None:
    """As it would have while it was in effect; neither usage nor fees after its end."""
    records = plan_of_two(SettlementMode.CREDIT_ONLY, grant("g", 100, ODD + 2 * HOUR, ODD + 3 * HOUR))
    found = rated(records, [event("1", "a", 4, ODD), event("2", "a", 5, ODD + 3 * HOUR)], 1.5)
    balance = found.balances[ID]
    assert (balance.consumed, balance.overage, balance.expired) == (D(4), D(8), D(96))
    assert balance.as_of == ODD + 1.5 * DAY


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("mode", list(SettlementMode))
def test_the_order_of_a_file_does_not_matter_and_the_engine_comes_to_the_same(seed: int, mode: SettlementMode) -> None:
    """Charges, who paid them, and the balance: shuffled, and event by event as they came."""
    chance = random.Random(seed)
    grants = []
    for number in range(4):
        start = ODD + chance.random() * 3 * DAY
        end = chance.choice([None, start + chance.random() * DAY])
        features = chance.choice([(), ("a",), ("b",)])
        grants.append(grant(f"g{number}", chance.randrange(1, 30), start, end, features, chance.randrange(1, 3)))
    records = plan_of_two(mode, *grants)
    stream = [
        event(f"e{number}", chance.choice("ab"), chance.randrange(9), ODD + chance.random() * 4 * DAY)
        for number in range(40)
    ]
    stream.sort(key=lambda found: found["time"])
    first = rated(records, stream, 4)
    chance.shuffle(stream)
    shuffled = rated(records, stream, 4)
    assert shuffled.charges == first.charges
    assert shuffled.balances == first.balances
    world = World()
    world.now = ODD
    world.apply(*records)
    for found in sorted(stream, key=lambda found: found["time"]):
        world.beat(type(ODD).fromisoformat(found["time"]))
        world.use(found)
    world.beat(ODD + 4 * DAY)
    same = ("funded", "settled", "pending", "overage", "consumed", "expired", "uncovered", "charged", "access")
    assert {name: getattr(first.balances[ID], name) for name in same} == {
        name: getattr(world.balance, name) for name in same
    }
    told = {key: (row.quantity, row.amount, row.uncovered, row.paid) for key, row in first.charges.items()}
    assert told == {key: (row.quantity, row.amount, row.uncovered, row.paid) for key, row in world.charges.items()}
