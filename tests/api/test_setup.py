"""The catalog through the API: what is written reads back, in both forms, and what was published stays."""

from __future__ import annotations

from typing import Any

from tests.api.conftest import Client, plan
from tests.conftest import Stores
from tests.plane import Plane

V1 = "/api/v1"
V3 = "/api/v3/openmeter"


def made(client: Client, path: str, body: Any, code: int = 201) -> Any:
    """The answer to a request that has to succeed."""
    answer = client.post(path, json=body)
    assert answer.status_code == code, answer.text
    return answer.json()


def got(client: Client, path: str, **parameters: Any) -> Any:
    """The answer to a read that has to succeed."""
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_customer_is_found_by_id_and_key_and_can_be_replaced(shop: Client) -> None:
    """All that was sent reads back; metadata keeps its own names; an update leaves the key and the subscription."""
    body = {
        "key": "org:42",
        "name": "Org",
        "description": "d",
        "metadata": {"some_key": "v"},
        "primaryEmail": "a@b.c",
        "currency": "EUR",
        "usageAttribution": {"subjectKeys": ["one", "two"]},
        "lowBalanceThresholds": ["5", "10.50"],
    }
    customer = made(shop, f"{V1}/customers", body)
    assert {key: customer[key] for key in body} == body | {"lowBalanceThresholds": ["10.5", "5"]}
    assert got(shop, f"{V1}/customers/{customer['id']}") == got(shop, f"{V1}/customers/org:42") == customer
    v3 = got(shop, f"{V3}/customers/org:42")
    assert v3["labels"] == {"some_key": "v"}
    assert v3["usage_attribution"] == {"subject_keys": ["one", "two"]}
    changed = shop.put(
        f"{V1}/customers/org:42", json={"name": "New", "usageAttribution": {"subjectKeys": ["two"]}}
    ).json()
    assert (changed["id"], changed["name"], changed["currency"]) == (customer["id"], "New", "EUR")
    assert changed["lowBalanceThresholds"] == []
    page = got(shop, f"{V1}/customers", page=2, pageSize=1)
    assert (page["totalCount"], page["page"], page["pageSize"]) == (2, 2, 1)
    assert [item["key"] for item in page["items"]] == ["org:42"]
    assert got(shop, f"{V1}/customers", subject="two")["totalCount"] == 1
    assert got(shop, f"{V3}/customers", **{"page[size]": 1})["meta"] == {"page": {"size": 1, "number": 1, "total": 2}}


def test_a_customer_without_a_subscription_can_be_deleted(shop: Client) -> None:
    """It is no longer listed, its subjects are free, and its key and ledger stay; with a subscription it is refused."""
    credit = {"name": "Credit", "funding_method": "none", "currency": "USD", "amount": "5"}
    granted = made(shop, f"{V3}/customers/acme/credits/grants", credit)
    assert shop.delete(f"{V1}/customers/acme").status_code == 409
    held = got(shop, f"{V1}/customers/acme")["currentSubscriptionId"]
    made(shop, f"{V1}/subscriptions/{held}/cancel", {"timing": "next_billing_cycle"}, 200)
    assert shop.delete(f"{V1}/customers/acme").status_code == 409
    made(shop, f"{V1}/subscriptions/{held}/cancel", {"timing": "immediate"}, 200)
    deleted = shop.delete(f"{V1}/customers/acme")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert shop.delete(f"{V3}/customers/acme").status_code == 404
    assert got(shop, f"{V1}/customers")["totalCount"] == 0
    assert got(shop, f"{V3}/customers")["data"] == []
    (shown,) = got(shop, f"{V1}/customers", includeDeleted="true")["items"]
    assert shown == got(shop, f"{V1}/customers/acme")
    assert shown["deletedAt"] >= shown["createdAt"]
    assert shown["usageAttribution"] == {"subjectKeys": []}
    assert shop.put(f"{V1}/customers/acme", json={"name": "Back"}).status_code == 404
    assert shop.post(f"{V1}/customers", json={"key": "acme", "name": "Again"}).status_code == 409
    assert shop.post(f"{V1}/subscriptions", json={"plan": {"key": "basic"}, "customerKey": "acme"}).status_code == 404
    refused = shop.post(f"{V3}/customers/acme/credits/grants", json=credit)
    assert (refused.status_code, shown["deletedAt"] in refused.json()["detail"]) == (404, True)
    change = {"timing": "immediate", "plan": {"key": "basic"}}
    assert shop.post(f"{V1}/subscriptions/{held}/change", json=change).status_code == 409
    assert shop.post(f"{V1}/subscriptions/{held}/restore").status_code == 409
    assert made(shop, f"{V3}/customers/acme/credits/grants/{granted['id']}/void", None, 200)["status"] == "voided"
    heir = {"key": "heir", "name": "Heir", "usageAttribution": {"subjectKeys": ["acme-app", "acme"]}}
    made(shop, f"{V1}/customers", heir)
    fresh = made(shop, f"{V3}/customers", {"key": "fresh", "name": "Fresh"})
    assert shop.delete(f"{V3}/customers/{fresh['id']}").status_code == 204


def test_a_published_plan_stays_and_a_new_draft_is_the_next_version(shop: Client) -> None:
    """A draft changes until it is published; the next one is version 2, and the old one is then archived."""
    (first,) = got(shop, f"{V1}/plans", key="basic")["items"]
    assert (first["status"], first["version"]) == ("active", 1)
    assert shop.put(f"{V1}/plans/{first['id']}", json=plan("basic")).status_code == 409
    assert shop.delete(f"{V1}/plans/{first['id']}").status_code == 409
    assert shop.post(f"{V1}/plans/{first['id']}/publish").status_code == 409
    draft = made(shop, f"{V1}/plans", plan("basic", name="Second"))
    assert (draft["status"], draft["version"]) == ("draft", 2)
    assert shop.post(f"{V1}/plans", json=plan("basic")).status_code == 409
    renamed = shop.put(f"{V1}/plans/{draft['id']}", json=plan("basic", name="Renamed")).json()
    assert (renamed["id"], renamed["name"]) == (draft["id"], "Renamed")
    second = made(shop, f"{V1}/plans/{draft['id']}/publish", None, 200)
    assert (second["id"], second["status"], second["version"]) == (draft["id"], "active", 2)
    assert got(shop, f"{V1}/plans/{first['id']}")["status"] == "archived"
    assert got(shop, f"{V1}/plans/basic")["id"] == draft["id"]
    gone = made(shop, f"{V1}/plans", plan("other"))
    assert shop.delete(f"{V1}/plans/{gone['id']}").status_code == 204
    assert shop.get(f"{V1}/plans/{gone['id']}").status_code == 404


def test_a_plan_with_an_unknown_feature_is_not_published(shop: Client) -> None:
    """The draft is kept, publishing it is refused, and names the rate card."""
    body = plan("broken")
    body["phases"][0]["rateCards"][0]["featureKey"] = "missing"
    draft = made(shop, f"{V1}/plans", body)
    answer = shop.post(f"{V1}/plans/{draft['id']}/publish")
    assert answer.status_code == 400
    (error,) = answer.json()["extensions"]["validationErrors"]
    assert error["field"] == "phases[0].rateCards[0].featureKey"
    assert got(shop, f"{V1}/plans/{draft['id']}")["status"] == "draft"


def test_what_was_set_up_elsewhere_is_shown_the_same(shop: Client, stores: Stores) -> None:
    """A plan that another process published has an id that stays, and can be subscribed to."""
    with Plane(stores.postgres_dsn, stores.redis_url) as plane:
        known = plane.plan("basic")
        plane.publish_plan("elsewhere", cadence=known.cadence, phases=known.phases)
        plane.put_customer("beta")
    (shown,) = got(shop, f"{V1}/plans", key="elsewhere")["items"]
    assert got(shop, f"{V1}/plans/{shown['id']}") == shown
    assert shown["phases"][0]["rateCards"][0]["price"] == {"type": "unit", "amount": "0.5"}
    held = made(shop, f"{V3}/subscriptions", {"plan": {"id": shown["id"]}, "customer": {"key": "beta"}})
    assert held["plan"] == {"id": shown["id"], "key": "elsewhere", "version": 1}


def test_a_subscription_is_changed_and_cancelled(shop: Client) -> None:
    """A change ends one subscription where the next starts; a cancellation at the next cycle leaves it in force."""
    customer = got(shop, f"{V1}/customers/acme")
    first = customer["currentSubscriptionId"]
    other = made(shop, f"{V1}/plans", plan("other"))
    made(shop, f"{V1}/plans/{other['id']}/publish", None, 200)
    moved = made(shop, f"{V1}/subscriptions/{first}/change", {"timing": "immediate", "plan": {"key": "other"}}, 200)
    assert moved["current"]["id"] == first
    assert moved["current"]["activeTo"] == moved["next"]["activeFrom"]
    assert moved["current"]["status"] == "inactive"
    second = moved["next"]["id"]
    ended = made(shop, f"{V1}/subscriptions/{second}/cancel", {"timing": "next_billing_cycle"}, 200)
    assert ended["status"] == "canceled"
    assert ended["activeTo"] > ended["activeFrom"]
    found = got(shop, f"{V1}/customers/acme/subscriptions")
    assert [item["id"] for item in found["items"]] == [first, second]
    now = made(shop, f"{V1}/subscriptions/{second}/cancel", {}, 200)
    assert now["status"] == "inactive"
    assert "currentSubscriptionId" not in got(shop, f"{V1}/customers/acme")
    made(shop, f"{V1}/subscriptions", {"plan": {"key": "other"}, "customerKey": "acme"})


def test_v3_speaks_snake_case(client: Client) -> None:
    """The same set-up in v3's words: prices, commitments, unit conversions and discounts read back."""
    meter = made(
        client,
        f"{V3}/meters",
        {
            "key": "bytes",
            "name": "Bytes",
            "event_type": "sent",
            "aggregation": "sum",
            "value_property": "$.bytes",
            "dimensions": {"zone": "$.zone"},
            "labels": {"team": "net"},
        },
    )
    assert (meter["dimensions"], meter["labels"]) == ({"zone": "$.zone"}, {"team": "net"})
    feature = made(
        client,
        f"{V3}/features",
        {"key": "traffic", "name": "Traffic", "meter": {"key": "bytes", "filters": {"zone": {"eq": "eu"}}}},
    )
    assert feature["meter"] == {"key": "bytes", "filters": {"zone": {"eq": "eu"}}}
    card = {
        "key": "traffic",
        "name": "Traffic",
        "feature": {"key": "traffic"},
        "billing_cadence": "P1M",
        "price": {
            "type": "graduated",
            "tiers": [
                {"up_to_amount": "10", "unit_price": {"type": "unit", "amount": "0.1"}},
                {"flat_price": {"type": "flat", "amount": "1"}},
            ],
        },
        "unit_config": {"operation": "divide", "conversion_factor": "1000000000", "rounding": "ceiling"},
        "commitments": {"minimum_amount": "1", "maximum_amount": "50"},
        "discounts": {"percentage": "10"},
    }
    fee = {
        "key": "base",
        "name": "Base fee",
        "billing_cadence": "P1M",
        "price": {"type": "flat", "amount": "9"},
        "payment_term": "in_arrears",
    }
    free = {"key": "support", "name": "Support", "price": {"type": "free"}}
    phase = {"key": "main", "name": "Main", "rate_cards": [card, fee, free]}
    draft = made(
        client,
        f"{V3}/plans",
        {"key": "cloud", "name": "Cloud", "currency": "USD", "billing_cadence": "P1M", "phases": [phase]},
    )
    active = made(client, f"{V3}/plans/{draft['id']}/publish", None, 200)
    shown = {found["key"]: found for found in active["phases"][0]["rate_cards"]}
    assert shown["traffic"]["commitments"] == {"minimum_amount": "1", "maximum_amount": "50"}
    assert shown["traffic"]["price"]["type"] == "graduated"
    assert shown["traffic"]["unit_config"]["conversion_factor"] == "1000000000"
    assert shown["base"]["price"] == {"type": "flat", "amount": "9", "payment_term": "in_arrears"}
    assert shown["support"]["price"] == {"type": "free"}
    customer = made(client, f"{V3}/customers", {"key": "acme", "name": "Acme", "currency": "USD"})
    held = made(client, f"{V3}/subscriptions", {"plan": {"key": "cloud"}, "customer": {"id": customer["id"]}})
    assert (held["status"], held["customer"]) == ("active", {"id": customer["id"]})
    listed = got(client, f"{V3}/subscriptions", **{"filter[customer_id]": customer["id"]})
    assert [item["id"] for item in listed["data"]] == [held["id"]]
    assert got(client, f"{V3}/plans", **{"filter[status]": "active"})["meta"]["page"]["total"] == 1


def test_a_plan_is_shown_in_the_words_of_whoever_asks(client: Client) -> None:
    """Whichever dialect sent it: commitments, conversions, limits and configurations are each in their place."""
    made(client, f"{V1}/meters", {"slug": "bytes", "eventType": "sent", "aggregation": "SUM", "valueProperty": "$.n"})
    made(client, f"{V1}/features", {"key": "traffic", "name": "Traffic", "meterSlug": "bytes"})
    made(client, f"{V1}/features", {"key": "seats", "name": "Seats"})
    traffic = {
        "key": "traffic",
        "name": "Traffic",
        "feature": {"key": "traffic"},
        "billing_cadence": "P1M",
        "price": {"type": "unit", "amount": "2"},
        "commitments": {"minimum_amount": "1"},
        "unit_config": {"operation": "divide", "conversion_factor": "1000"},
        "entitlement": {"type": "metered", "limit": 5},
    }
    seats = {"key": "seats", "name": "Seats", "feature": {"key": "seats"}, "price": {"type": "free"}}
    seats |= {"entitlement": {"type": "static", "config": {"seats": 3}}, "billing_cadence": "P1M"}
    phase = {"key": "main", "name": "Main", "rate_cards": [traffic, seats]}
    body = {"key": "cloud", "name": "Cloud", "currency": "USD", "billing_cadence": "P1M", "phases": [phase]}
    sent = made(client, f"{V3}/plans", body)
    shown = got(client, f"{V1}/plans/{sent['id']}")
    first, second = shown["phases"][0]["rateCards"]
    assert first["price"] == {"type": "unit", "amount": "2", "minimumAmount": "1"}
    config = {"operation": "divide", "conversionFactor": "1000", "rounding": "none", "precision": 0}
    assert first["unitConfig"] == config
    limit = {"type": "metered", "isSoftLimit": False, "issueAfterReset": 5, "usagePeriod": "P1M"}
    assert first["entitlementTemplate"] == limit
    assert (second["price"], second["entitlementTemplate"]) == (None, {"type": "static", "config": '{"seats":3}'})
    # What v1 shows can be sent to it, and is the same to v3.
    made(client, f"{V1}/plans", shown | {"key": "copy"})
    copied = got(client, f"{V3}/plans/copy")
    assert copied["phases"] == sent["phases"]
    first, second = copied["phases"][0]["rate_cards"]
    assert first["commitments"] == {"minimum_amount": "1"}
    assert first["entitlement_template"]["limit"] == 5
    assert second["entitlement_template"] == {"type": "static", "config": {"seats": 3}}
