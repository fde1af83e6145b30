"""A control plane on real stores, with a clock of the test's own and a small catalog to start from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
import redis

from rating.catalog import Phase, RateCard, Record, decode_record
from rating.meters import Aggregation, Feature, Meter
from rating.prices import Price, Pricing, Unit
from sinks.redis.keys import CONTROL_HEAD
from tests.conftest import Stores
from tests.plane import Plane

START = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **lengths: float) -> None:
        """Let time pass."""
        self.at += timedelta(**lengths)


class World:
    """A plane, its clock, and what it left in the stores."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.clock = Clock()
        self.plane = Plane(stores.postgres_dsn, stores.redis_url, self.clock)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What another connection sees."""
        with psycopg.connect(self.stores.postgres_dsn, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def log(self) -> list[Record]:
        """The control log in order."""
        return [decode_record(body) for (body,) in self.rows("select body::text from control_log order by id")]

    def head(self) -> int:
        """The head in Redis, 0 where there is none."""
        with redis.Redis.from_url(self.stores.redis_url) as client:
            found: Any = client.get(CONTROL_HEAD)
            return int(found or 0)


def card(feature: str | None, price: Price | None = None, key: str = "", currency: str = "USD") -> RateCard:
    """A rate card, of a cent a unit unless said otherwise."""
    price = price or Unit(Decimal("0.01"))
    return RateCard(key or feature or "fee", feature, Pricing(price, currency))


def phase(*cards: RateCard, key: str = "default", duration: str | None = None) -> Phase:
    """A phase of a plan."""
    return Phase(key, cards, duration)


TOKENS = Meter("tokens", "prompt", Aggregation.SUM, "$.tokens", {"model": "$.model"})


@pytest.fixture
def world(stores: Stores) -> Iterator[World]:
    """A meter, two features, the plans `pro` and `basic`, and a customer `acme`, two hours old."""
    world = World(stores)
    plane = world.plane
    with plane:
        plane.put_meter(TOKENS)
        plane.put_feature(Feature("tokens", meter_key="tokens"))
        plane.put_feature(Feature("seats"))
        plane.publish_plan("pro", cadence="P1M", phases=(phase(card("tokens")),))
        plane.publish_plan("basic", cadence="P1M", phases=(phase(card("tokens", Unit(Decimal(1)))),))
        plane.put_customer("acme", subjects=("acme_api",))
        world.clock.forward(hours=2)
        yield world
