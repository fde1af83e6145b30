"""
Two hundred clients at once: they make the same things, grant with the same keys, send the same events, and read.

What each read shows has to conserve, and so has the ledger in the end; whatever was acknowledged is in it, once.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from decimal import Decimal
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.api.conftest import plan
from tests.api.service import NO_TLS, Service, api_process
from tests.conftest import Stores
from tests.engine_runs import engine_log, engine_process, query
from tests.waiting import PATIENCE_SECONDS, wait_for

CLIENTS = 200
CUSTOMERS = 20
"""So ten clients quarrel about each customer."""
ROUNDS = 2
OWN_EVENTS = 3
"""A round of a client sends so many events that nobody else sends, and one that all clients of the customer send."""
PRICE = Decimal("0.5")
WELCOME = (Decimal(20), Decimal("31.75"))
"""For every other customer not enough for what it uses, and for the rest more than that."""
TOP_UP = Decimal("1.25")
READS = ("account", "grants", "charges", "transactions")

V1, V3 = "/api/v1", "/api/v3/openmeter"


@pytest.fixture
def service(stores: Stores) -> Iterator[Service]:
    """The API and the engine, running, with a plan."""
    with api_process(stores) as running, engine_process(stores) as engine:
        running.post(f"{V1}/meters", {"slug": "calls", "eventType": "call", "aggregation": "COUNT"})
        running.post(f"{V1}/features", {"key": "calls", "name": "Calls", "meterSlug": "calls"})
        draft = running.post(f"{V1}/plans", plan("basic"))
        running.post(f"{V1}/plans/{draft['id']}/publish", code=200)
        yield running
        assert engine.poll() is None, engine_log(stores)


class Crowd:
    """The clients, what they were answered, and what they have an acknowledgement of."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str, int]] = Counter()
        """By what was asked, of which customer, with which status."""
        self.acknowledged: dict[str, set[str]] = {}
        self.sent = 0
        self.reads = 0

    async def call(self, http: httpx.AsyncClient, method: str, path: str, body: Any = None) -> httpx.Response:
        """A request that is made again as long as the API says that it is busy."""
        while True:
            answer = await http.request(method, path, json=body)
            if answer.status_code not in (429, 503):
                return answer
            await asyncio.sleep(float(answer.headers["retry-after"]) * random.random())

    async def make(self, http: httpx.AsyncClient, what: str, customer: str, path: str, body: Any) -> None:
        """Make something that others make too: one of them does, and the rest are told that it is there."""
        answer = await self.call(http, "POST", path, body)
        assert answer.status_code in (201, 409), answer.text
        self.answers[what, customer, answer.status_code] += 1

    async def client(self, http: httpx.AsyncClient, number: int) -> None:
        """All that one client does."""
        key = f"customer_{number % CUSTOMERS}"
        grants = f"{V3}/customers/{key}/credits/grants"
        grant = {"name": "Credits", "funding_method": "none", "currency": "USD"}
        await self.make(http, "customer", key, f"{V1}/customers", {"key": key, "name": key})
        await self.make(
            http, "subscription", key, f"{V1}/subscriptions", {"plan": {"key": "basic"}, "customerKey": key}
        )
        await self.make(http, "grant", key, grants, grant | {"amount": str(WELCOME[number % 2]), "key": "welcome"})
        for turn in range(ROUNDS):
            # Before the usage of its turn: what a plan of this kind used before a grant stays on the invoice.
            await self.make(http, "top-up", key, grants, grant | {"amount": str(TOP_UP), "key": f"top-up-{turn}"})
            await self.use(http, number, key, turn)
            await self.read(http, key, READS[(number // CUSTOMERS + turn) % len(READS)])
            await self.use(http, number, key, turn)
            await self.read(http, key, READS[(number // CUSTOMERS + turn + 1) % len(READS)])

    async def use(self, http: httpx.AsyncClient, number: int, key: str, turn: int) -> None:
        """Send events; each call for the same turn sends the same ones."""
        ids = [f"{key}-{number}-{turn}-{event}" for event in range(OWN_EVENTS)] + [f"{key}-shared-{turn}"]
        events = [{"specversion": "1.0", "id": name, "source": "crowd", "type": "call", "subject": key} for name in ids]
        answer = await self.call(http, "POST", f"{V1}/events", events)
        assert answer.status_code == 204, answer.text
        self.acknowledged.setdefault(key, set()).update(ids)
        self.sent += len(ids)

    async def read(self, http: httpx.AsyncClient, key: str, what: str) -> None:
        """Read something of the customer, which has to conserve at any moment."""
        path = f"{V3}/customers/{key}"
        match what:
            case "account":
                answer = await self.call(http, "GET", f"/api/v3/tollway/customers/{key}/account")
                check_account(answer.json())
            case "grants":
                answer = await self.call(http, "GET", f"{path}/credits/grants")
                check_grants(answer.json()["data"])
            case "charges":
                answer = await self.call(http, "GET", f"{path}/charges")
                check_charges(answer.json()["data"])
            case _:
                answer = await self.call(http, "GET", f"{path}/credits/transactions")
                check_transactions(answer.json()["data"])
        assert answer.status_code == 200
        self.reads += 1


def check_account(found: Any) -> None:
    """What is live is what is left of the grants, less what they did not cover."""
    balance = {name: Decimal(found["balance"][name]) for name in ("live", "settled", "pending", "overage")}
    assert balance["live"] == balance["settled"] - balance["overage"]
    assert balance["settled"] * balance["overage"] == 0, "grants pay for all usage: none is left while any is owed"
    assert balance["settled"] >= 0


def check_grants(found: list[Any]) -> None:
    """A grant is what is left of it, and what it paid."""
    keys = [grant["key"] for grant in found]
    assert len(keys) == len(set(keys))
    for grant in found:
        assert Decimal(grant["amount"]) == Decimal(grant["available"]) + Decimal(grant["consumed"]), grant


def check_charges(found: list[Any]) -> None:
    """A charge is what credits paid of it, and what they did not."""
    for charge in found:
        totals = {name: Decimal(amount) for name, amount in charge["totals"]["booked"].items()}
        assert totals["amount"] == totals["credits_total"] + totals["total"], charge
        assert totals["amount"] % PRICE == 0


def check_transactions(found: list[Any]) -> None:
    """Each begins with the balance that the one before left, from nothing."""
    for newer, older in pairwise(found):
        assert newer["available_balance"]["before"] == older["available_balance"]["after"]
    for one in found:
        before, after = (Decimal(one["available_balance"][end]) for end in ("before", "after"))
        assert before + Decimal(one["amount"]) == after >= 0
    assert not found or found[-1]["available_balance"]["before"] == "0"


async def gather(url: str) -> Crowd:
    """Let all clients do what they do, at once."""
    crowd = Crowd()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            # Each has a pool of its own: a shared one of so many connections keeps its books for longer than they talk.
            http = await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, verify=NO_TLS)
            )
            tasks.create_task(crowd.client(http, number))
    return crowd


@pytest.mark.timed
def test_two_hundred_clients_at_once_leave_a_ledger_that_conserves(service: Service, stores: Stores) -> None:
    """Of the same thing one is made, an event is charged once however often it came, and no money comes or goes."""
    crowd = asyncio.run(gather(service.url))
    clients = CLIENTS // CUSTOMERS
    customers = [f"customer_{number}" for number in range(CUSTOMERS)]
    for key in customers:
        for what in ("customer", "subscription", "grant"):
            made, refused = crowd.answers[what, key, 201], crowd.answers[what, key, 409]
            assert (made, refused) == (1, clients - 1), f"{what} of {key}"
        assert (crowd.answers["top-up", key, 201], crowd.answers["top-up", key, 409]) == (
            ROUNDS,
            ROUNDS * (clients - 1),
        )
        assert len(crowd.acknowledged[key]) == ROUNDS * (clients * OWN_EVENTS + 1)
    assert crowd.reads == CLIENTS * ROUNDS * 2
    assert crowd.sent > 2 * sum(map(len, crowd.acknowledged.values()))

    charged = {key: PRICE * len(ids) for key, ids in crowd.acknowledged.items()}
    settled = "select customer_key, charged from balances"
    wait_for(lambda: dict(query(stores, settled)) == charged, "all that was acknowledged to be charged")
    funded = {key: WELCOME[number % 2] + ROUNDS * TOP_UP for number, key in enumerate(customers)}
    books = query(
        stores,
        "select customer_key, customer_id, charged, consumed, uncovered, funded, settled, pending, expired, voided,"
        " overage, live from balances",
    )
    assert sorted(row[0] for row in books) == sorted(customers)
    for key, customer_id, total, consumed, uncovered, given, left, pending, expired, voided, overage, live in books:
        assert total == consumed + uncovered
        assert given == funded[key] == left + pending + consumed + expired + voided
        assert live == left - overage
        assert (consumed, left) == (min(total, given), max(given - total, 0))
        (events,) = query(stores, "select sum(events), sum(quantity) from charges where customer_id = %s", customer_id)
        assert events == (len(crowd.acknowledged[key]),) * 2, "each event that was acknowledged is rated once"
        wait_for(
            lambda: service.get(f"/api/v3/tollway/customers/{key}/account")["balance"]["live"] == str(live.normalize()),  # noqa: B023
            "the balance that gateways see",
        )
        grants = service.get(f"{V3}/customers/{key}/credits/grants")["data"]
        assert sorted(grant["key"] for grant in grants) == [f"top-up-{turn}" for turn in range(ROUNDS)] + ["welcome"]
    listed = service.get(f"{V1}/customers", pageSize="1000")
    assert sorted(customer["key"] for customer in listed["items"]) == sorted(customers)
    assert query(stores, "select count(*) from parked_events") == [(0,)]
    assert query(stores, "select count(*) from dead_letters") == [(0,)]
