"""The gate answers from Redis alone, for whoever set things up, and after Redis was lost."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import redis

from sinks.redis.keys import GATE_IDS, GATE_NAMES, GATE_VERSION
from tests.api.conftest import Client, plan
from tests.conftest import Stores
from tests.engine_runs import wait_for
from tests.plane import Plane
from tollway.api.server.stores import ServerStores
from tollway.control import CustomerDraft

QUERY = "/api/v3/openmeter/entitlement-access/query"


def reasons(client: Client, customer: str, *features: str, **options: Any) -> dict[str, str | None]:
    """By feature, why it may not be used."""
    body: dict[str, Any] = {"customer": {"keys": [customer]}, **options}
    if features:
        body["feature"] = {"keys": list(features)}
    answer = client.post(QUERY, json=body)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["data"]
    return {key: access.get("reason", {}).get("code") for key, access in found["features"].items()}


def put_balance(stores: Stores, customer: str, **fields: str) -> None:
    """What the dataflow would write."""
    with redis.Redis.from_url(stores.redis_url) as client:
        client.hset(f"tollway:{{{customer}}}:balance", mapping={"revision": "3", "live": "1.5", **fields})


def test_each_reason_has_its_code(shop: Client, stores: Stores) -> None:
    """A feature is unknown, in no plan of the customer's, out of credit, or may be used; blocked features too."""
    asked = ("calls", "seats", "nothing")
    assert reasons(shop, "acme", *asked) == {
        "calls": None,
        "seats": "feature_unavailable",
        "nothing": "feature_not_found",
    }
    put_balance(stores, "acme", access="blocked", reason="no_credit_available")
    assert reasons(shop, "acme", "calls") == {"calls": "no_credit_available"}
    assert reasons(shop, "acme", "calls", include_credits=False) == {"calls": None}
    put_balance(stores, "acme", access="allowed", blocked_features="seats,calls")
    assert reasons(shop, "acme") == {"calls": "no_credit_available", "seats": "feature_unavailable"}
    value = shop.get("/api/v1/customers/acme/entitlements/calls/value").json()
    assert value == {"hasAccess": False, "balance": 1.5, "overage": 0}
    assert shop.get("/api/v1/customers/acme/access").json() == {"entitlements": {"calls": value}}
    assert shop.get("/api/v1/customers/acme/entitlements/nothing/value").status_code == 404
    assert shop.get("/api/v1/customers/nobody/entitlements/calls/value").status_code == 404
    account = shop.get("/api/v3/tollway/customers/acme-app/account").json()
    assert (account["access"], account["revision"], account["features"]) == ("allowed", 3, ["calls"])
    assert account["balance"]["live"] == "1.5"


def test_names_that_lead_to_one_customer_are_one_answer(shop: Client) -> None:
    """A key, an id and a subject match together; a name of nobody is an error beside the data."""
    customer = shop.get("/api/v1/customers/acme").json()
    keys = ["acme", customer["id"], "acme-app", "nobody"]
    found = shop.post(QUERY, json={"customer": {"keys": keys}}).json()
    (data,) = found["data"]
    assert data["matched"] == keys[:3]
    assert data["customer"]["usage_attribution"] == {"subject_keys": ["acme-app"]}
    assert [(error["code"], error["customer"]) for error in found["errors"]] == [("customer_not_found", "nobody")]


def test_a_subject_that_moved_leads_to_its_new_customer(shop: Client) -> None:
    """A name leads to one customer at most, from the moment the change is answered."""
    shop.put("/api/v1/customers/acme", json={"name": "Acme", "usageAttribution": {"subjectKeys": []}})
    shop.post("/api/v1/customers", json={"key": "beta", "name": "B", "usageAttribution": {"subjectKeys": ["acme-app"]}})
    (found,) = shop.post(QUERY, json={"customer": {"keys": ["acme-app"]}}).json()["data"]
    assert found["customer"]["key"] == "beta"


def test_an_id_can_be_nobody_elses_key_or_subject(shop: Client) -> None:
    """Refused where it is set; one's own it may be, and a name that looks like an id of nobody too."""
    acme = shop.get("/api/v1/customers/acme").json()["id"]
    shop.post("/api/v1/customers", json={"key": "beta", "name": "B"})
    for path, body in (
        ("post", {"key": acme, "name": "C"}),
        ("post", {"key": "c", "name": "C", "usageAttribution": {"subjectKeys": ["c1", acme]}}),
        ("put", {"key": "beta", "name": "B", "usageAttribution": {"subjectKeys": [acme]}}),
    ):
        url = "/api/v1/customers" if path == "post" else "/api/v1/customers/beta"
        answer = getattr(shop, path)(url, json=body)
        assert answer.status_code == 409
        assert "no customer's id" in answer.text
    own = {"key": "acme", "name": "Acme", "usageAttribution": {"subjectKeys": ["acme-app", acme]}}
    assert shop.put("/api/v1/customers/acme", json=own).status_code == 200
    free = {"key": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "name": "C"}
    assert shop.post("/api/v1/customers", json=free).status_code == 201
    (found,) = shop.post(QUERY, json={"customer": {"keys": [acme, free["key"]]}}).json()["data"][:1]
    assert found["customer"]["key"] == "acme"


@pytest.mark.parametrize("as_key", [True, False])
def test_an_id_means_the_customer_that_has_it_whatever_another_is_called(
    shop: Client, as_key: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an earlier version let another customer have it as its key or subject, ids are looked for first."""
    acme = shop.get("/api/v1/customers/acme").json()["id"]
    key, subjects = (acme, ()) if as_key else ("beta", (acme,))
    plane = shop.app.api_stores.plane
    with monkeypatch.context() as earlier:
        earlier.setattr("tollway.control.customers._check_is_no_id", lambda *_: None)
        with plane.changing() as changes:
            changes.put_customer(CustomerDraft(key=key, subjects=subjects))
    shop.app.api_stores.projector.tell()
    (found,) = shop.post(QUERY, json={"customer": {"keys": [acme]}}).json()["data"]
    assert found["customer"]["key"] == "acme"
    assert shop.get(f"/api/v1/customers/{acme}").json()["key"] == "acme"
    assert shop.get(f"/api/v3/tollway/customers/{acme}/account").json()["customer"]["key"] == "acme"
    # It can be renamed as it is.
    with plane.changing() as changes:
        assert changes.put_customer(CustomerDraft(key=key, name="Renamed", subjects=subjects)).name == "Renamed"


def test_what_an_earlier_version_told_is_told_again_with_ids_apart(shop: Client, stores: Stores) -> None:
    """Ids among the names, and none in their own place: they are found at once, and moved."""
    acme = shop.get("/api/v1/customers/acme").json()["id"]
    with redis.Redis.from_url(stores.redis_url) as client:
        client.delete(GATE_IDS)
        client.hset(GATE_NAMES, acme, "acme")
        assert shop.app.api_stores.projector.catch_up() is None
        assert shop.post(QUERY, json={"customer": {"keys": [acme]}}).json()["data"]
        newer = ServerStores(stores.redis_url, stores.postgres_dsn, 2)
        newer.projector.catch_up()
        newer.close()
        assert client.hgetall(GATE_IDS) == {acme.encode(): b"acme"}
    assert shop.post(QUERY, json={"customer": {"keys": [acme]}}).json()["data"]


def test_it_follows_changes_of_other_processes_and_the_clock(shop: Client, stores: Stores) -> None:
    """A subscription that another process makes is seen, and one that ends is over without anyone writing."""
    with Plane(stores.postgres_dsn, stores.redis_url) as plane:
        plane.put_customer("gamma")
        plane.subscribe("gamma", "basic")
    wait_for(lambda: shop.post(QUERY, json={"customer": {"keys": ["gamma"]}}).json()["data"], "the gate")
    wait_for(lambda: reasons(shop, "gamma", "calls") == {"calls": None}, "the subscription")
    held = shop.get("/api/v1/customers/gamma").json()["currentSubscriptionId"]
    shop.post(f"/api/v1/subscriptions/{held}/cancel", json={})
    assert reasons(shop, "gamma", "calls") == {"calls": "feature_unavailable"}


def test_a_plan_of_phases_gives_features_by_time(shop: Client) -> None:
    """Only what the present phase has may be used."""
    body = plan("phased")
    later = body["phases"][0]
    first = later | {"key": "trial", "duration": "P1M", "rateCards": []}
    body["phases"] = [first, later]
    draft = shop.post("/api/v1/plans", json=body).json()
    shop.post(f"/api/v1/plans/{draft['id']}/publish")
    for key, timing in (("new", "immediate"), ("old", "2026-01-01T00:00:00Z")):
        shop.post("/api/v1/customers", json={"key": key, "name": key})
        made = shop.post(
            "/api/v1/subscriptions", json={"plan": {"key": "phased"}, "customerKey": key, "timing": timing}
        )
        assert made.status_code == 201, made.text
    assert reasons(shop, "new", "calls") == {"calls": "feature_unavailable"}
    assert reasons(shop, "old", "calls") == {"calls": None}


def test_it_comes_back_when_redis_is_lost(shop: Client, stores: Stores) -> None:
    """An empty Redis is filled again from PostgreSQL."""
    with redis.Redis.from_url(stores.redis_url) as client:
        client.flushall()
        wait_for(lambda: client.get(GATE_VERSION), "the gate")
    assert reasons(shop, "acme", "calls") == {"calls": None}


def test_it_answers_without_postgresql(shop: Client, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """No read of the gate needs PostgreSQL."""

    def away(*_arguments: object, **_options: object) -> None:
        raise psycopg.OperationalError("away")

    monkeypatch.setattr("sinks.postgres.pool.Pool._usable", away)
    assert shop.get("/readyz").status_code == 503
    assert shop.get("/api/v1/meters").status_code == 503
    assert reasons(shop, "acme", "calls") == {"calls": None}
    assert shop.get("/api/v1/customers/acme/entitlements/calls/value").status_code == 200
    assert shop.get("/api/v3/tollway/customers/acme/account").status_code == 200


def test_a_hundred_customers_and_features_are_one_round_trip(shop: Client, stores: Stores) -> None:
    """The number of commands does not depend on the number of features; all of them go out together."""
    with Plane(stores.postgres_dsn, stores.redis_url) as plane, plane.batch():
        for number in range(100):
            plane.put_customer(f"customer-{number}")
    keys = [f"customer-{number}" for number in range(100)]
    features = ["calls", *(f"feature_{number}" for number in range(99))]
    body = {"customer": {"keys": keys}, "feature": {"keys": features}}
    wait_for(lambda: len(shop.post(QUERY, json=body).json()["data"]) == 100, "the customers")
    found = shop.post(QUERY, json=body).json()["data"]
    assert all(len(one["features"]) == 100 for one in found)
