"""What clients may send as a number, and that errors call fields what requests call them."""

from __future__ import annotations

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
