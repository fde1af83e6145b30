"""Credits: grants that are given or bought, and how they came and went, over the API and the real flow."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from tests.api.conftest import Client, plan
from tests.api.test_gate import reasons
from tests.conftest import Stores
from tests.engine_runs import drain

V1 = "/api/v1"
GRANTS = "/api/v3/openmeter/customers/acme/credits/grants"
TRANSACTIONS = "/api/v3/openmeter/customers/acme/credits/transactions"
BALANCE = "/api/v3/openmeter/customers/acme/credits/balance"
GRANT = {"name": "Top-up", "currency": "USD", "amount": "10"}


def granted(client: Client, **fields: Any) -> dict[str, Any]:
    """A grant, made over the API."""
    answer = client.post(GRANTS, json=GRANT | {"funding_method": "none"} | fields)
    assert answer.status_code == 201, answer.text
    return answer.json()  # type: ignore[no-any-return]


def got(client: Client, path: str, **parameters: Any) -> Any:
    """The JSON of an answer that has to be 200."""
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def use(client: Client, ids: list[str], at: datetime) -> None:
    """Calls of the customer `acme` at an instant."""
    events = [
        {"specversion": "1.0", "id": id_, "source": "test", "type": "call", "subject": "acme", "time": at.isoformat()}
        for id_ in ids
    ]
    answer = client.post(f"{V1}/events", json=events)
    assert answer.status_code == 204, answer.text


def transactions(client: Client, size: int, **parameters: Any) -> list[dict[str, Any]]:
    """All movements, the newest first, read page by page; each page is found again from the one after it."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        place = {"page[size]": size} | ({"page[after]": cursor} if cursor else {})
        page = got(client, TRANSACTIONS, **place, **parameters)
        before = page["meta"]["page"]["previous"]
        if before is not None:
            back = got(client, TRANSACTIONS, **{"page[size]": size, "page[before]": before}, **parameters)
            assert back["data"] == found[-size:]
        found += page["data"]
        cursor = page["meta"]["page"]["next"]
        if cursor is None:
            return found


@pytest.mark.parametrize("mode", ["credit_only", "credit_then_invoice"])
@pytest.mark.parametrize("seed", range(2))
def test_movements_of_a_random_history_chain_exactly(client: Client, stores: Stores, mode: str, seed: int) -> None:
    """
    Grants with priorities, features, ends and beginnings, some voided, some made after the usage they pay for, and
    usage that comes late: each movement starts from the balance in which the one before it ended.
    """
    chance = random.Random(f"{mode}-{seed}")
    client.post(f"{V1}/meters", json={"slug": "calls", "eventType": "call", "aggregation": "COUNT"})
    for key, meter in (("calls", "calls"), ("seats", None)):
        client.post(f"{V1}/features", json={"key": key, "name": key} | ({"meterSlug": meter} if meter else {}))
    tiers = [{"upToAmount": "30", "unitPrice": {"type": "unit", "amount": "0.01"}, "flatPrice": None}]
    tiers.append({"unitPrice": {"type": "unit", "amount": "0.003333"}, "flatPrice": {"type": "flat", "amount": "0.5"}})
    body = plan("tiers", settlementMode=mode)
    price = {"type": "tiered", "mode": chance.choice(["graduated", "volume"]), "tiers": tiers}
    body["phases"][0]["rateCards"][0]["price"] = price
    draft = client.post(f"{V1}/plans", json=body)
    assert draft.status_code == 201, draft.text
    client.post(f"{V1}/plans/{draft.json()['id']}/publish")
    client.post(f"{V1}/customers", json={"key": "acme", "name": "Acme"})
    now = datetime.now(UTC)
    start = now - timedelta(hours=12)
    held = client.post(
        f"{V1}/subscriptions", json={"plan": {"key": "tiers"}, "customerKey": "acme", "timing": start.isoformat()}
    )
    assert held.status_code == 201, held.text
    made: list[str] = []
    for step in range(8):
        for _ in range(chance.randrange(3)):
            fields: dict[str, Any] = {
                "amount": f"{chance.randrange(1, 60) / 100}",
                "priority": chance.choice([1, 10, 10]),
                "effective_at": (start + timedelta(hours=chance.randrange(14))).isoformat(),
            }
            if chance.random() < 0.4:
                fields["expires_after"] = f"PT{chance.randrange(1, 15)}H"
            if chance.random() < 0.3:
                fields["filters"] = {"features": [chance.choice(["calls", "seats"])]}
            made.append(granted(client, **fields)["id"])
        if made and chance.random() < 0.3:
            assert client.post(f"{GRANTS}/{chance.choice(made)}/void", json={}).status_code in (200, 409)
        at = start + timedelta(hours=chance.uniform(0, 12))
        use(client, [f"{step}-{number}" for number in range(chance.randrange(25))], at)
        drain(stores)
        check(client, chance.randrange(1, 6))
    types = {one["type"] for one in transactions(client, 100)}
    assert {"funded", "consumed"} <= types


def check(client: Client, size: int) -> None:
    """The movements chain, and come to what the balance and the grants say."""
    found = transactions(client, size)
    assert len({one["id"] for one in found}) == len(found)
    for newer, older in pairwise(found):
        assert newer["available_balance"]["before"] == older["available_balance"]["after"]
        assert newer["booked_at"] >= older["booked_at"]
    for one in found:
        before, after = (Decimal(one["available_balance"][name]) for name in ("before", "after"))
        assert before + Decimal(one["amount"]) == after
        assert (Decimal(one["amount"]) > 0) == (one["type"] == "funded")
    if found:
        assert found[-1]["available_balance"]["before"] == "0"
    grants = got(client, GRANTS)["data"]
    active = sum(Decimal(grant["available"]) for grant in grants if grant["status"] == "active")
    (balance,) = got(client, BALANCE)["balances"]
    assert Decimal(balance["settled"]) == active
    assert Decimal(found[0]["available_balance"]["after"] if found else 0) == active
    consumed = -sum(Decimal(one["amount"]) for one in found if one["type"] == "consumed")
    assert consumed == sum(Decimal(grant["consumed"]) for grant in grants)


def test_movements_can_be_chosen(shop: Client, stores: Stores) -> None:
    """By type, feature and currency; balances are those of all movements."""
    granted(shop)
    use(shop, ["1", "2"], datetime.now(UTC))
    drain(stores)
    everything = transactions(shop, 100)
    assert [one["type"] for one in everything] == ["consumed", "funded"]
    assert transactions(shop, 100, **{"filter[type]": "consumed"}) == everything[:1]
    assert transactions(shop, 100, **{"filter[feature_key]": "calls"}) == everything[:1]
    assert transactions(shop, 100, **{"filter[currency]": "EUR"}) == []
    both = shop.get(TRANSACTIONS, params={"page[after]": "a", "page[before]": "b"})
    assert both.status_code == 400
    assert shop.get(TRANSACTIONS, params={"filter[type]": "earned"}).status_code == 400


def test_credits_that_are_bought_come_on_the_next_invoice(shop: Client, stores: Stores) -> None:
    """At what they cost; usage is paid with them, and the grant says which invoice it is on."""
    bought = granted(
        shop, funding_method="invoice", amount="100", purchase={"currency": "USD", "per_unit_cost_basis": "0.805"}
    )
    assert bought["purchase"] == {
        "currency": "USD",
        "per_unit_cost_basis": "0.805",
        "amount": "80.5",
        "availability_policy": "on_creation",
        "settlement_status": "pending",
    }
    assert "invoice" not in bought
    use(shop, ["1", "2"], datetime.now(UTC))
    drain(stores)
    customer = got(shop, f"{V1}/customers/acme")["id"]
    made = shop.post(f"{V1}/billing/invoices/invoice", json={"customerId": customer})
    assert made.status_code == 201, made.text
    (invoice,) = made.json()
    lines = {line["name"]: line for line in invoice["lines"]}
    assert {name: line["totals"]["total"] for name, line in lines.items()} == {"Calls": "0", "Top-up": "80.5"}
    assert (lines["Top-up"]["type"], lines["Top-up"]["metadata"]) == ("flat_fee", {"grantId": bought["id"]})
    reference = {"id": invoice["id"], "line": {"id": lines["Top-up"]["id"]}}
    assert got(shop, f"{GRANTS}/{bought['id']}")["invoice"] == reference
    assert shop.delete(f"{V1}/billing/invoices/{invoice['id']}").status_code == 204
    assert "invoice" not in got(shop, f"{GRANTS}/{bought['id']}")


def test_credits_that_are_paid_elsewhere_are_on_no_invoice(shop: Client) -> None:
    """How far the payment has come is noted, and credits can be used all the same; others have no such payment."""
    wired = granted(shop, funding_method="external", purchase={"currency": "USD"})
    assert (wired["purchase"]["amount"], wired["status"]) == ("10", "active")
    path = f"{GRANTS}/{wired['id']}/settlement/external"
    for status in ("authorized", "settled"):
        assert shop.post(path, json={"status": status}).json()["purchase"]["settlement_status"] == status
    assert shop.post(path, json={"status": "stolen"}).status_code == 400
    given = granted(shop)
    unpriced = granted(shop, funding_method="invoice")
    for other in (given, unpriced):
        assert "purchase" not in other
        assert shop.post(f"{GRANTS}/{other['id']}/settlement/external", json={"status": "settled"}).status_code == 409
    customer = got(shop, f"{V1}/customers/acme")["id"]
    refused = shop.post(f"{V1}/billing/invoices/invoice", json={"customerId": customer})
    assert refused.json()["extensions"]["validationErrors"][0]["code"] == "invoice_create_no_lines"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"funding_method": "none", "purchase": {"currency": "USD"}}, "purchase"),
        ({"funding_method": "invoice", "purchase": {"currency": "EUR"}}, "purchase.currency"),
        (
            {"funding_method": "invoice", "purchase": {"currency": "USD", "per_unit_cost_basis": "0"}},
            "purchase.per_unit_cost_basis",
        ),
    ],
)
def test_a_purchase_that_cannot_be_billed_is_refused(shop: Client, fields: dict[str, Any], field: str) -> None:
    """And no grant is left behind."""
    answer = shop.post(GRANTS, json=GRANT | fields)
    assert answer.status_code == 400, answer.text
    assert [one["field"] for one in answer.json()["invalid_parameters"]] == [field]
    assert got(shop, GRANTS)["data"] == []


def test_want_of_credit_counts_unless_it_is_not_asked_for(client: Client, stores: Stores) -> None:
    """`include_credits` is true by default: a gate that forgets to ask does not let blocked customers through."""
    client.post(f"{V1}/meters", json={"slug": "calls", "eventType": "call", "aggregation": "COUNT"})
    client.post(f"{V1}/features", json={"key": "calls", "name": "Calls", "meterSlug": "calls"})
    draft = client.post(f"{V1}/plans", json=plan("prepaid", settlementMode="credit_only")).json()
    client.post(f"{V1}/plans/{draft['id']}/publish")
    client.post(f"{V1}/customers", json={"key": "acme", "name": "Acme"})
    client.post(f"{V1}/subscriptions", json={"plan": {"key": "prepaid"}, "customerKey": "acme"})
    drain(stores)
    assert reasons(client, "acme", "calls") == {"calls": "no_credit_available"}
    assert reasons(client, "acme", "calls", include_credits=True) == {"calls": "no_credit_available"}
    assert reasons(client, "acme", "calls", include_credits=False) == {"calls": None}
    granted(client)
    drain(stores)
    assert reasons(client, "acme", "calls") == {"calls": None}
