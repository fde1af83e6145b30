"""The application in this process, without an engine: what it answers by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.conftest import Stores
from tollway.api.server.app import create_app
from tollway.api.server.stores import ServerStores

Client = TestClient[Any]


@pytest.fixture
def client(stores: Stores) -> Iterator[Client]:
    """A client of the application on empty stores."""
    with TestClient(create_app(ServerStores(stores.redis_url, stores.postgres_dsn, partitions=2))) as running:
        yield running


@pytest.fixture
def shop(client: Client) -> Client:
    """The same, with a meter, two features, a plan, and the customer `acme` on it."""
    made: list[tuple[str, dict[str, Any]]] = [
        ("meters", {"slug": "calls", "eventType": "call", "aggregation": "COUNT"}),
        ("features", {"key": "calls", "name": "Calls", "meterSlug": "calls"}),
        ("features", {"key": "seats", "name": "Seats"}),
        ("plans", plan("basic")),
        ("customers", {"key": "acme", "name": "Acme", "usageAttribution": {"subjectKeys": ["acme-app"]}}),
    ]
    for path, body in made:
        answer = client.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == 201, answer.text
        if path == "plans":
            assert client.post(f"/api/v1/plans/{answer.json()['id']}/publish").status_code == 200
    answer = client.post("/api/v1/subscriptions", json={"plan": {"key": "basic"}, "customerKey": "acme"})
    assert answer.status_code == 201, answer.text
    return client


def plan(key: str, **fields: Any) -> dict[str, Any]:
    """A plan with a price by unit for `calls`."""
    card = {
        "type": "usage_based",
        "key": "calls",
        "name": "Calls",
        "featureKey": "calls",
        "billingCadence": "P1M",
        "price": {"type": "unit", "amount": "0.5"},
    }
    phase = {"key": "main", "name": "Main", "duration": None, "rateCards": [card]}
    return {"key": key, "name": key.title(), "currency": "USD", "billingCadence": "P1M", "phases": [phase], **fields}
