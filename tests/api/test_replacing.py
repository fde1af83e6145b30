"""PUT replaces, everywhere: what is left out is emptied, or gets its default; what can't change stays."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tests.api.conftest import Client, plan

V1, V3 = "/api/v1", "/api/v3/openmeter"


class Replaced(NamedTuple):
    """A thing with a value in every field, and what it has after a PUT of the least that has to be sent."""

    lists: str
    key: str
    whole: dict[str, Any]
    least: dict[str, Any]
    empty: dict[str, Any]
    """What fields come to that were left out; None: there is none."""
    fixed: tuple[str, ...]
    """Fields that never change, sent or not."""


CUSTOMER = {
    "key": "full",
    "name": "Full",
    "description": "d",
    "currency": "EUR",
    "metadata": {"a_b": "c"},
    "primaryEmail": "a@b.c",
    "billingAddress": {"city": "Berlin"},
    "usageAttribution": {"subjectKeys": ["one", "two"]},
    "blockWhenExhausted": True,
    "lowBalanceThresholds": ["10", "5"],
}
CUSTOMER_V3 = {
    "key": "full",
    "name": "Full",
    "description": "d",
    "currency": "EUR",
    "labels": {"a_b": "c"},
    "primary_email": "a@b.c",
    "billing_address": {"city": "Berlin"},
    "usage_attribution": {"subject_keys": ["one", "two"]},
    "block_when_exhausted": True,
    "low_balance_thresholds": ["10", "5"],
}
METER = {
    "slug": "full",
    "eventType": "e",
    "aggregation": "SUM",
    "valueProperty": "$.n",
    "groupBy": {"model": "$.model"},
    "name": "Full",
    "description": "d",
    "metadata": {"a_b": "c"},
}
PLAN = plan(
    "full",
    description="d",
    metadata={"a_b": "c"},
    alignment={"billablesMustAlign": False},
    proRatingConfig={"enabled": False, "mode": "prorate_prices"},
    settlementMode="credit_only",
)
ROUTES = {
    f"{V1}/customers/{{customer}}": Replaced(
        f"{V1}/customers",
        "full",
        CUSTOMER,
        {"name": "Least"},
        {
            "description": None,
            "metadata": None,
            "primaryEmail": None,
            "billingAddress": None,
            "usageAttribution": {"subjectKeys": []},
            "blockWhenExhausted": False,
            "lowBalanceThresholds": [],
        },
        ("id", "key", "currency", "createdAt"),
    ),
    f"{V3}/customers/{{customer}}": Replaced(
        f"{V3}/customers",
        "full",
        CUSTOMER_V3,
        {"key": "full", "name": "Least"},
        {
            "description": None,
            "labels": None,
            "primary_email": None,
            "billing_address": None,
            "usage_attribution": {"subject_keys": []},
            "block_when_exhausted": False,
            "low_balance_thresholds": [],
        },
        ("id", "key", "currency", "created_at"),
    ),
    f"{V1}/meters/{{meter}}": Replaced(
        f"{V1}/meters",
        "full",
        METER,
        {},
        {"name": "full", "description": None, "metadata": None},
        ("id", "slug", "eventType", "aggregation", "valueProperty", "groupBy", "createdAt"),
    ),
    f"{V1}/plans/{{plan}}": Replaced(
        f"{V1}/plans",
        "full",
        PLAN,
        {"name": "Least", "billingCadence": "P1M", "phases": PLAN["phases"]},
        {
            "description": None,
            "metadata": None,
            "alignment": {"billablesMustAlign": True},
            "proRatingConfig": {"enabled": True, "mode": "prorate_prices"},
            "settlementMode": "credit_then_invoice",
        },
        ("id", "key", "currency", "version", "createdAt"),
    ),
}


def test_every_route_is_in_the_table(client: Client) -> None:
    """One that is new is looked at too."""
    paths = client.get("/openapi.json").json()["paths"]
    assert {path for path, item in paths.items() if "put" in item} == ROUTES.keys()


@pytest.mark.parametrize("path", ROUTES)
def test_put_replaces_all_that_can_change(shop: Client, path: str) -> None:
    """The least that has to be sent empties the rest; all of it, sent again, is there again."""
    route = ROUTES[path]
    made = shop.post(route.lists, json=route.whole)
    assert made.status_code == 201, made.text
    before = made.json()
    where = f"{route.lists}/{route.key}"
    assert {name: before[name] for name in route.empty} == {name: route.whole[name] for name in route.empty}

    changed = shop.put(where, json=route.least)
    assert changed.status_code == 200, changed.text
    after = changed.json()
    assert {name: after.get(name) for name in route.empty} == route.empty
    assert {name: after[name] for name in route.fixed} == {name: before[name] for name in route.fixed}
    assert all(after[name] == value for name, value in route.least.items() if name != "phases")
    assert shop.get(where).json() == after

    again = {name: value for name, value in route.whole.items() if name in route.empty or name in route.least}
    restored = shop.put(where, json=route.least | again)
    assert restored.status_code == 200, restored.text
    assert {name: restored.json()[name] for name in route.empty} == {name: before[name] for name in route.empty}


@pytest.mark.parametrize("path", ROUTES)
def test_null_is_as_good_as_nothing(shop: Client, path: str) -> None:
    """A field that may be null and is, is emptied too."""
    route = ROUTES[path]
    assert shop.post(route.lists, json=route.whole).status_code == 201
    nulls = {name: None for name in route.empty if name != "settlementMode"}
    changed = shop.put(f"{route.lists}/{route.key}", json=route.least | nulls)
    assert changed.status_code == 200, changed.text
    assert {name: changed.json().get(name) for name in route.empty} == route.empty
