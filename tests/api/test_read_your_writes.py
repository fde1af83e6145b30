"""What a request set up holds for the events that are sent after its answer, in every process of the dataflow."""

from __future__ import annotations

import re
from decimal import Decimal

import httpx
import pytest

from tests.api.conftest import plan
from tests.api.service import NO_TLS, api_process
from tests.conftest import Stores
from tests.engine_runs import engine_log, engine_process, query, wait_for
from tests.ports import free_ports

V1, V3 = "/api/v1", "/api/v3/openmeter"
ROUNDS = 8
PARKED = re.compile(r'^tollway_events_total\{end="parked".*?\} (\S+)$', re.MULTILINE)


def parked(port: int, processes: int) -> float:
    """How many events were ever parked, by all processes."""
    pages = [httpx.get(f"http://127.0.0.1:{port + place}/metrics", verify=NO_TLS).text for place in range(processes)]
    assert all("tollway_events_total" in page for page in pages)
    return sum(float(number) for page in pages for number in PARKED.findall(page))


@pytest.mark.parametrize("processes", [1, 2])
def test_no_event_waits_for_what_was_set_up_before_it(stores: Stores, processes: int) -> None:
    """
    A meter, a feature, a plan, a customer, its subscription and a grant, and an event at once: none is ever parked.

    Nor is one of a subject that a customer was just given, or of a price that was just changed.
    """
    port = free_ports(processes)
    with (
        api_process(stores) as service,
        engine_process(stores, "--processes", str(processes), TOLLWAY_METRICS_PORT=str(port)) as engine,
    ):
        wait_for(lambda: "The dataflow runs." in engine_log(stores), "the dataflow")
        for number in range(ROUNDS):
            key = f"thing_{number}"
            service.post(f"{V1}/meters", {"slug": key, "eventType": key, "aggregation": "COUNT"})
            service.post(f"{V1}/features", {"key": key, "name": key, "meterSlug": key})
            for amount in ("0.5", "0.25"):
                body = plan(key)
                body["phases"][0]["rateCards"][0] |= {
                    "featureKey": key,
                    "price": {"type": "unit", "amount": amount},
                }
                service.post(f"{V1}/plans", body)
                service.post(f"{V1}/plans/{key}/publish", code=200)
            service.post(f"{V1}/customers", {"key": key, "name": key})
            service.post(f"{V1}/subscriptions", {"plan": {"key": key}, "customerKey": key})
            grant = {"name": "g", "funding_method": "none", "currency": "USD", "amount": "1"}
            service.post(f"{V3}/customers/{key}/credits/grants", grant)
            event = {"specversion": "1.0", "id": key, "source": "test", "type": key, "subject": key}
            service.post(f"{V1}/events", event, 204)
            attribution = {"usageAttribution": {"subjectKeys": [f"{key}-app"]}}
            assert service.call("PUT", f"{V1}/customers/{key}", {"name": key, **attribution}).status_code == 200
            service.post(f"{V1}/events", event | {"id": f"{key}-app", "subject": f"{key}-app"}, 204)
        spent = "select count(*), sum(charged), sum(settled) from balances where charged > 0"
        wanted = [(ROUNDS, ROUNDS * Decimal("0.5"), ROUNDS * Decimal("0.5"))]
        wait_for(lambda: query(stores, spent) == wanted, "all usage to be charged at the newest price")
        assert parked(port, processes) == 0
        service.post(f"{V1}/events", event | {"id": "stray", "subject": "nobody"}, 204)
        wait_for(lambda: parked(port, processes) == 1, "an event of nobody to be counted as parked")
        assert engine.poll() is None, engine_log(stores)
