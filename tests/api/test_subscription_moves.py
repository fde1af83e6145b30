"""Subscriptions move to other versions of their plan, and go on: by our own path, and by OpenMeter's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from rating.catalog import Phase, VersionMove
from rating.entitlements import MeteredEntitlement
from tests.api.conftest import Client, plan
from tests.api.test_setup import V1, V3, got, made
from tests.api.test_subscriptions import ANCHOR, at, refused
from tests.conftest import Stores
from tests.engine_runs import query
from tests.simulation.settling import card, subscription
from tests.simulation.settling import plan as plan_of
from tollway.gate.projection import stretches_of

TOLLWAY = "/api/v3/tollway"


def publish(client: Client, **fields: Any) -> None:
    """The next version of the basic plan."""
    draft = made(client, f"{V1}/plans", plan("basic", **fields))
    made(client, f"{V1}/plans/{draft['id']}/publish", None, 200)


def priced(amount: str) -> list[dict[str, Any]]:
    """The phases of the plan with another price."""
    phases: list[dict[str, Any]] = plan("basic")["phases"]
    phases[0]["rateCards"][0]["price"]["amount"] = amount
    return phases


@pytest.fixture
def held(shop: Client) -> Any:
    """A subscription of `beta` to the basic plan, of which there is a second version now."""
    made(shop, f"{V1}/customers", {"key": "beta", "name": "Beta"})
    body = {"plan": {"key": "basic"}, "customerKey": "beta", "billingAnchor": ANCHOR, "timing": at(days=-3)}
    subscribed = made(shop, f"{V1}/subscriptions", body)
    publish(shop, phases=priced("0.7"))
    return subscribed


def test_a_subscription_moves_and_goes_on(shop: Client, held: Any) -> None:
    """From the start of its open period; asked for again, nothing changes."""
    path = f"{TOLLWAY}/subscriptions/{held['id']}/move"
    moved = made(shop, path, {"version": 2, "at": "this_billing_cycle"}, 200)
    assert (moved["id"], moved["plan"]["version"], moved["billing_anchor"]) == (held["id"], 2, ANCHOR)
    assert [(move["version"], move["at"]) for move in moved["moves"]] == [(2, max(held["activeFrom"], ANCHOR))]
    assert made(shop, path, {}, 200) == moved
    assert got(shop, f"{V1}/subscriptions/{held['id']}")["plan"]["version"] == 2
    assert got(shop, f"{V1}/customers/beta/subscriptions")["totalCount"] == 1


def test_a_move_tells_what_waits_on_and_is_taken_back_for_it(shop: Client, stores: Stores, held: Any) -> None:
    """The answer has the command; after it there is no warning any more."""
    made(shop, f"{V1}/meters", {"slug": "renders", "eventType": "render", "aggregation": "COUNT"})
    made(shop, f"{V1}/features", {"key": "renders", "name": "Renders", "meterSlug": "renders"})
    phases = priced("0.5")
    card = phases[0]["rateCards"][0]
    phases[0]["rateCards"].append(card | {"key": "renders", "featureKey": "renders"})
    publish(shop, phases=phases)
    insert = (
        "insert into parked_events (source, id, reason, message, subject, customer_id, event_time, control_version,"
        " raw, received_at, event_type) select 's', '1', 'no_feature', '', 'beta', id, now() - interval '1 second', 1,"
        " '', now(), 'render' from customers where key = 'beta' returning 1"
    )
    assert query(stores, insert) == [(1,)]
    path = f"{TOLLWAY}/subscriptions/{held['id']}/move"
    warning = made(shop, path, {"version": 3}, 200)["warning"]
    assert warning.startswith("usage of 1 event since ")
    assert warning.endswith("`tollway move beta --version 3 --at this_billing_cycle` rates it")
    mended = made(shop, path, {"version": 3, "at": "this_billing_cycle"}, 200)
    assert "warning" not in mended
    assert [move["version"] for move in mended["moves"]] == [3]


def test_a_move_that_lies_ahead_shows_when_it_holds(shop: Client, held: Any) -> None:
    """Until then the version is the one before."""
    later = at(days=2)
    moved = made(shop, f"{TOLLWAY}/subscriptions/{held['id']}/move", {"at": later}, 200)
    assert (moved["plan"]["version"], moved["moves"][0]["at"]) == (1, later)


def test_a_move_that_lies_ahead_is_withdrawn_or_preceded(shop: Client, held: Any) -> None:
    """By a request of its own, again without effect; a change to the version that is planned moves there at once."""
    path = f"{TOLLWAY}/subscriptions/{held['id']}/move"
    later = at(days=2)
    made(shop, path, {"at": later}, 200)
    withdrawn = shop.delete(path)
    assert (withdrawn.status_code, withdrawn.json()["moves"]) == (200, [])
    assert shop.delete(path).json() == withdrawn.json()
    made(shop, path, {"at": later}, 200)
    publish(shop, phases=priced("0.9"))
    moved = made(shop, path, {"version": 3}, 200)
    assert (moved["plan"]["version"], [move["version"] for move in moved["moves"]]) == (3, [3, 2])
    body = {"timing": "immediate", "plan": {"key": "basic", "version": 2}}
    changed = made(shop, f"{V1}/subscriptions/{held['id']}/change", body, 200)
    assert (changed["next"]["id"], changed["next"]["plan"]["version"]) == (held["id"], 2)
    made(shop, path, {"version": 1, "at": at(minutes=3)}, 200)
    refused(shop.delete(path), 409, "at", "10 minutes")
    assert shop.delete(f"{TOLLWAY}/subscriptions/none/move").status_code == 404


def test_a_move_that_cannot_be_is_refused_with_its_field(shop: Client, held: Any) -> None:
    """An instant within what is rated, one that is none, and a version that there is not."""
    path = f"{TOLLWAY}/subscriptions/{held['id']}/move"
    refused(shop.post(path, json={"at": at(days=-1)}), 409, "at", "rate card `calls`")
    refused(shop.post(path, json={"at": "soon"}), 400, "at", "`this_billing_cycle`")
    refused(shop.post(path, json={"version": 9}), 404, "version", "no version 9")
    publish(shop, billingCadence="P1Y", phases=priced("0.8"))
    refused(shop.post(path, json={"version": 3}), 409, "version", "cadence")
    assert shop.post(f"{TOLLWAY}/subscriptions/none/move", json={}).status_code == 404


def test_a_change_to_another_version_of_the_plan_is_a_move(shop: Client, held: Any) -> None:
    """In both APIs, unless the anchor is to be another one, too, or periods could not go on."""
    body = {"timing": "immediate", "plan": {"key": "basic", "version": 2}}
    changed = made(shop, f"{V1}/subscriptions/{held['id']}/change", body, 200)
    assert changed["current"]["id"] == changed["next"]["id"] == held["id"]
    assert changed["next"]["plan"]["version"] == 2
    back = {"timing": "immediate", "plan": {"key": "basic", "version": 1}}
    changed = made(shop, f"{V3}/subscriptions/{held['id']}/change", back, 200)
    assert (changed["next"]["id"], changed["next"]["plan"]["version"]) == (held["id"], 1)
    past = {"timing": at(days=-1), "plan": {"key": "basic", "version": 2}}
    refused(shop.post(f"{V1}/subscriptions/{held['id']}/change", json=past), 409, "timing")
    publish(shop, billingCadence="P1Y", phases=priced("0.8"))
    yearly = {"timing": "immediate", "plan": {"key": "basic"}}
    changed = made(shop, f"{V1}/subscriptions/{held['id']}/change", yearly, 200)
    assert changed["current"]["id"] == held["id"] != changed["next"]["id"]


def test_migrate_is_a_move_too(shop: Client, held: Any) -> None:
    """In OpenMeter's form; a phase or an anchor of its own it does not have."""
    path = f"{V1}/subscriptions/{held['id']}/migrate"
    refused(shop.post(path, json={"startingPhase": "main"}), 400, "startingPhase")
    moved = made(shop, path, {"targetVersion": 2, "timing": "immediate"}, 200)
    assert moved["current"]["id"] == moved["next"]["id"] == held["id"]
    assert moved["next"]["plan"]["version"] == 2
    refused(shop.post(path, json={"targetVersion": 9}), 404, "targetVersion")
    refused(shop.post(path, json={"targetVersion": 1, "timing": at(days=-1)}), 409, "timing")


def test_the_gate_knows_what_a_version_gives_from_when_on() -> None:
    """A stretch for each version in force, and for each phase of it, which is counted from the subscription's start."""
    start = datetime(2026, 3, 1, tzinfo=UTC)
    days = [start + timedelta(days=number) for number in range(30)]
    limited = replace(card("a"), entitlement=MeteredEntitlement(Decimal(5)))
    trial, paid = Phase("trial", (card("a"),), "P7D"), Phase("paid", (limited,))
    versions = {
        ("plan", 1): plan_of(phases=(trial, paid)),
        ("plan", 2): plan_of(phases=(trial, Phase("paid", (card("a"), card("b"))))),
    }
    moves = (VersionMove(days[3], 2, start), VersionMove(days[9], 1, start), VersionMove(days[12], 2, start))
    held = replace(subscription(end=days[20]), moves=moves)
    found = [(one.start, one.end, one.features, set(one.entitlements)) for one in stretches_of(held, versions)]
    assert found == [
        (start, days[3], ("a",), set()),
        (days[3], days[7], ("a",), set()),
        (days[7], days[9], ("a", "b"), set()),
        (days[9], days[12], ("a",), {"a"}),
        (days[12], days[20], ("a", "b"), set()),
    ]
