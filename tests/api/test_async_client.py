"""The nine steps of prepaid credits by the asynchronous client of OpenMeter's Python SDK, on real servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from corehttp.rest import HttpRequest
from openmeter.aio import Client
from openmeter.models import Event, PlanReferenceInput, PlanSubscriptionCreate

from tests.api.service import Service, api_process
from tests.api.test_flow import PATIENCE_SECONDS, PLAN, seen_soon
from tests.conftest import Stores
from tests.engine_runs import engine_log, engine_process, wait_for

DEFAULT_EPOCH_MS = "2000"


@pytest.fixture
def service(stores: Stores) -> Iterator[Service]:
    """The API and the engine, with the settings that they have where nobody sets any."""
    with api_process(stores) as running, engine_process(stores, TOLLWAY_EPOCH_MS=DEFAULT_EPOCH_MS) as engine:
        wait_for(lambda: "The dataflow runs." in engine_log(stores), "the dataflow")
        yield running
        assert engine.poll() is None, engine_log(stores)


class Steps:
    """The calls of a client, and how long their effects took to be seen, in seconds."""

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.key = f"acme{number}"
        self.took: dict[str, float] = {}
        self.path = ""

    async def make_plan(self) -> None:
        """Steps 2 to 5: meter, features, plan, publishing; each by a typed call."""
        client = self.client
        meter = await client.meters.create(
            {
                "slug": "tokens",
                "eventType": "prompt",
                "aggregation": "SUM",
                "valueProperty": "$.tokens",
                "groupBy": {"kind": "$.kind"},
            }
        )
        for kind in ("input", "output"):
            feature = await client.features.create(
                {
                    "key": f"{kind}_tokens",
                    "name": f"{kind.title()} tokens",
                    "meterSlug": meter.slug,
                    "meterGroupByFilters": {"kind": kind},
                }
            )
            assert (feature.meter_slug, feature.meter_group_by_filters) == ("tokens", {"kind": kind})
        draft = await client.plans.create(PLAN)  # type: ignore[call-overload]
        published = await client.plans.publish(draft.id)
        assert (draft.status, published.status, published.version) == ("draft", "active", 1)

    async def subscribe(self) -> None:
        """Steps 1 and 6: customer and subscription, by typed calls too."""
        client = self.client
        customer = await client.customers.create(
            {
                "name": "Acme",
                "key": self.key,
                "currency": "USD",
                "usageAttribution": {"subjectKeys": [f"{self.key}-app"]},
            }
        )
        subscription = await client.subscriptions.create(
            PlanSubscriptionCreate(plan=PlanReferenceInput(key="prepaid"), customer_id=customer.id, timing="immediate")
        )
        assert subscription.status == "active"
        assert (await client.customers.get(self.key)).current_subscription_id == subscription.id
        self.path = f"/api/v3/openmeter/customers/{customer.id}"

    async def send(self, method: str, path: str, body: Any = None, code: int = 200) -> Any:
        """A call that the SDK has no types for."""
        answer = await self.client.send_request(HttpRequest(method, path, json=body))
        await answer.read()
        assert answer.status_code == code, answer.text()
        return answer.json()

    async def grant(self, amount: str) -> Any:
        """Grant credits."""
        body = {"name": "Top-up", "funding_method": "none", "currency": "USD", "amount": amount}
        return await self.send("POST", f"{self.path}/credits/grants", body, 201)

    async def use(self, **tokens: int) -> None:
        """Ingest an event for each kind of tokens."""
        events = [
            Event(
                id=f"{kind}-{time.monotonic_ns()}",
                source="test",
                specversion="1.0",
                type="prompt",
                subject=f"{self.key}-app",
                time=datetime.now(UTC),
                data={"kind": kind, "tokens": number},
            )
            for kind, number in tokens.items()
        ]
        await self.client.events.ingest_events(events)

    async def seen(self, what: str, read: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool]) -> Any:
        """Read until it is as wanted, and note how long that took."""
        started = time.monotonic()
        while True:
            found = await read()
            self.took[what] = time.monotonic() - started
            if wanted(found):
                return found
            assert self.took[what] < PATIENCE_SECONDS, f"{what}: {found}"
            await asyncio.sleep(0.005)

    async def balance(self) -> Decimal:
        """What is left to spend."""
        (found,) = (await self.send("GET", f"{self.path}/credits/balance"))["balances"]
        return Decimal(found["live"])

    async def charges(self) -> dict[str, tuple[str, str]]:
        """By feature, what its running charge comes to, and what credits paid of it."""
        found = (await self.send("GET", f"{self.path}/charges?expand=real_time_usage"))["data"]
        totals = {one["feature_key"]: one["totals"]["realtime"] for one in found}
        return {key: (total["amount"], total["credits_total"]) for key, total in totals.items()}

    async def transactions(self) -> list[Any]:
        """How credits came and went, the oldest first."""
        found = (await self.send("GET", f"{self.path}/credits/transactions"))["data"]
        return list(reversed(found))

    async def reason(self) -> str | None:
        """Why the customer may not use input tokens; none where it may."""
        body = {"customer": {"keys": [self.key]}, "feature": {"keys": ["input_tokens"]}, "include_credits": True}
        (found,) = (await self.send("POST", "/api/v3/openmeter/entitlement-access/query", body))["data"]
        access = found["features"]["input_tokens"]
        assert access["has_access"] is ("reason" not in access)
        return access.get("reason", {}).get("code")  # type: ignore[no-any-return]


async def walk(url: str, number: int) -> dict[str, float]:
    """Go all steps as a customer of that number; the first makes the plan. Returns how many seconds effects took."""
    async with Client(url) as client:
        steps = Steps(client, number)
        if not number:
            await steps.make_plan()
        await steps.subscribe()
        granted = await steps.grant("20")
        assert granted["status"] == "active"
        await steps.seen("allowed by a grant", steps.reason, lambda found: found is None)

        await steps.use(input=1400, output=50)
        # 1000 × 0.01 + 400 × 0.005, and 50 × 0.03
        assert await steps.seen("balance", steps.balance, lambda left: left == Decimal("6.5"))
        charged = {"input_tokens": ("12", "12"), "output_tokens": ("1.5", "1.5")}
        await steps.seen("charges", steps.charges, lambda found: found == charged)
        booked = await steps.seen("transactions", steps.transactions, lambda found: len(found) == 3)
        assert [one["type"] for one in booked] == ["funded", "consumed", "consumed"]
        assert booked[0]["available_balance"] == {"before": "0", "after": "20"}
        assert booked[-1]["available_balance"]["after"] == "6.5"
        for older, newer in pairwise(booked):
            assert older["available_balance"]["after"] == newer["available_balance"]["before"]
        for one in booked:
            before, after = (Decimal(one["available_balance"][end]) for end in ("before", "after"))
            assert before + Decimal(one["amount"]) == after

        (invoice,) = await client.invoices.invoice_pending_lines_action({"customerId": granted["customer"]["id"]})
        lines = {line.feature_key: line for line in invoice.lines or ()}
        parts = {
            key: [(part.quantity, part.per_unit_amount, part.totals.amount) for part in line.children or ()]
            for key, line in lines.items()
        }
        assert parts == {
            "input_tokens": [("1000", "0.01", "10"), ("400", "0.005", "2")],
            "output_tokens": [("50", "0.03", "1.5")],
        }
        assert (invoice.totals.amount, invoice.totals.credits_total, invoice.totals.total) == ("13.5", "13.5", "0")

        await steps.use(output=300)
        assert await steps.seen("blocked", steps.reason, bool) == "no_credit_available"
        await steps.grant("10")
        await steps.seen("restored", steps.reason, lambda found: found is None)
        # 6.5 − 9 + 10: what the usage lacked was repaid first
        await steps.seen("overage repaid", steps.balance, lambda left: left == Decimal("7.5"))
        return steps.took


@pytest.mark.timed
def test_the_asynchronous_client_goes_all_steps_and_sees_each_effect_within_a_second(
    service: Service, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """
    Set-up by typed calls, credits by `send_request`: charges, transactions, invoice, the block and its end.

    Each effect is seen within a second, in one of up to three walks.
    """
    took = seen_soon(lambda number: asyncio.run(walk(service.url, number)))
    for name, seconds in took.items():
        record_testsuite_property(f"seconds until {name}, asynchronously", round(seconds, 3))
