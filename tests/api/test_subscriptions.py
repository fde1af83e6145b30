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
    assert made(beta, f"{V1}/subscriptions/{held['id']}/cancel", {"timing": offset}, 200)["status"] == "inactive"


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


@pytest.fixture
def running(beta: Client) -> Any:
    """A subscription of `beta` with a billing anchor of its own."""
    return subscribed(beta, billingAnchor=ANCHOR)


def change(client: Client, held: Any, timing: str, version: str = V1, **fields: Any) -> Any:
    """The answer to a change to the other plan."""
    body = {"timing": timing, "plan": {"key": "other"}, **fields}
    return client.post(f"{version}/subscriptions/{held['id']}/change", json=body)


def refused(answer: Any, code: int, field: str, *parts: str) -> None:
    """Check that a request was refused for a field, with what to do."""
    assert answer.status_code == code, answer.text
    found = answer.json()
    item = (found.get("invalid_parameters") or found["extensions"]["validationErrors"])[0]
    assert item["field"] == field
    assert found["detail"].startswith(f"`{field}`: ")
    for part in parts:
        assert part in found["detail"]


@pytest.mark.parametrize("timing", ["immediate", "next_billing_cycle", "later"])
def test_a_change_keeps_the_billing_anchor_unless_another_is_given(beta: Client, running: Any, timing: str) -> None:
    """In both APIs: the billing day is the one it was."""
    asked = at(days=2) if timing == "later" else timing
    following = change(beta, running, asked).json()["next"]
    assert following["billingAnchor"] == running["billingAnchor"] == ANCHOR
    made(beta, f"{V1}/subscriptions/{following['id']}/cancel", {"timing": "immediate"}, 200)
    again = made(beta, f"{V1}/customers", {"key": "again", "name": "Again"})["id"]
    held = made(beta, f"{V3}/subscriptions", {"plan": {"key": "basic"}, "customer": {"id": again}})
    other = "2026-01-20T00:00:00Z"
    found = change(beta, held, asked, V3, billing_anchor=other)
    assert (found.status_code, found.json()["next"]["billing_anchor"]) == (200, other), found.text


@pytest.mark.parametrize("version", [V1, V3])
def test_an_instant_that_has_passed_is_refused(beta: Client, running: Any, version: str) -> None:
    """For a change and for a cancellation, with the field and the way; nothing has changed."""
    for timing in (at(seconds=-1), running["activeFrom"], at(days=-40)):
        refused(change(beta, running, timing, version), 400, "timing", "has not passed", "`immediate`")
        cancel = beta.post(f"{version}/subscriptions/{running['id']}/cancel", json={"timing": timing})
        refused(cancel, 400, "timing", "has not passed", "`next_billing_cycle`")
    assert running.items() <= got(beta, f"{V1}/subscriptions/{running['id']}").items()
    assert got(beta, f"{V1}/customers/beta/subscriptions")["totalCount"] == 1


def test_a_subscription_begins_in_the_past_only_where_none_was_in_force_since(beta: Client) -> None:
    """The first one may, and one after another ended; else it is refused."""
    first = subscribed(beta, timing=at(days=-9))
    assert first["status"] == "active"
    made(beta, f"{V1}/subscriptions/{first['id']}/cancel", {}, 200)
    body = {"plan": {"key": "other"}, "customerKey": "beta"}
    refused(beta.post(f"{V1}/subscriptions", json=body | {"timing": at(days=-2)}), 409, "timing", first["id"])
    assert subscribed(beta, timing="immediate")["status"] == "active"


def test_a_second_change_takes_the_place_of_one_planned_for_the_same_instant(beta: Client, running: Any) -> None:
    """What was planned never comes to be; the anchor is still the first one's."""
    later = at(days=2)
    planned = change(beta, running, later).json()["next"]
    second = change(beta, running, later, plan={"key": "basic"}).json()
    assert (second["current"]["id"], second["current"]["activeTo"]) == (running["id"], later)
    assert (second["next"]["activeFrom"], second["next"]["billingAnchor"]) == (later, ANCHOR)
    never = got(beta, f"{V1}/subscriptions/{planned['id']}")
    assert (never["activeTo"], never["status"]) == (never["activeFrom"], "inactive")
    third = change(beta, second["next"], later).json()["next"]
    assert (third["activeFrom"], third["billingAnchor"]) == (later, ANCHOR)


def test_a_change_lies_within_the_subscription(beta: Client, running: Any) -> None:
    """Not before it begins, not after it ends, and not before what was planned to follow."""
    end = at(days=2)
    made(beta, f"{V1}/subscriptions/{running['id']}/cancel", {"timing": end}, 200)
    refused(change(beta, running, at(days=3)), 409, "timing", end)
    planned = change(beta, running, end).json()["next"]
    assert planned["activeFrom"] == end
    refused(change(beta, planned, "immediate"), 409, "timing", end)
    refused(change(beta, running, "immediate"), 409, "timing", planned["id"], "cancel that subscription first")
    made(beta, f"{V1}/subscriptions/{planned['id']}/cancel", {}, 200)
    now = change(beta, running, "immediate").json()
    assert now["current"]["activeTo"] == now["next"]["activeFrom"] < end
    refused(change(beta, running, "immediate"), 409, "id", "ended at", "subscribe anew")


def test_what_another_follows_is_not_cancelled_before_that_one_is(beta: Client, running: Any) -> None:
    """The customer would be subscribed again by itself."""
    planned = change(beta, running, "next_billing_cycle").json()["next"]
    for timing in ("immediate", "next_billing_cycle"):
        answer = beta.post(f"{V1}/subscriptions/{running['id']}/cancel", json={"timing": timing})
        refused(answer, 409, "id", planned["id"])
    for one in (planned, running):
        made(beta, f"{V1}/subscriptions/{one['id']}/cancel", {"timing": "immediate"}, 200)
    assert "currentSubscriptionId" not in got(beta, f"{V1}/customers/beta")
    # What was planned and never came to be is not what a billing cycle is asked of.
    assert subscribed(beta, timing="next_billing_cycle")["status"] == "active"


def test_an_end_to_come_can_be_taken_back(beta: Client, running: Any) -> None:
    """A cancellation by each way; a change that is planned only by `restore`; nothing that has ended."""
    path = f"subscriptions/{running['id']}"
    for undo in (f"{V1}/{path}/restore", f"{V1}/{path}/unschedule-cancelation", f"{V3}/{path}/unschedule-cancelation"):
        made(beta, f"{V1}/{path}/cancel", {"timing": "next_billing_cycle"}, 200)
        restored = made(beta, undo, None, 200)
        assert (restored["status"], restored.get("activeTo", restored.get("active_to"))) == ("active", None)
    planned = change(beta, running, "next_billing_cycle").json()["next"]
    refused(beta.post(f"{V1}/{path}/unschedule-cancelation"), 409, "id", planned["id"])
    assert made(beta, f"{V1}/{path}/restore", None, 200)["status"] == "active"
    never = got(beta, f"{V1}/subscriptions/{planned['id']}")
    assert never["activeTo"] == never["activeFrom"]
    assert made(beta, f"{V1}/{path}/restore", None, 200)["status"] == "active"
    made(beta, f"{V1}/{path}/cancel", {}, 200)
    refused(beta.post(f"{V1}/{path}/restore"), 409, "id", "ended at", "subscribe anew")
    assert beta.post(f"{V1}/subscriptions/none/restore").status_code == 404
