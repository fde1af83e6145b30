"""What clients may send as a number, and that errors call fields what requests call them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.conftest import Client, plan

V1 = "/api/v1"
V3 = "/api/v3/openmeter"


@pytest.mark.parametrize("percentage", [12.5, 10.0, 10, "12.5"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_percentage_is_a_number_as_the_client_sends_it(shop: Client, percentage: Any, wrapped: bool) -> None:
    """OpenMeter's Python client declares it a float, and writes 10 as 10.0."""
    body = plan("pct")
    body["phases"][0]["rateCards"][0]["discounts"] = {
        "percentage": {"percentage": percentage} if wrapped else percentage
    }
    made = shop.post(f"{V1}/plans", json=body)
    assert made.status_code == 201, made.text
    assert shop.post(f"{V1}/plans/{made.json()['id']}/publish").status_code == 200


@pytest.mark.parametrize("percentage", [100.5, -0.5, None, True])
def test_a_percentage_is_within_bounds(shop: Client, percentage: Any) -> None:
    """Nothing below 0 or above 100, and something."""
    body = plan("pct")
    body["phases"][0]["rateCards"][0]["discounts"] = {"percentage": {"percentage": percentage}}
    assert shop.post(f"{V1}/plans", json=body).status_code == 400


LONG = "1" * 101
WHOLE = {"key": "b", "name": "b"}
GRANT = {"name": "g", "funding_method": "none", "currency": "USD", "amount": "1"}
BOUGHT = GRANT | {"funding_method": "invoice"}
GRANTS = f"{V3}/customers/acme/credits/grants"


def priced(price: Any, **card: Any) -> dict[str, Any]:
    body = plan("long")
    body["phases"][0]["rateCards"][0] |= {"price": price, **card}
    return body


UNIT = {"type": "unit", "amount": "1"}
DECIMALS: list[tuple[str, Any, str]] = [
    # path, body with LONG in a field, the field as the answer has to name it
    (f"{V1}/customers", WHOLE | {"lowBalanceThresholds": ["1", LONG]}, "lowBalanceThresholds[1]"),
    (f"{V3}/customers", WHOLE | {"low_balance_thresholds": [LONG]}, "low_balance_thresholds[0]"),
    (GRANTS, GRANT | {"amount": LONG}, "amount"),
    (GRANTS, BOUGHT | {"purchase": {"currency": "USD", "per_unit_cost_basis": LONG}}, "purchase.per_unit_cost_basis"),
    (f"{V1}/plans", priced({"type": "unit", "amount": LONG}), "phases[0].rateCards[0].price.amount"),
    (f"{V1}/plans", priced(UNIT | {"minimumAmount": LONG}), "phases[0].rateCards[0].price.minimumAmount"),
    (f"{V1}/plans", priced(UNIT | {"maximumAmount": LONG}), "phases[0].rateCards[0].price.maximumAmount"),
    (
        f"{V1}/plans",
        priced({"type": "package", "amount": "1", "quantityPerPackage": LONG}),
        "phases[0].rateCards[0].price.quantityPerPackage",
    ),
    (f"{V1}/plans", priced({"type": "dynamic", "multiplier": LONG}), "phases[0].rateCards[0].price.multiplier"),
    (
        f"{V1}/plans",
        priced({"type": "tiered", "mode": "volume", "tiers": [{"upToAmount": LONG, "unitPrice": UNIT}]}),
        "phases[0].rateCards[0].price.tiers[0].upToAmount",
    ),
    (
        f"{V1}/plans",
        priced(UNIT, discounts={"usage": {"quantity": LONG}}),
        "phases[0].rateCards[0].discounts.usage.quantity",
    ),
    (
        f"{V1}/plans",
        priced(UNIT, discounts={"percentage": {"percentage": LONG}}),
        "phases[0].rateCards[0].discounts.percentage.percentage",
    ),
    (
        f"{V1}/plans",
        priced(UNIT, unitConfig={"operation": "divide", "conversionFactor": LONG}),
        "phases[0].rateCards[0].unitConfig.conversionFactor",
    ),
    (
        f"{V1}/plans",
        priced(UNIT, entitlementTemplate={"type": "metered", "issueAfterReset": LONG}),
        "phases[0].rateCards[0].entitlementTemplate.issueAfterReset",
    ),
]


def with_number(body: Any, number: str) -> Any:
    """A body with another number in the place of the long one."""
    return json.loads(json.dumps(body).replace(LONG, number))


@pytest.mark.parametrize("number", [LONG, "1" * 202, "0." + "0" * 100 + "1", "1" * 5000, "1\\n"], ids=len)
@pytest.mark.parametrize(("path", "body", "field"), DECIMALS, ids=[field for _, _, field in DECIMALS])
def test_a_number_with_too_many_digits_is_refused_by_its_field(
    shop: Client, path: str, body: Any, field: str, number: str
) -> None:
    """Each decimal of each body has at most 100 digits before and after the point, and nothing after them."""
    refused = shop.post(path, json=with_number(body, number))
    assert refused.status_code == 400, refused.text
    problem = refused.json()
    found = problem.get("invalid_parameters") or problem["extensions"]["validationErrors"]
    assert [item["field"] for item in found] == [field], refused.text


METER = {"eventType": "e", "aggregation": "COUNT"}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (
            "customers",
            {"key": "b", "name": "b", "usageAttribution": {"subjectKeys": ["acme-app"]}},
            "usageAttribution.subjectKeys[0]",
        ),
        ("meters", METER | {"slug": "A-b"}, "slug"),
        (
            "features",
            {"key": "b", "name": "b", "meterSlug": "calls", "meterGroupByFilters": {"no": "x"}},
            "meterGroupByFilters.no",
        ),
        ("subscriptions", {"customerKey": "new", "plan": {"key": "basic", "version": 7}}, "plan.version"),
    ],
)
def test_errors_of_v1_name_the_field_that_was_sent(shop: Client, path: str, body: Any, field: str) -> None:
    """Not what the control plane calls it."""
    shop.post(f"{V1}/customers", json={"key": "new", "name": "New"})
    refused = shop.post(f"{V1}/{path}", json=body)
    assert refused.json()["extensions"]["validationErrors"][0]["field"] == field, refused.text


def test_errors_of_v3_are_in_snake_case(shop: Client) -> None:
    """All along the path."""
    card = {
        "key": "calls",
        "name": "Calls",
        "feature": {"id": shop.get(f"{V1}/features/calls").json()["id"]},
        "billing_cadence": "P1M",
        "price": {"type": "unit", "amount": "-1"},
    }
    body = {
        "key": "p3",
        "name": "P",
        "currency": "USD",
        "billing_cadence": "P1M",
        "phases": [{"key": "main", "name": "Main", "rate_cards": [card]}],
    }
    (found,) = shop.post(f"{V3}/plans", json=body).json()["invalid_parameters"]
    assert found["field"] == "phases[0].rate_cards[0].price.amount"
    grant = {
        "name": "g",
        "funding_method": "none",
        "currency": "USD",
        "amount": "1",
        "filters": {"features": ["nope"]},
    }
    (found,) = shop.post(f"{V3}/customers/acme/credits/grants", json=grant).json()["invalid_parameters"]
    assert found["field"] == "filters.features[0]"
