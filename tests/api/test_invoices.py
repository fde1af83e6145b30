"""Invoices over the API: from gathering by way of a draft to issued, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from tests.api.conftest import Client, plan
from tests.api.test_setup import made
from tests.conftest import Stores
from tests.engine_runs import drain

INVOICES = "/api/v1/billing/invoices"
_ids = count(1)


def call(client: Client, stores: Stores, number: int, subject: str = "acme") -> None:
    """So many calls of a customer now, rated; each costs half a dollar."""
    now = datetime.now(UTC).isoformat()
    event = {"specversion": "1.0", "source": "test", "type": "call", "subject": subject, "time": now}
    answer = client.post("/api/v1/events", json=[event | {"id": str(next(_ids))} for _ in range(number)])
    assert answer.status_code == 204, answer.text
    drain(stores)


def customer_id(client: Client, key: str = "acme") -> str:
    """The id of a customer."""
    return str(client.get(f"/api/v1/customers/{key}").json()["id"])


def drawn(client: Client, key: str = "acme", **fields: Any) -> dict[str, Any]:
    """The draft of all that is billable."""
    answer = client.post(f"{INVOICES}/invoice", json={"customerId": customer_id(client, key), **fields})
    assert answer.status_code == 201, answer.text
    (found,) = answer.json()
    return found  # type: ignore[no-any-return]


def act(client: Client, invoice: dict[str, Any], action: str, body: Any = None) -> dict[str, Any]:
    """What an action makes of an invoice, which has to be one that is available."""
    assert action in invoice["statusDetails"]["availableActions"]
    answer = client.post(f"{INVOICES}/{invoice['id']}/{action}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    state = invoice["statusDetails"]["availableActions"][action]["resultingState"]
    assert state in (found["status"], found["statusDetails"]["extendedStatus"])
    return found


def listed(client: Client, **parameters: Any) -> list[tuple[str, str]]:
    """Status and total of the invoices that are listed."""
    answer = client.get(INVOICES, params=parameters)
    assert answer.status_code == 200, answer.text
    page = answer.json()
    assert page["totalCount"] >= len(page["items"])
    return [(one["status"], one["totals"]["total"]) for one in page["items"]]


def subscribe(client: Client, key: str) -> None:
    """Another customer on the plan."""
    client.post("/api/v1/customers", json={"key": key, "name": key.title()})
    client.post("/api/v1/subscriptions", json={"plan": {"key": "basic"}, "customerKey": key})


def test_an_invoice_goes_from_gathering_to_issued(shop: Client, stores: Stores) -> None:
    """A draft stays as it is while usage goes on, which gathers for the next; approved, it is numbered and due."""
    assert listed(shop) == []
    call(shop, stores, 3)
    assert listed(shop) == [("gathering", "1.5")]
    draft = drawn(shop)
    assert (draft["status"], draft["statusDetails"]["extendedStatus"]) == ("draft", "draft.created")
    assert not {"issuedAt", "dueAt"} & draft.keys()
    call(shop, stores, 4)
    assert listed(shop) == [("gathering", "2"), ("draft", "1.5")]
    ready = act(shop, draft, "advance")
    assert ready["statusDetails"]["extendedStatus"] == "draft.manual_approval_needed"
    issued = act(shop, ready, "approve")
    assert (issued["status"], issued["lines"]) == ("issued", draft["lines"])
    assert issued["number"].startswith("INV-")
    due = datetime.fromisoformat(issued["dueAt"]) - datetime.fromisoformat(issued["issuedAt"])
    assert due == timedelta(days=30)
    assert shop.get(f"{INVOICES}/{issued['number']}").json() == issued
    assert act(shop, issued, "void")["statusDetails"]["availableActions"] == {}
    assert listed(shop) == [("gathering", "3.5"), ("voided", "1.5")]
    assert drawn(shop)["totals"]["total"] == "3.5"


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_a_fee_without_a_cadence_is_billed_once(shop: Client, stores: Stores, version: str) -> None:
    """A fee for setting up, in both APIs: the first invoice has it, the next does not; ended early it stays whole."""
    body = plan("with_setup", proRatingConfig={"enabled": True, "mode": "prorate_prices"})
    fee: dict[str, Any] = {"type": "flat_fee", "key": "setup", "name": "Setup"}
    fee |= {"billingCadence": None, "price": {"type": "flat", "amount": "20", "paymentTerm": "in_advance"}}
    body["phases"][0]["rateCards"].append(fee)
    if version == "v1":
        draft = made(shop, "/api/v1/plans", body)
    else:
        cards = [
            {"key": "calls", "name": "Calls", "feature_key": "calls", "price": {"type": "unit", "amount": "0.5"}},
            {"key": "setup", "name": "Setup", "billing_cadence": None, "price": {"type": "flat", "amount": "20"}},
        ]
        phases = [{"key": "main", "name": "Main", "rate_cards": cards}]
        v3 = {"key": "with_setup", "name": "Setup", "currency": "USD", "billing_cadence": "P1M", "phases": phases}
        made(shop, "/api/v3/openmeter/plans", v3)
        draft = shop.get("/api/v1/plans/with_setup").json()
    assert draft["phases"][0]["rateCards"][1]["billingCadence"] is None
    made(shop, f"/api/v1/plans/{draft['id']}/publish", None, 200)
    assert shop.get("/api/v1/plans/with_setup").json()["phases"][0]["rateCards"][1]["billingCadence"] is None
    made(shop, "/api/v1/customers", {"key": "beta", "name": "Beta"})
    began = (datetime.now(UTC) - timedelta(days=70)).isoformat()
    subscribed = {"plan": {"key": "with_setup"}, "customerKey": "beta", "timing": began, "billingAnchor": began}
    held = made(shop, "/api/v1/subscriptions", subscribed)
    call(shop, stores, 2, "beta")
    first = act(shop, drawn(shop, "beta"), "approve")
    assert first["totals"]["total"] == "21"
    made(shop, f"/api/v1/subscriptions/{held['id']}/cancel", {"timing": "next_billing_cycle"}, 200)
    call(shop, stores, 2, "beta")
    assert drawn(shop, "beta")["totals"]["total"] == "1"
    charges = shop.get(f"/api/v3/openmeter/customers/{customer_id(shop, 'beta')}/charges").json()["data"]
    assert [one["totals"]["booked"]["amount"] for one in charges if one["type"] == "flat_fee"] == ["20"]


def test_what_cannot_be_done_is_refused(shop: Client, stores: Stores) -> None:
    """With a code and with what the invoice has come to; nothing billable has the code that OpenMeter gives it."""
    body = {"customerId": customer_id(shop)}
    refused = shop.post(f"{INVOICES}/invoice", json=body)
    assert refused.status_code == 400
    assert refused.json()["extensions"]["validationErrors"][0]["code"] == "invoice_create_no_lines"
    call(shop, stores, 1)
    issued = act(shop, drawn(shop), "approve")
    for method, path in (("POST", "/advance"), ("POST", "/approve"), ("DELETE", "")):
        answer = shop.request(method, f"{INVOICES}/{issued['id']}{path}")
        assert answer.status_code == 400
        (wrong,) = answer.json()["extensions"]["validationErrors"]
        assert wrong["code"] == "invoice_action_not_available"
        assert "which is issued" in wrong["message"]
    for path in ("advance", "approve", "void"):
        assert shop.post(f"{INVOICES}/nothing/{path}").status_code == 404
    assert shop.delete(f"{INVOICES}/nothing").status_code == 404
    assert shop.post(f"{INVOICES}/invoice", json={"customerId": "nobody"}).status_code == 404


def test_a_draft_can_be_deleted(shop: Client, stores: Stores) -> None:
    """It is gone, and what it would have billed gathers again."""
    call(shop, stores, 2)
    draft = drawn(shop)
    assert shop.delete(f"{INVOICES}/{draft['id']}").status_code == 204
    assert shop.get(f"{INVOICES}/{draft['id']}").status_code == 404
    assert listed(shop) == [("gathering", "1")]


@pytest.mark.parametrize(("kind", "left"), [("pending", [("gathering", "1")]), ("discard", [])])
def test_voiding_says_what_becomes_of_the_lines(
    shop: Client, stores: Stores, kind: str, left: list[tuple[str, str]]
) -> None:
    """They are billable again, or are never billed again, as OpenMeter's clients ask for it."""
    call(shop, stores, 2)
    issued = act(shop, drawn(shop), "approve")
    assert "voidAction" not in issued
    said = {"percentage": 100, "action": {"type": kind}}
    voided = act(shop, issued, "void", {"action": said, "reason": "a mistake"})
    assert voided["voidAction"] == said
    assert shop.get(f"{INVOICES}/{issued['id']}").json() == voided
    assert listed(shop) == [*left, ("voided", "1")]
    assert act(shop, issued, "void", {"action": said}) == act(shop, issued, "void") == voided
    other = {"percentage": 100, "action": {"type": "discard" if kind == "pending" else "pending"}}
    refused = shop.post(f"{INVOICES}/{issued['id']}/void", json={"action": other})
    assert refused.status_code == 400
    assert refused.json()["extensions"]["validationErrors"][0]["code"] == "invoice_action_not_available"
    assert listed(shop) == [*left, ("voided", "1")]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"action": {"percentage": 50, "action": {"type": "pending"}}, "reason": "half"}, "action.percentage"),
        ({"action": {"percentage": 100, "action": {"type": "forget"}}, "reason": "?"}, "action.action.type"),
        ({"overrides": [{"lineId": "1"}], "reason": "one line"}, "overrides"),
    ],
)
def test_an_invoice_is_voided_as_a_whole(shop: Client, stores: Stores, body: dict[str, Any], field: str) -> None:
    """A part of it can't be, and the invoice stands."""
    call(shop, stores, 2)
    draft = drawn(shop)
    answer = shop.post(f"{INVOICES}/{draft['id']}/void", json=body)
    assert answer.status_code == 400, answer.text
    assert field in [one["field"] for one in answer.json()["extensions"]["validationErrors"]]
    assert shop.get(f"{INVOICES}/{draft['id']}").json()["status"] == "draft"


def test_lists_are_of_some_customers_and_states(shop: Client, stores: Stores) -> None:
    """In pages that hold those that are gathering first; a name of nobody is not found."""
    for key in ("beta", "gamma"):
        subscribe(shop, key)
        call(shop, stores, 2, key)
    call(shop, stores, 1)
    first = drawn(shop, "beta")
    act(shop, drawn(shop), "approve")
    call(shop, stores, 6)
    everything = [("gathering", "3"), ("gathering", "1"), ("issued", "0.5"), ("draft", "1")]
    assert listed(shop) == everything
    pages = [shop.get(INVOICES, params={"page": page, "pageSize": 3}).json() for page in (1, 2, 3)]
    assert [page["totalCount"] for page in pages] == [4, 4, 4]
    assert [(one["status"], one["totals"]["total"]) for page in pages for one in page["items"]] == everything
    assert listed(shop, statuses="gathering") == everything[:2]
    assert listed(shop, statuses=["issued", "draft"], order="ASC") == [("draft", "1"), ("issued", "0.5")]
    assert listed(shop, statuses="paid") == []
    assert listed(shop, extendedStatuses="draft.created") == [("draft", "1")]
    assert listed(shop, extendedStatuses="draft.manual_approval_needed") == []
    act(shop, first, "advance")
    assert listed(shop, extendedStatuses="draft.manual_approval_needed,issued") == [("issued", "0.5"), ("draft", "1")]
    assert listed(shop, customers=customer_id(shop, "beta")) == [("draft", "1")]
    assert listed(shop, customers=["acme", "gamma"], statuses="gathering") == everything[:2]
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    assert listed(shop, createdAfter=(now - hour).isoformat(), createdBefore=(now + hour).isoformat()) == everything[2:]
    assert listed(shop, issuedAfter=(now + hour).isoformat()) == []
    assert listed(shop, issuedBefore=(now + hour).isoformat()) == [("issued", "0.5")]
    assert shop.get(INVOICES, params={"customers": "nobody"}).status_code == 404
    assert shop.get(INVOICES, params={"createdAfter": "2026-03-01T00:00:00"}).status_code == 400


def test_what_can_be_billed_can_be_limited(shop: Client, stores: Stores) -> None:
    """To periods that began before an instant, and to those that are over; lines can't be chosen one by one."""
    call(shop, stores, 2)
    body: dict[str, Any] = {"customerId": customer_id(shop)}
    running = shop.post(f"{INVOICES}/invoice", json=body | {"progressiveBillingOverride": False})
    earlier = shop.post(f"{INVOICES}/invoice", json=body | {"asOf": "2026-01-01T00:00:00Z"})
    for refused in (running, earlier):
        assert refused.json()["extensions"]["validationErrors"][0]["code"] == "invoice_create_no_lines"
    chosen = shop.post(f"{INVOICES}/invoice", json=body | {"filters": {"lineIds": ["1"]}})
    assert chosen.json()["extensions"]["validationErrors"][0]["field"] == "filters.lineIds"
    later = (datetime.now(UTC) + timedelta(days=40)).isoformat()
    assert drawn(shop, asOf=later, progressiveBillingOverride=False)["totals"]["total"] == "1"


def test_a_line_has_a_name_for_people(shop: Client, stores: Stores) -> None:
    """That of the rate card, or of the feature where the card has none."""
    call(shop, stores, 1)
    (line,) = drawn(shop)["lines"]
    assert (line["name"], line["featureKey"], line["price"]) == ("Calls", "calls", {"type": "unit", "amount": "0.5"})
    assert (line["quantity"], line["meteredPreLinePeriodQuantity"]) == ("1", "0")
    call(shop, stores, 2)
    (line,) = drawn(shop)["lines"]
    assert (line["quantity"], line["meteredPreLinePeriodQuantity"]) == ("2", "1")
