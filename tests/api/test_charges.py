"""Charges: from before their period begins until they are settled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.api.conftest import Client, plan
from tests.conftest import Stores
from tests.engine_runs import drain
from tests.waiting import let_pass

CHARGES = "/api/v3/openmeter/customers/acme/charges"
NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(days=40)
"""A billing period that began then is over."""
GRACE_SECONDS = 3
"""It still takes usage so long after its subscription was made."""


def set_up(client: Client, *timings: tuple[str, datetime], **fields: Any) -> dict[str, str]:
    """Customers by key, subscribed from an instant on to calls at half a dollar and a base fee. Gives their ids."""
    client.post("/api/v1/meters", json={"slug": "calls", "eventType": "call", "aggregation": "COUNT"})
    client.post("/api/v1/features", json={"key": "calls", "name": "Calls", "meterSlug": "calls"})
    body = plan("basic", **fields)
    fee = {"type": "flat_fee", "key": "base", "name": "Base", "billingCadence": "P1M"}
    body["phases"][0]["rateCards"].append(fee | {"price": {"type": "flat", "amount": "9", "paymentTerm": "in_arrears"}})
    draft = client.post("/api/v1/plans", json=body)
    assert draft.status_code == 201, draft.text
    client.post(f"/api/v1/plans/{draft.json()['id']}/publish")
    held = {}
    for key, start in timings:
        client.post("/api/v1/customers", json={"key": key, "name": key})
        made = {"plan": {"key": "basic"}, "customerKey": key, "timing": start.isoformat()}
        answer = client.post("/api/v1/subscriptions", json=made)
        assert answer.status_code == 201, answer.text
        held[key] = answer.json()["id"]
    return held


def call(client: Client, stores: Stores, number: int, at: datetime = NOW) -> None:
    """So many calls at an instant, rated."""
    event = {"specversion": "1.0", "source": "test", "type": "call", "subject": "acme", "time": at.isoformat()}
    client.post("/api/v1/events", json=[event | {"id": f"{at}-{index}"} for index in range(number)])
    drain(stores, grace_seconds=GRACE_SECONDS)


def close(stores: Stores) -> None:
    """Wait out the grace, so that the periods that are over close."""
    let_pass(GRACE_SECONDS, "the grace")
    drain(stores, grace_seconds=GRACE_SECONDS)


def charges(client: Client, **parameters: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """The charges that are listed, by key and status."""
    answer = client.get(CHARGES, params=parameters)
    assert answer.status_code == 200, answer.text
    found = answer.json()["data"]
    by_place = {(one.get("feature_key", "base"), one["status"]): one for one in found}
    assert len(by_place) == len(found)
    return by_place


def test_a_charge_is_created_active_and_final(client: Client, stores: Stores) -> None:
    """Before its subscription begins, while its period runs, and when it has closed and its invoice went out."""
    set_up(client, ("acme", NOW + timedelta(days=2)))
    created = charges(client)
    assert created.keys() == {("calls", "created"), ("base", "created")}
    assert created["calls", "created"]["totals"]["booked"]["total"] == "0"
    assert datetime.fromisoformat(created["calls", "created"]["service_period"]["from"]) == NOW + timedelta(days=2)


def test_a_running_period_has_its_charges_from_the_start(client: Client, stores: Stores) -> None:
    """Without usage at 0, then with what was booked; a fee in arrears is booked when its period is over."""
    set_up(client, ("acme", NOW - timedelta(hours=1)))
    drain(stores)
    assert charges(client).keys() == {("calls", "active"), ("base", "active")}
    call(client, stores, 3)
    found = charges(client)
    usage, fee = found["calls", "active"], found["base", "active"]
    assert (usage["type"], usage["quantity"], usage["totals"]["booked"]["total"]) == ("usage_based", "3", "1.5")
    assert (fee["type"], fee["payment_term"], fee["amount_after_proration"]) == ("flat_fee", "in_arrears", "9")
    assert fee["totals"]["booked"]["total"] == "0"
    assert fee["invoice_at"] == fee["service_period"]["to"]
    assert charges(client, **{"filter[feature_key]": "calls"}).keys() == {("calls", "active")}


def test_real_time_totals_come_when_they_are_asked_for(client: Client, stores: Stores) -> None:
    """They are those that are booked, since what is used is charged at once."""
    set_up(client, ("acme", NOW - timedelta(hours=1)))
    call(client, stores, 3)
    assert charges(client)["calls", "active"]["totals"].keys() == {"booked"}
    totals = charges(client, expand="real_time_usage")["calls", "active"]["totals"]
    assert totals["realtime"] == totals["booked"]


def test_a_closed_period_is_final_when_its_invoice_went_out(client: Client, stores: Stores) -> None:
    """Neither before, nor with a draft, nor after the invoice was voided, unless that is for good."""
    set_up(client, ("acme", LONG_AGO))
    call(client, stores, 2, LONG_AGO + timedelta(days=1))
    close(stores)
    over = LONG_AGO.isoformat().replace("+00:00", "Z")

    def states() -> dict[str, str]:
        found = client.get(CHARGES).json()["data"]
        return {one.get("feature_key", "base"): one["status"] for one in found if one["service_period"]["from"] == over}

    assert states() == {"calls": "active", "base": "active"}
    customer = client.get("/api/v1/customers/acme").json()["id"]
    (draft,) = client.post("/api/v1/billing/invoices/invoice", json={"customerId": customer}).json()
    assert states() == {"calls": "active", "base": "active"}
    client.post(f"/api/v1/billing/invoices/{draft['id']}/approve")
    assert states() == {"calls": "final", "base": "final"}
    client.post(f"/api/v1/billing/invoices/{draft['id']}/void")
    assert states() == {"calls": "active", "base": "active"}
    (again,) = client.post("/api/v1/billing/invoices/invoice", json={"customerId": customer}).json()
    gone = {"action": {"percentage": 100, "action": {"type": "discard"}}, "reason": "goodwill"}
    client.post(f"/api/v1/billing/invoices/{again['id']}/void", json=gone)
    assert states() == {"calls": "final", "base": "final"}


@pytest.mark.parametrize("mode", ["credit_only", "credit_then_invoice"])
def test_a_closed_period_that_credits_paid_for_is_final(client: Client, stores: Stores, mode: str) -> None:
    """There is nothing left to invoice."""
    set_up(client, ("acme", LONG_AGO), settlementMode=mode)
    grant = {"name": "Credits", "funding_method": "none", "currency": "USD", "amount": "100"}
    path = "/api/v3/openmeter/customers/acme/credits/grants"
    client.post(path, json=grant | {"effective_at": LONG_AGO.isoformat()})
    call(client, stores, 2, LONG_AGO + timedelta(days=1))
    close(stores)
    found = charges(client, **{"filter[status]": "final"})
    assert found.keys() == {("calls", "final"), ("base", "final")}
    assert found["calls", "final"]["totals"]["booked"]["credits_total"] == "1"


def test_a_subscription_that_was_cancelled_before_it_began_has_deleted_charges(client: Client) -> None:
    """They are listed only when they are asked for."""
    held = set_up(client, ("acme", NOW + timedelta(days=2)))
    gone = client.post(f"/api/v1/subscriptions/{held['acme']}/cancel", json={})
    assert gone.status_code == 200, gone.text
    assert charges(client) == {}
    assert charges(client, **{"filter[status]": "deleted"}).keys() == {("calls", "deleted"), ("base", "deleted")}


def test_charges_are_chosen_sorted_and_paged(client: Client, stores: Stores) -> None:
    """By several states in any of the forms of the filter, either way round; what is not known is refused."""
    set_up(client, ("acme", LONG_AGO))
    call(client, stores, 2, LONG_AGO + timedelta(days=1))
    call(client, stores, 1)
    page = client.get(CHARGES, params={"page[size]": 3}).json()
    assert page["meta"]["page"] == {"size": 3, "number": 1, "total": 4}
    starts = [one["service_period"]["from"] for one in page["data"]]
    assert starts == sorted(starts)
    backwards = client.get(CHARGES, params={"sort": "service_period.from desc"}).json()["data"]
    assert [one["service_period"]["from"] for one in backwards] == sorted(starts + starts[-1:], reverse=True)
    for name in ("filter[status]", "filter[status][oeq]"):
        assert len(client.get(CHARGES, params={name: "created,active"}).json()["data"]) == 4
        assert client.get(CHARGES, params={name: "final"}).json()["data"] == []
    for wrong in (
        {"filter[status]": "open"},
        {"expand": "everything"},
        {"filter[status][contains]": "final"},
        {"sort": "amount"},
        {"sort": "id up"},
    ):
        answer = client.get(CHARGES, params=wrong)
        assert answer.status_code == 400
        assert answer.json()["invalid_parameters"][0]["field"] in wrong
    ids = [one["id"] for one in client.get(CHARGES, params={"sort": "id"}).json()["data"]]
    assert ids == sorted(set(ids))
    assert msgspec.json.encode(page) == msgspec.json.encode(client.get(CHARGES, params={"page[size]": 3}).json())
