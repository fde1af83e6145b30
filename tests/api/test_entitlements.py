"""What a plan gives of a feature: limits that the gate holds customers to, configurations, and plain access."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
import redis

from rating.entitlements import MeteredEntitlement
from rating.fields import PriceError
from sinks.redis.keys import gate_key
from tests.api.conftest import Client, plan
from tests.api.test_gate import QUERY, reasons
from tests.conftest import Stores
from tests.engine_runs import drain, wait_for
from tollway.openmeter.entitlements import entitlement_from_v1, entitlement_to_v1

V1, V3 = "/api/v1", "/api/v3/openmeter"
METERED = {"type": "metered", "issueAfterReset": 5}
SEATS = {"type": "static", "config": '{"seats":3}'}


def limited(key: str, **entitlements: Any) -> dict[str, Any]:
    """A plan with a rate card for each feature, with its entitlement template."""
    body = plan(key)
    (phase,) = body["phases"]
    (card,) = phase["rateCards"]
    free = {"type": "usage_based", "billingCadence": "P1M", "price": None}
    phase["rateCards"] = [
        (card if feature == "calls" else free)
        | {"key": feature, "name": feature, "featureKey": feature, "entitlementTemplate": template}
        for feature, template in entitlements.items()
    ]
    return body


def publish(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """Publish a plan. Gives it as it is shown."""
    draft = client.post(f"{V1}/plans", json=body)
    assert draft.status_code == 201, draft.text
    published = client.post(f"{V1}/plans/{draft.json()['id']}/publish")
    assert published.status_code == 200, published.text
    return published.json()  # type: ignore[no-any-return]


def subscribe(client: Client, customer: str, plan_key: str, **fields: Any) -> dict[str, Any]:
    """A new customer on a plan."""
    client.post(f"{V1}/customers", json={"key": customer, "name": customer})
    body = {"plan": {"key": plan_key}, "customerKey": customer, **fields}
    answer = client.post(f"{V1}/subscriptions", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()  # type: ignore[no-any-return]


def call(client: Client, customer: str, number: int, at: datetime | None = None) -> None:
    """So many calls of a customer, now or at an instant."""
    at = at or datetime.now(UTC)
    call.sent += number  # type: ignore[attr-defined]
    events = [
        {
            "specversion": "1.0",
            "id": f"{call.sent}-{index}",  # type: ignore[attr-defined]
            "source": "test",
            "type": "call",
            "subject": customer,
            "time": at.isoformat(),
        }
        for index in range(number)
    ]
    answer = client.post(f"{V1}/events", json=events)
    assert answer.status_code == 204, answer.text


call.sent = 0  # type: ignore[attr-defined]


def value(client: Client, customer: str, feature: str = "calls") -> dict[str, Any]:
    """What the gate says of an entitlement."""
    answer = client.get(f"{V1}/customers/{customer}/entitlements/{feature}/value")
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


@pytest.fixture
def store(client: Client) -> Client:
    """The application with a meter and four features."""
    client.post(f"{V1}/meters", json={"slug": "calls", "eventType": "call", "aggregation": "COUNT"})
    for key in ("calls", "seats", "export", "other"):
        body = {"key": key, "name": key} | ({"meterSlug": "calls"} if key == "calls" else {})
        assert client.post(f"{V1}/features", json=body).status_code == 201
    return client


def test_a_customer_that_reached_its_limit_may_not_go_on(store: Client, stores: Stores) -> None:
    """Usage counts up to the limit; at the limit access ends, also without credits being asked for."""
    publish(store, limited("small", calls=METERED))
    subscribe(store, "acme", "small")
    assert value(store, "acme") == {
        "hasAccess": True,
        "balance": 5,
        "usage": 0,
        "overage": 0,
        "totalAvailableGrantAmount": 5,
    }
    call(store, "acme", 4)
    drain(stores)
    assert value(store, "acme")["balance"] == 1
    assert reasons(store, "acme", "calls") == {"calls": None}
    call(store, "acme", 3)
    drain(stores)
    assert value(store, "acme") == {
        "hasAccess": False,
        "balance": 0,
        "usage": 7,
        "overage": 2,
        "totalAvailableGrantAmount": 5,
    }
    for with_credits in (True, False):
        found = reasons(store, "acme", "calls", include_credits=with_credits)
        assert found == {"calls": "usage_limit_reached"}


def test_a_soft_limit_only_tells(store: Client, stores: Stores) -> None:
    """What is used beyond it is overage."""
    publish(store, limited("soft", calls=METERED | {"isSoftLimit": True}))
    subscribe(store, "acme", "soft")
    call(store, "acme", 7)
    drain(stores)
    found = value(store, "acme")
    assert (found["hasAccess"], found["usage"], found["overage"]) == (True, 7, 2)


def test_a_limit_starts_anew_with_each_billing_period(store: Client, stores: Stores) -> None:
    """Usage of the period before counts there, and no event has to come for the new one to begin."""
    publish(store, limited("small", calls=METERED))
    now = datetime.now(UTC)
    # The running period began an hour ago.
    subscribe(
        store,
        "acme",
        "small",
        timing=(now - timedelta(hours=1) - timedelta(days=31)).isoformat(),
        billingAnchor=(now - timedelta(hours=1)).isoformat(),
    )
    call(store, "acme", 9, now - timedelta(hours=3))
    drain(stores)
    assert (value(store, "acme")["hasAccess"], value(store, "acme")["usage"]) == (True, 0)
    call(store, "acme", 2)
    drain(stores)
    assert value(store, "acme")["usage"] == 2


def test_a_new_subscription_starts_its_limits_anew(store: Client, stores: Stores) -> None:
    """What was used under the plan before does not count, though its billing period would have gone on."""
    publish(store, limited("small", calls=METERED))
    publish(store, limited("bigger", calls=METERED | {"issueAfterReset": 6}))
    held = subscribe(store, "acme", "small")
    call(store, "acme", 5)
    drain(stores)
    assert value(store, "acme")["hasAccess"] is False
    body = {"timing": "immediate", "plan": {"key": "bigger"}}
    assert store.post(f"{V1}/subscriptions/{held['id']}/change", json=body).status_code == 200
    drain(stores)
    found = value(store, "acme")
    assert (found["hasAccess"], found["usage"], found["totalAvailableGrantAmount"]) == (True, 0, 6)
    call(store, "acme", 2)
    drain(stores)
    assert value(store, "acme")["balance"] == 4


def test_want_of_credit_and_a_limit_are_told_apart(store: Client, stores: Stores) -> None:
    """A limit that is reached is the reason, whatever is left of credits."""
    publish(store, limited("prepaid", calls=METERED) | {"settlementMode": "credit_only"})
    subscribe(store, "acme", "prepaid")
    drain(stores)
    assert reasons(store, "acme", "calls") == {"calls": "no_credit_available"}
    assert value(store, "acme")["hasAccess"] is False
    call(store, "acme", 5)
    drain(stores)
    assert reasons(store, "acme", "calls") == {"calls": "usage_limit_reached"}


def test_other_entitlements_hand_on_what_the_plan_says(store: Client, stores: Stores) -> None:
    """A configuration as it was written, plain access, usage that is only counted, and no template at all."""
    counted = {"type": "metered", "isSoftLimit": False, "usagePeriod": "P1M"}
    shown = publish(
        store, limited("mixed", calls={"type": "metered"}, seats=SEATS, export={"type": "boolean"}, other=None)
    )
    cards = {card["key"]: card.get("entitlementTemplate") for card in shown["phases"][0]["rateCards"]}
    assert cards == {"calls": counted, "seats": SEATS, "export": {"type": "boolean"}, "other": None}
    subscribe(store, "acme", "mixed")
    call(store, "acme", 3)
    drain(stores)
    assert value(store, "acme") == {"hasAccess": True, "usage": 3, "overage": 0}
    assert value(store, "acme", "seats") == {"hasAccess": True, "config": '{"seats":3}'}
    assert value(store, "acme", "export") == {"hasAccess": True}
    assert value(store, "acme", "other") == {"hasAccess": True, "balance": 0, "overage": 0}
    assert store.get(f"{V1}/customers/acme/access").json()["entitlements"].keys() == cards.keys()


def test_v3_writes_a_limit_in_its_own_words(store: Client, stores: Stores) -> None:
    """`limit` and `is_soft_limit`, and a configuration as an object."""
    card = {"billing_cadence": "P1M", "price": {"type": "free"}}
    body = {
        "key": "three",
        "name": "Three",
        "currency": "USD",
        "billing_cadence": "P1M",
        "phases": [
            {
                "key": "main",
                "name": "Main",
                "rate_cards": [
                    card
                    | {"key": "calls", "name": "Calls", "feature": {"key": "calls"}}
                    | {"entitlement": {"type": "metered", "limit": 2, "usage_period": "P1M"}},
                    card
                    | {"key": "seats", "name": "Seats", "feature": {"key": "seats"}}
                    | {"entitlement": {"type": "static", "config": {"seats": 3}}},
                ],
            }
        ],
    }
    draft = store.post(f"{V3}/plans", json=body)
    assert draft.status_code == 201, draft.text
    assert store.post(f"{V3}/plans/{draft.json()['id']}/publish").status_code == 200
    subscribe(store, "acme", "three")
    call(store, "acme", 2)
    drain(stores)
    assert value(store, "acme")["hasAccess"] is False
    assert value(store, "acme", "seats") == {"hasAccess": True, "config": '{"seats":3}'}


@pytest.mark.parametrize(
    ("template", "field"),
    [
        ({"type": "metered", "usagePeriod": "P1D"}, "usagePeriod"),
        ({"type": "metered", "issueAfterReset": -1}, "issueAfterReset"),
        ({"type": "metered", "issueAfterReset": True}, "issueAfterReset"),
        ({"type": "metered", "issueAfterReset": 1, "limit": 1}, "limit"),
        ({"type": "metered", "isSoftLimit": "no"}, "isSoftLimit"),
        ({"type": "metered", "isSoftLimits": True}, "isSoftLimits"),
        ({"type": "static"}, "config"),
        ({"type": "static", "config": "{"}, "config"),
        ({"type": "unlimited"}, "type"),
        ({}, "type"),
    ],
)
def test_a_template_that_cannot_be_kept_is_refused(store: Client, template: dict[str, Any], field: str) -> None:
    """The answer names the field; a usage period that is not the billing cadence could not be counted."""
    draft = store.post(f"{V1}/plans", json=limited("bad", calls=template))
    assert draft.status_code == 400, draft.text
    (wrong,) = draft.json()["extensions"]["validationErrors"]
    assert wrong["field"] == f"phases[0].rateCards[0].entitlementTemplate.{field}"


def test_a_template_needs_a_feature(store: Client) -> None:
    """A fee of the plan itself gives nothing."""
    body = limited("bad", calls=METERED)
    body["phases"][0]["rateCards"][0]["featureKey"] = None
    assert store.post(f"{V1}/plans", json=body).status_code == 400


@pytest.mark.parametrize(
    "template",
    [
        {"type": "metered", "isSoftLimit": True, "issueAfterReset": 10},
        {"type": "metered", "isSoftLimit": False, "issueAfterReset": 0.1},
        {"type": "metered", "isSoftLimit": False},
        SEATS,
        {"type": "boolean"},
        None,
    ],
)
def test_a_template_is_written_as_it_was_read(template: dict[str, Any] | None) -> None:
    """Reading what was written gives the same."""
    found = entitlement_from_v1(template, "P1M")
    assert entitlement_to_v1(found) == template


def test_a_limit_has_the_digits_it_was_written_with() -> None:
    """A JSON number such as 0.1 is a tenth, not the nearest binary fraction; NaN is none."""
    found = entitlement_from_v1({"type": "metered", "limit": 0.1}, "P1M")
    assert isinstance(found, MeteredEntitlement)
    assert found.limit == Decimal("0.1")
    with pytest.raises(PriceError, match="limit"):
        entitlement_from_v1({"type": "metered", "limit": float("nan")}, "P1M")


def test_limits_are_held_without_postgresql_and_come_back_with_redis(
    store: Client, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate has all it needs in Redis; a Redis that was emptied is filled again by the dataflow and the API."""
    publish(store, limited("small", calls=METERED))
    subscribe(store, "acme", "small")
    call(store, "acme", 5)
    drain(stores)
    with redis.Redis.from_url(stores.redis_url) as client:
        client.delete("tollway:{acme}:balance", gate_key("acme"), "tollway:gate:version")
        wait_for(lambda: client.exists(gate_key("acme")), "the gate")
    assert reasons(store, "acme", "calls") == {"calls": None}
    drain(stores)
    assert reasons(store, "acme", "calls") == {"calls": "usage_limit_reached"}

    def away(*_arguments: object, **_options: object) -> None:
        raise psycopg.OperationalError("away")

    monkeypatch.setattr("sinks.postgres.pool.Pool._usable", away)
    assert reasons(store, "acme", "calls") == {"calls": "usage_limit_reached"}
    assert value(store, "acme")["usage"] == 5


def test_limits_of_many_customers_and_features_are_one_round_trip(store: Client, stores: Stores) -> None:
    """Two commands for each customer and three more, all in one pipeline, however many features are asked for."""
    publish(store, limited("small", calls=METERED))
    for number in range(10):
        subscribe(store, f"c{number}", "small")
        call(store, f"c{number}", number)
    drain(stores)
    keys = [f"c{number}" for number in range(10)]
    body = {"customer": {"keys": keys}, "feature": {"keys": ["calls", *(f"f{number}" for number in range(99))]}}
    with redis.Redis.from_url(stores.redis_url) as client:
        before = client.info("commandstats")
        found = store.post(QUERY, json=body).json()["data"]
        after = client.info("commandstats")
    assert [one["features"]["calls"]["has_access"] for one in found] == [number < 5 for number in range(10)]
    asked = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
    assert (asked["cmdstat_hmget"], asked["cmdstat_smismember"]) == (12, 1)
