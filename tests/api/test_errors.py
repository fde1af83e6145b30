"""What is answered to requests that can't be answered as asked: the code, the shape, and the field that is named."""

from __future__ import annotations

from typing import Any

import pytest

from rating.events import BYTE_ORDER_MARK
from tests.api.conftest import Client, plan

V1 = "/api/v1"
V3 = "/api/v3/openmeter"
GRANTS = f"{V3}/customers/acme/credits/grants"
GRANT = {"name": "Top-up", "funding_method": "none", "currency": "USD", "amount": "5"}
EVENT = {"specversion": "1.0", "id": "1", "source": "s", "type": "call", "subject": "acme"}
CARD: dict[str, Any] = plan("x")["phases"][0]["rateCards"][0]


def with_card(**fields: Any) -> dict[str, Any]:
    """A plan whose one rate card differs in some fields."""
    body = plan("other")
    body["phases"][0]["rateCards"] = [CARD | fields]
    return body


FAILURES: list[tuple[str, str, Any, int, str | None]] = [
    # method and path, body, status, field
    ("GET", f"{V1}/customers/nobody", None, 404, None),
    ("GET", f"{V1}/meters/nothing", None, 404, None),
    ("GET", f"{V1}/meters/nothing/query", None, 404, None),
    ("GET", f"{V1}/meters/calls/query?windowSize=MINUTE", None, 400, "windowSize"),
    ("GET", f"{V1}/meters?page=0", None, 400, "page"),
    ("GET", f"{V1}/features/nothing", None, 404, None),
    ("GET", f"{V1}/plans/nothing", None, 404, None),
    ("GET", f"{V1}/subscriptions/nothing", None, 404, None),
    ("GET", f"{V1}/billing/invoices/nothing", None, 404, None),
    ("GET", f"{V1}/nowhere", None, 404, None),
    ("PATCH", f"{V1}/customers/acme", {}, 405, None),
    ("POST", f"{V1}/customers", {"key": "other"}, 400, "name"),
    ("POST", f"{V1}/customers", {"key": "a b", "name": "A"}, 400, "key"),
    ("POST", f"{V1}/customers", {"key": "acme", "name": "A"}, 409, "key"),
    ("POST", f"{V1}/customers", {"key": "b", "name": "B", "currency": "usd"}, 400, "currency"),
    (
        "POST",
        f"{V1}/customers",
        {"key": "b", "name": "B", "usageAttribution": {"subjectKeys": ["acme-app"]}},
        409,
        "usageAttribution.subjectKeys[0]",
    ),
    ("PUT", f"{V1}/customers/acme", {"key": "else", "name": "A"}, 409, "key"),
    ("DELETE", f"{V1}/customers/acme", None, 409, "id"),
    ("POST", f"{V1}/meters", {"slug": "Big", "eventType": "e", "aggregation": "COUNT"}, 400, "slug"),
    ("POST", f"{V1}/meters", {"slug": "m", "eventType": "e", "aggregation": "SUM"}, 400, "valueProperty"),
    ("POST", f"{V1}/meters", {"slug": "m", "eventType": "e", "aggregation": "TOTAL"}, 400, "aggregation"),
    ("POST", f"{V1}/meters", {"slug": "calls", "eventType": "e", "aggregation": "COUNT"}, 409, "slug"),
    ("POST", f"{V1}/features", {"key": "f", "name": "F", "meterSlug": "none"}, 400, "meterSlug"),
    ("POST", f"{V1}/features", {"key": "calls", "name": "F"}, 409, "key"),
    (
        "POST",
        f"{V1}/plans",
        with_card(price={"type": "unit", "amount": "-1"}),
        400,
        "phases[0].rateCards[0].price.amount",
    ),
    (
        "POST",
        f"{V1}/plans",
        with_card(price={"type": "unit", "amount": 0.1}),
        400,
        "phases[0].rateCards[0].price.amount",
    ),
    ("POST", f"{V1}/plans", with_card(type="flat_fee"), 400, "phases[0].rateCards[0].price"),
    ("POST", f"{V1}/plans", with_card(billingCadence=None), 400, "phases[0].rateCards[0].billingCadence"),
    ("POST", f"{V1}/subscriptions", {"plan": {"key": "none"}, "customerKey": "free"}, 404, None),
    ("POST", f"{V1}/subscriptions", {"plan": {"key": "basic"}, "customerKey": "acme"}, 409, "customerId"),
    ("POST", f"{V1}/subscriptions", {"plan": {"key": "basic"}}, 400, "customerId"),
    ("POST", f"{V1}/billing/invoices/invoice", {"customerId": "acme"}, 400, "customerId"),
    ("POST", f"{V1}/events", EVENT | {"subject": ""}, 400, "subject"),
    ("POST", f"{V1}/events", [EVENT, EVENT | {"id": 7}], 400, "[1].id"),
    ("GET", f"{V3}/customers/nobody/credits/balance", None, 404, None),
    ("GET", f"{V3}/customers/nobody/charges", None, 404, None),
    ("GET", f"{V3}/nowhere", None, 404, None),
    ("POST", f"{V3}/customers", {"key": "c", "name": "C", "colour": "red"}, 400, "colour"),
    ("POST", GRANTS, GRANT | {"amount": "0"}, 400, "amount"),
    ("POST", GRANTS, GRANT | {"amount": 5}, 400, "amount"),
    ("POST", f"{V1}/plans", plan("A-B"), 400, "key"),
    ("POST", f"{V1}/plans", plan("other", currency="usd"), 400, "currency"),
    ("POST", f"{V1}/plans", plan("other", billingCadence="1M"), 400, "billingCadence"),
    ("POST", f"{V1}/plans", plan("other", phases=[]), 400, "phases"),
    ("POST", f"{V1}/plans", with_card(billingCadence=None), 400, "phases[0].rateCards[0].billingCadence"),
    ("POST", GRANTS, GRANT | {"amount": "1e3"}, 400, "amount"),
    ("POST", GRANTS, GRANT | {"currency": "EUR"}, 400, "currency"),
    ("POST", GRANTS, GRANT | {"priority": 0}, 400, "priority"),
    ("POST", GRANTS, GRANT | {"filters": {"features": ["none"]}}, 400, "filters.features[0]"),
    ("POST", GRANTS, GRANT | {"expires_after": "1 month"}, 400, "expires_after"),
    ("POST", GRANTS, GRANT | {"colour": "red"}, 400, "colour"),
    ("POST", GRANTS, {"name": "x"}, 400, "funding_method"),
    ("POST", f"{V3}/events", [EVENT, {**EVENT, "specversion": "2"}], 400, "[1].specversion"),
    ("POST", f"{V3}/entitlement-access/query", {"customer": {"keys": []}}, 400, "customer.keys"),
    ("POST", f"{V3}/entitlement-access/query", {"customer": {"keys": ["a"] * 101}}, 400, "customer.keys"),
]


def test_each_failure_is_a_problem_of_its_api(shop: Client) -> None:
    """The code is OpenMeter's, the shape is that of v1 or v3, and a wrong field is named by its path."""
    assert shop.post(f"{V1}/customers", json={"key": "free", "name": "Free"}).status_code == 201
    wrong = []
    for method, path, body, status, field in FAILURES:
        answer = shop.request(method, path, json=body)
        found = answer.json()
        shape = {"type", "title", "status", "detail", "instance"}
        ok = answer.status_code == found["status"] == status
        ok = ok and answer.headers["content-type"] == "application/problem+json" and shape <= set(found)
        if path.startswith("/api/v3"):
            named = [item["field"] for item in found.get("invalid_parameters", [])]
        else:
            named = [item["field"] for item in found["extensions"]["validationErrors"]]
        if not ok or (field is not None and field not in named):
            wrong.append((method, path, body, answer.status_code, answer.text))
    assert not wrong, "\n".join(map(str, wrong))


NO_JSON: list[tuple[bytes, str, int]] = [
    # body, media type, status
    (b"", "application/json", 400),
    (b"{", "application/json", 400),
    (b"null", "application/json", 400),
    (b"[]", "application/json", 400),
    (b'{"name": "a"} {}', "application/json", 400),
    (b'{"name": "\xff"}', "application/json", 400),
    (b'{"name": "a", "other": "\xff"}', "application/json", 400),
    (b'{"name": "\\ud800"}', "application/json", 400),
    (b'{"name": "a\\u0000"}', "application/json", 400),
    (b'{"name": "a", "metadata": {"\\u0000": "b"}}', "application/json", 400),
    (b'{"name": "a", "billingAddress": {"city": ["\\u0000"]}}', "application/json", 400),
    (b'{"name": "a", "billingAddress": ' + b'{"a":' * 20_000, "application/json", 400),
    (b'{"name": "a", "billingAddress": {"a": 1e999}}', "application/json", 400),
    (BYTE_ORDER_MARK * 2 + b'{"name": "a"}', "application/json", 400),
    (BYTE_ORDER_MARK + b'{"name": "a"}', "application/json", 201),
    (b'{"name": "a"}', "text/plain", 415),
    (b"name=a", "application/x-www-form-urlencoded", 415),
    (b'{"name": "a\\\\u0000"}', "application/json; charset=utf-8", 201),
    ('{"name": "\u202eé🪙\x7f"}'.encode(), "application/json", 201),
]


@pytest.mark.parametrize(("body", "media_type", "status"), NO_JSON)
def test_a_body_has_to_be_json_that_can_be_kept(client: Client, body: bytes, media_type: str, status: int) -> None:
    """Broken JSON, bytes that are no text and a NUL are refused; what another site's page could send is too."""
    answer = client.post(f"{V1}/customers", content=body, headers={"content-type": media_type})
    assert answer.status_code == status, answer.text
    if status == 415:
        assert client.put(f"{V1}/meters/x", content=body, headers={"content-type": media_type}).status_code == 415


def test_a_number_is_not_read_from_a_text_nor_an_instant_from_a_number(shop: Client) -> None:
    """Bodies are read as they are described, and the field that is not is named."""
    wrong: list[tuple[str, dict[str, Any], str]] = [
        (GRANTS, GRANT | {"priority": "5"}, "priority"),
        (GRANTS, GRANT | {"priority": 10**30}, "priority"),
        (GRANTS, GRANT | {"effective_at": 1_700_000_000}, "effective_at"),
        (GRANTS, GRANT | {"effective_at": "2026-01-01T00:00:00"}, "effective_at"),
        (GRANTS, GRANT | {"effective_at": "0001-01-01T00:00:00Z"}, "effective_at"),
        (GRANTS, GRANT | {"amount": "9" * 203}, "amount"),
        (GRANTS, GRANT | {"filters": {"features": "calls"}}, "filters.features"),
        (f"{V3}/customers", {"key": "a", "name": "A", "block_when_exhausted": "true"}, "block_when_exhausted"),
        (f"{V3}/subscriptions", {"plan": {"key": "basic", "version": "1"}}, "plan.version"),
    ]
    for path, body, field in wrong:
        answer = shop.post(path, json=body)
        assert answer.status_code == 400, (body, answer.text)
        assert [item["field"] for item in answer.json()["invalid_parameters"]] == [field]


def test_another_method_is_told_which_there_are(client: Client) -> None:
    """405 with `Allow`, also where the path has a name in it."""
    answer = client.request("PATCH", f"{V1}/customers/acme")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, OPTIONS, PUT")
    assert client.request("PATCH", f"{V1}/events").headers["allow"] == "OPTIONS, POST"


def test_the_same_grant_key_again_is_a_conflict(shop: Client) -> None:
    """The second of two grants with one key is refused, whatever it says; there is one grant."""
    first = shop.post(GRANTS, json=GRANT | {"key": "once"})
    assert first.status_code == 201
    assert shop.post(GRANTS, json=GRANT | {"key": "once"}).status_code == 409
    assert shop.post(GRANTS, json=GRANT | {"key": "once", "amount": "7"}).status_code == 409
    found = shop.get(GRANTS).json()
    assert found["meta"]["page"] == {"size": 100, "number": 1, "total": 1}
    assert found["data"][0]["id"] == first.json()["id"]


def test_an_expired_grant_cannot_be_voided(shop: Client) -> None:
    """Voiding takes back what is left; an expired grant has nothing left, one of another customer is not found."""
    old = GRANT | {"effective_at": "2026-01-01T00:00:00Z", "expires_after": "P1D"}
    expired = shop.post(GRANTS, json=old).json()
    assert expired["status"] == "expired"
    assert expired["expires_at"] == "2026-01-02T00:00:00Z"
    assert shop.post(f"{GRANTS}/{expired['id']}/void", json={}).status_code == 409
    fresh = shop.post(
        GRANTS, json=GRANT | {"labels": {"campaign": "spring"}, "filters": {"features": ["calls"]}}
    ).json()
    assert fresh["filters"] == {"features": ["calls"]}
    voided = shop.post(f"{GRANTS}/{fresh['id']}/void", json={"payment_adjustment": "none"})
    assert voided.status_code == 200
    assert voided.json()["status"] == "voided"
    assert shop.get(f"{GRANTS}/{fresh['id']}").json()["labels"] == {"campaign": "spring"}
    assert shop.post(f"{V1}/customers", json={"key": "other", "name": "Other"}).status_code == 201
    assert shop.get(f"{V3}/customers/other/credits/grants/{fresh['id']}").status_code == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"])
def test_it_shows_itself(client: Client, path: str) -> None:
    """Health, metrics and the description are there."""
    answer = client.get(path)
    assert answer.status_code == 200
    if path == "/openapi.json":
        assert "/api/v1/events" in answer.json()["paths"]
    if path == "/docs":
        assert "/api/v3/openmeter/entitlement-access/query" in answer.text
        assert "http" not in answer.text.replace("http://www.w3.org", "")
