"""What was set up is listed on the command line, and a list that stops says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Stores
from tests.e2e.command import Home, Result
from tests.plane import Plane
from tollway.catalog_file import apply, read_catalog

FILE = """
meters: [{key: calls, event_type: call, aggregation: COUNT}]
features: [{key: calls, meter: calls}]
plans:
  - key: pro
    cadence: P1M
    settlement_mode: credit_only
    rate_cards: [{feature: calls, price: {type: unit, amount: AMOUNT}}]
customers:
  - {key: acme, name: Acme Inc., subjects: [gate-1, gate-2], subscription: {plan: pro, from: 2026-11-01}}
  - {key: blue, subscription: {plan: pro}}
  - {key: gone}
"""


@pytest.fixture
def tollway(stores: Stores) -> Callable[..., Result]:
    """Runs commands on stores in which three customers and two versions of a plan were set up; one was deleted."""
    with Plane(stores.postgres_dsn, stores.redis_url) as plane:
        for amount in ("1", "2"):
            apply(plane, read_catalog(FILE.replace("AMOUNT", amount)))
        plane.delete_customer("gone")
    variables = {"TOLLWAY_REDIS_URL": stores.redis_url, "TOLLWAY_POSTGRES_DSN": stores.postgres_dsn}
    return Home(stores.settings.home, variables).here


def test_customers_are_listed_by_key(tollway: Callable[..., Result]) -> None:
    """Those that are there; deleted ones where they are asked for."""
    ran = tollway("customers", "--json")
    first, second = ran.json
    assert (first["key"], first["name"], first["subjects"]) == ("acme", "Acme Inc.", ["gate-1", "gate-2"])
    assert (first["live"], first["access"], first["currency"], first["deleted_at"]) == ("0", "allowed", "USD", None)
    assert (second["key"], ran.err) == ("blue", "")
    assert [one["key"] for one in tollway("customers", "--deleted", "--json").json] == ["acme", "blue", "gone"]
    shown = tollway("customers", "--deleted").out
    assert "gate-1, gate-2" in shown
    assert shown.startswith("Customers\nkey ")


def test_plans_are_listed_version_by_version(tollway: Callable[..., Result]) -> None:
    """A plan that is not there is told from one without versions."""
    found: list[dict[str, Any]] = tollway("plans", "pro", "--json").json
    assert [(one["key"], one["version"], one["features"]) for one in found] == [
        ("pro", 1, ["calls"]),
        ("pro", 2, ["calls"]),
    ]
    assert "credit_only" in tollway("plans").out
    ran = tollway("plans", "free")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: there is no plan `free`\nhint: `tollway plans` lists them\n"


def test_subscriptions_are_listed_of_all_or_of_one(tollway: Callable[..., Result]) -> None:
    """With the version that each is on, its status, and the id that other commands take."""
    both = tollway("subscriptions", "--json").json
    assert [(one["customer_key"], one["plan_key"], one["plan_version"], one["status"]) for one in both] == [
        ("acme", "pro", 1, "active"),
        ("blue", "pro", 1, "active"),
    ]
    assert both[0]["active_from"] == "2026-11-01T00:00:00Z"
    assert both[0]["id"] in tollway("subscriptions", "acme").out
    assert [one["customer_key"] for one in tollway("subscriptions", "blue", "--json").json] == ["blue"]


def test_whoever_is_not_there_is_answered_with_the_command_that_lists_who_is(tollway: Callable[..., Result]) -> None:
    """Not only with a request over HTTP."""
    for command in ("balance", "charges", "credits", "signals", "subscriptions", "invoice"):
        ran = tollway(command, "nobody")
        assert ran.code == 1
        assert "hint: name it by its id or key; `tollway customers`" in ran.err, command


@pytest.mark.parametrize("command", ["customers", "plans", "subscriptions"])
def test_a_list_that_stops_at_its_limit_says_so(command: str, tollway: Callable[..., Result]) -> None:
    """And how to get more; one that is whole says nothing."""
    ran = tollway(command, "--limit", "1", "--json")
    assert len(ran.json) == 1
    assert ran.err == "These are the first 1: there are more, and `--limit` shows them.\n"
    assert tollway(command, "--limit", "2").err == ""
