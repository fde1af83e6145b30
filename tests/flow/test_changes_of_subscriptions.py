"""What the control plane does to subscriptions, as the flow rates it: on real servers, with the clock as it goes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.conftest import Stores
from tests.engine_runs import append, drain, engine_log, engine_process, query, visible, wait_for
from tests.plane import Plane
from tests.waiting import PATIENCE_SECONDS
from tollway.catalog_file import apply, read_catalog

D = Decimal

FILE = """
meters: [{key: calls, event_type: call, aggregation: COUNT}]
features: [{key: calls, meter: calls}]
plans:
  - key: prepaid
    cadence: P1M
    settlement_mode: credit_only
    rate_cards:
      - {key: base, price: {type: flat, amount: 30}}
      - {feature: calls, price: {type: unit, amount: 0.5}}
  - key: shared
    cadence: P1M
    prorate: true
    rate_cards:
      - {key: base, price: {type: flat, amount: 30}}
      - {feature: calls, price: {type: unit, amount: 1, minimum_amount: 20}}
  - key: other
    cadence: P1M
    prorate: true
    rate_cards:
      - {key: base, price: {type: flat, amount: 60}}
      - {feature: calls, price: {type: unit, amount: 2}}
customers:
  - key: acme
    subscription: {plan: prepaid}
    grants: [{key: welcome, amount: 50}]
  - {key: shared}
  - {key: steady, subscription: {plan: other}}
"""


@pytest.fixture
def plane(stores: Stores) -> Iterator[Plane]:
    """A control plane with the file applied."""
    with Plane(stores.postgres_dsn, stores.redis_url) as plane:
        apply(plane, read_catalog(FILE))
        yield plane


def call(number: int, subject: str, at: datetime | None = None) -> dict[str, Any]:
    """An event, of now unless said otherwise."""
    event = {"specversion": "1.0", "id": f"e{number}", "source": "test", "type": "call", "subject": subject}
    return event | {"time": (at or datetime.now(UTC)).isoformat(), "data": {}}


def balance(stores: Stores, customer: str, *columns: str) -> tuple[Any, ...]:
    """Figures of a customer's balance in the ledger."""
    rows = query(stores, f"select {', '.join(columns)} from balances where customer_key = %s", customer)
    return rows[0] if rows else ()


def charged(stores: Stores, customer_id: str) -> dict[tuple[str, str], Decimal]:
    """What each billing period came to, by subscription and rate card; what came to nothing is left out."""
    rows = query(
        stores,
        "select subscription_id, card_key, sum(amount) from usage_periods where customer_id = %s group by 1, 2",
        customer_id,
    )
    return {(subscription, card): amount for subscription, card, amount in rows if amount}


def test_a_grant_of_the_same_file_pays_the_first_fee_in_advance(stores: Stores, plane: Plane) -> None:
    """Both begin in the one instant of the command, so nothing is owed, and the customer is not blocked."""
    (held,) = plane.list_subscriptions("acme")
    (grant,) = plane.list_grants("acme")
    assert held.active_from == held.anchor == held.recorded_at == grant.effective_at == grant.created_at
    assert plane.customer("acme").recorded_at == held.active_from
    drain(stores)
    figures = "charged", "consumed", "uncovered", "overage", "live", "access"
    assert balance(stores, "acme", *figures) == (30, 30, 0, 0, 20, "allowed")
    assert apply(plane, read_catalog(FILE))[-1].action == "unchanged"
    append(stores, [call(1, "acme")])
    drain(stores)
    assert balance(stores, "acme", "consumed", "live") == (D("30.5"), D("19.5"))
    assert Decimal(visible(stores, "acme")["live"]) == D("19.5")


def test_an_end_that_is_taken_back_leaves_no_trace(stores: Stores, plane: Plane) -> None:
    """What was given back for the rest of the period is charged again: the same as if nothing had been said."""
    start = datetime.now(UTC) - timedelta(days=3)
    held = plane.subscribe("shared", "shared", active_from=start)
    append(stores, [call(1, "shared", start + timedelta(days=1))])
    drain(stores)
    whole = charged(stores, held.customer_id)
    assert whole[held.id, "base"] == 30
    plane.cancel_subscription(held.id, datetime.now(UTC) + timedelta(days=1))
    drain(stores)
    assert 3 < charged(stores, held.customer_id)[held.id, "base"] < 5
    planned = plane.change_subscription(held.id, "other", plane.list_subscriptions("shared")[0].active_to)
    assert plane.restore_subscription(held.id) == held
    assert [one.active_to for one in plane.list_subscriptions("shared")] == [None, planned.active_from]
    append(stores, [call(2, "shared")])
    drain(stores)
    assert charged(stores, held.customer_id) == whole | {(held.id, "calls"): 2}


def test_what_ends_as_it_begins_ends_nothing_else(stores: Stores, plane: Plane) -> None:
    """Subscriptions that last for microseconds, with proration, fees and minimums: the flow goes on, for all."""
    with engine_process(stores) as engine:
        wait_for(lambda: "The dataflow runs." in engine_log(stores), "the dataflow")
        for _ in range(3):
            held = plane.subscribe("shared", "shared")
            following = plane.change_subscription(held.id, "other")
            plane.cancel_subscription(following.id)
        planned = plane.subscribe("shared", "shared", active_from=datetime.now(UTC) + timedelta(hours=1))
        plane.cancel_subscription(planned.id)
        append(stores, [call(1, "steady")])
        wait_for(lambda: balance(stores, "steady", "charged") == (62,), "the usage of another customer")
        assert engine.poll() is None
        engine.terminate()
        assert engine.wait(PATIENCE_SECONDS) == 0
    drain(stores)
    assert sum(charged(stores, plane.customer("shared").id).values()) < D("0.01")
    assert balance(stores, "steady", "charged") == (62,)


def test_usage_of_a_deleted_customer_is_that_of_nobody(stores: Stores, plane: Plane) -> None:
    """From then on it waits with an unknown subject; late usage of before is still its own."""
    held = plane.subscribe("shared", "other")
    drain(stores)
    early = datetime.now(UTC)
    plane.cancel_subscription(held.id)
    plane.delete_customer("shared")
    append(stores, [call(1, "shared"), call(2, "shared", early)])
    drain(stores)
    assert query(stores, "select id, reason from parked_events") == [("e1", "unknown_subject")]
    assert charged(stores, held.customer_id)[held.id, "calls"] == 2
