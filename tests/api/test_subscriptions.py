"""When subscriptions start, change and end: now, with the next billing cycle, or at an instant that is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.api.conftest import Client, plan
from tests.api.test_setup import V1, V3, got, made

ANCHOR = "2026-01-15T00:00:00Z"


def at(**later: int) -> str:
    """An instant some time from now, as the API writes it."""
    return (datetime.now(UTC) + timedelta(**later)).isoformat().replace("+00:00", "Z")


def next_cycle() -> str:
    """When the month that runs ends, where months begin with the anchor's day."""
    now = datetime.now(UTC)
    month = now.replace(day=15, hour=0, minute=0, second=0, microsecond=0)
    if now >= month:
        month = (month.replace(day=1) + timedelta(days=32)).replace(day=15)
    return month.isoformat().replace("+00:00", "Z")


@pytest.fixture
def beta(shop: Client) -> Client:
    """The shop with a second plan, and a customer `beta` without a subscription."""
    draft = made(shop, f"{V1}/plans", plan("other"))
    made(shop, f"{V1}/plans/{draft['id']}/publish", None, 200)
    made(shop, f"{V1}/customers", {"key": "beta", "name": "Beta"})
    return shop


def subscribed(client: Client, **fields: Any) -> Any:
    """A subscription of `beta` to the basic plan."""
    return made(client, f"{V1}/subscriptions", {"plan": {"key": "basic"}, "customerKey": "beta", **fields})


@pytest.mark.parametrize("timing", [None, "immediate"])
def test_a_subscription_starts_at_once(beta: Client, timing: str | None) -> None:
    """Also where nothing is said; the customer has it from then on."""
    before = datetime.now(UTC)
    held = subscribed(beta, timing=timing)
    assert before <= datetime.fromisoformat(held["activeFrom"]) <= datetime.now(UTC)
    assert held["status"] == "active"
    assert held["billingAnchor"] == held["activeFrom"]
    assert got(beta, f"{V1}/customers/beta")["currentSubscriptionId"] == held["id"]


def test_a_subscription_starts_at_an_instant(beta: Client) -> None:
    """It is scheduled until then, and there is no room for another one."""
    start = at(days=3)
    held = subscribed(beta, timing=start)
    assert (held["activeFrom"], held["status"]) == (start, "scheduled")
    assert "currentSubscriptionId" not in got(beta, f"{V1}/customers/beta")
    again = beta.post(f"{V1}/subscriptions", json={"plan": {"key": "other"}, "customerKey": "beta"})
    assert again.status_code == 409
    offset = datetime.fromisoformat(start).astimezone().isoformat()
    assert made(beta, f"{V1}/subscriptions/{held['id']}/cancel", {"timing": offset}, 200)["status"] == "scheduled"


def test_a_subscription_starts_with_the_next_billing_cycle(beta: Client) -> None:
    """Where one is cancelled, and its period still runs, the next one follows it; where there is none, at once."""
    first = subscribed(beta, billingAnchor=ANCHOR)
    ended = made(beta, f"{V1}/subscriptions/{first['id']}/cancel", {"timing": "next_billing_cycle"}, 200)
    assert (ended["activeTo"], ended["status"]) == (next_cycle(), "canceled")
    second = subscribed(beta, timing="next_billing_cycle")
    assert (second["activeFrom"], second["status"]) == (next_cycle(), "scheduled")
    made(beta, f"{V1}/customers", {"key": "gamma", "name": "Gamma"})
    fresh = made(
        beta,
        f"{V1}/subscriptions",
        {"plan": {"key": "basic"}, "customerKey": "gamma", "timing": "next_billing_cycle"},
    )
    assert fresh["status"] == "active"


@pytest.mark.parametrize(
    ("timing", "status"), [("immediate", "inactive"), ("next_billing_cycle", "canceled"), (None, "canceled")]
)
def test_a_change_ends_one_subscription_where_the_next_one_starts(
    beta: Client, timing: str | None, status: str
) -> None:
    """At once, with the next billing cycle, or at an instant; in both APIs."""
    held = subscribed(beta, billingAnchor=ANCHOR)
    asked = timing or at(days=2)
    body = {"timing": asked, "plan": {"key": "other"}}
    changed = made(beta, f"{V1}/subscriptions/{held['id']}/change", body, 200)
    assert changed["current"]["activeTo"] == changed["next"]["activeFrom"]
    assert changed["current"]["status"] == status
    assert changed["next"]["plan"]["key"] == "other"
    assert changed["next"]["status"] == ("active" if timing == "immediate" else "scheduled")
    if timing == "next_billing_cycle":
        assert changed["next"]["activeFrom"] == next_cycle()
    if timing is None:
        assert changed["next"]["activeFrom"] == asked
    shown = got(beta, f"{V3}/subscriptions", **{"filter[customer_id]": held["customerId"]})["data"]
    assert [one["id"] for one in shown] == [held["id"], changed["next"]["id"]]


def test_a_subscription_ends_at_an_instant(beta: Client) -> None:
    """Later, or at once; never later again than it was said to."""
    held = subscribed(beta)
    soon, later = at(hours=1), at(days=400)
    cancel = f"{V1}/subscriptions/{held['id']}/cancel"
    ended = made(beta, cancel, {"timing": soon}, 200)
    assert (ended["activeTo"], ended["status"]) == (soon, "canceled")
    assert beta.post(cancel, json={"timing": later}).status_code == 409
    assert made(beta, cancel, {"timing": "immediate"}, 200)["status"] == "inactive"
    assert beta.post(f"{V1}/subscriptions/{held['id']}/change", json={"timing": "immediate", "plan": {"key": "other"}})
    assert beta.post(cancel, json={}).status_code in (200, 409)


@pytest.mark.parametrize(
    "timing",
    [
        "soon",
        "",
        "2026-13-01T00:00:00Z",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ],
)
def test_a_timing_that_is_none_is_refused(beta: Client, timing: str) -> None:
    """With the field's name, for each of the three."""
    held = subscribed(beta)
    paths = {
        f"{V3}/subscriptions": {"plan": {"key": "basic"}, "customer": {"key": "beta"}, "timing": timing},
        f"{V3}/subscriptions/{held['id']}/cancel": {"timing": timing},
        f"{V3}/subscriptions/{held['id']}/change": {"timing": timing, "plan": {"key": "other"}},
    }
    for path, body in paths.items():
        answer = beta.post(path, json=body)
        assert answer.status_code == 400, (path, answer.text)
        assert answer.json()["invalid_parameters"]


def test_a_customer_without_a_currency_takes_that_of_its_first_subscription_or_grant(beta: Client) -> None:
    """As long as nobody named one; after that it stays."""
    draft = made(beta, f"{V1}/plans", plan("europe", currency="EUR"))
    made(beta, f"{V1}/plans/{draft['id']}/publish", None, 200)
    for key in ("gamma", "delta"):
        made(beta, f"{V1}/customers", {"key": key, "name": key})
    made(beta, f"{V1}/customers", {"key": "usa", "name": "USA", "currency": "USD"})
    europe = {"plan": {"key": "europe"}, "timing": "immediate"}
    credit = {"name": "Credit", "funding_method": "none", "amount": "5"}

    made(beta, f"{V1}/subscriptions", europe | {"customerKey": "gamma"})
    assert got(beta, f"{V1}/customers/gamma")["currency"] == "EUR"
    made(beta, f"{V3}/customers/gamma/credits/grants", credit | {"currency": "EUR"})
    made(beta, f"{V3}/customers/gamma/credits/grants", credit | {"currency": "USD"}, 400)
    made(beta, f"{V3}/customers/delta/credits/grants", credit | {"currency": "EUR"})
    assert got(beta, f"{V1}/customers/delta")["currency"] == "EUR"
    made(beta, f"{V1}/subscriptions", {"plan": {"key": "basic"}, "customerKey": "delta"}, 409)
    made(beta, f"{V1}/subscriptions", europe | {"customerKey": "usa"}, 409)
    assert got(beta, f"{V1}/customers/usa")["currency"] == "USD"
