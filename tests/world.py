"""A small world to rate in: a catalog of records, and events for it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from rating.catalog import (
    Catalog,
    Customer,
    FeatureSet,
    Grant,
    MeterSet,
    Phase,
    PlanVersion,
    RateCard,
    Record,
    SettlementMode,
    Subscription,
)
from rating.meters import Aggregation, Feature, Meter
from rating.prices import Graduated, Package, Price, Pricing, Tier, Unit, Volume

START = datetime(2026, 3, 1, tzinfo=UTC)
"""The anchor of subscriptions unless said otherwise: billing periods are calendar months."""


def period_around(now: datetime) -> datetime:
    """
    A beginning for the monthly billing period that is running at an instant.

    It is ten days or more in the past, and its end is two weeks or more ahead: whichever day of a month and time of day
    tests run at, no period begins or ends beside them, and there is time in it for usage. No month is without its day.
    """
    begun = (now - timedelta(days=10)).replace(hour=0, minute=0, second=0, microsecond=0)
    return begun.replace(day=min(begun.day, 28))


NOW = datetime.now(UTC).replace(microsecond=0)
"""When the tests began."""
MONTH = period_around(NOW)
"""The anchor of subscriptions in tests that run the engine, which has the machine's clock."""
LAST_MONTH = (MONTH.replace(day=1) - timedelta(days=1)).replace(day=MONTH.day)
"""The beginning of the period before."""

PRICES: dict[str, dict[str, Any]] = {
    "input_tokens": {
        "type": "graduated",
        "tiers": [
            {"up_to_amount": "1000", "unit_price": "0.01"},
            {"up_to_amount": "5000", "unit_price": "0.005", "flat_price": "1"},
            {"up_to_amount": None, "unit_price": "0.0025"},
        ],
    },
    "output_tokens": {"type": "unit", "amount": "0.03"},
    "calls": {"type": "package", "amount": "0.5", "quantity_per_package": "10"},
    "storage": {
        "type": "volume",
        "tiers": [{"up_to_amount": "200", "unit_price": "0.1"}, {"up_to_amount": None, "unit_price": "0.05"}],
    },
}
"""By feature, as the oracle reads them."""

FEATURES: dict[str, tuple[str, str | None, dict[str, str]]] = {
    "input_tokens": ("prompt", "tokens", {"kind": "input"}),
    "output_tokens": ("prompt", "tokens", {"kind": "output"}),
    "calls": ("call", None, {}),
    "storage": ("store", "gigabytes", {}),
}
"""By feature: event type, field to sum or None to count, and what must match."""


def _price(body: dict[str, Any]) -> Price:
    match body["type"]:
        case "unit":
            return Unit(amount=Decimal(body["amount"]))
        case "package":
            return Package(amount=Decimal(body["amount"]), quantity_per_package=Decimal(body["quantity_per_package"]))
    tiers = tuple(
        Tier(
            up_to_amount=_decimal(tier.get("up_to_amount")),
            unit_price=_decimal(tier.get("unit_price")),
            flat_price=_decimal(tier.get("flat_price")),
        )
        for tier in body["tiers"]
    )
    return Graduated(tiers=tiers) if body["type"] == "graduated" else Volume(tiers=tiers)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def catalog_records(mode: SettlementMode = SettlementMode.CREDIT_ONLY) -> list[Record]:
    """Meters, features and the plan `pro`."""
    tokens = Meter(
        key="tokens",
        event_type="prompt",
        aggregation=Aggregation.SUM,
        value_property="$.tokens",
        group_by={"kind": "$.kind"},
    )
    calls = Meter(key="calls", event_type="call", aggregation=Aggregation.COUNT)
    storage = Meter(key="storage", event_type="store", aggregation=Aggregation.SUM, value_property="$.gigabytes")
    meter_of = {"input_tokens": "tokens", "output_tokens": "tokens", "calls": "calls", "storage": "storage"}
    features = [
        Feature(key=key, name=key, meter_key=meter_of[key], filters={k: (v,) for k, v in filters.items()})
        for key, (_, _, filters) in FEATURES.items()
    ]
    cards = tuple(
        RateCard(key=key, feature_key=key, pricing=Pricing(price=_price(body), currency="USD"))
        for key, body in PRICES.items()
    )
    plan = PlanVersion(
        key="pro",
        version=1,
        currency="USD",
        cadence="P1M",
        phases=(Phase(key="default", rate_cards=cards),),
        settlement_mode=mode,
    )
    return [
        *(MeterSet(meter) for meter in (tokens, calls, storage)),
        *(FeatureSet(f) for f in features),
        plan,
    ]


def customer_records(
    number: int,
    grants: tuple[Decimal, ...] = (),
    mode: SettlementMode = SettlementMode.CREDIT_ONLY,
    start: datetime = START,
) -> list[Record]:
    """One customer with two subjects, subscribed to `pro`, with unrestricted grants from the start."""
    customer_id = f"customer-{number}"
    records: list[Record] = [
        Customer(
            id=customer_id,
            key=f"c{number}",
            name=f"Customer {number}",
            currency="USD",
            subjects=(f"s{number}a", f"s{number}b"),
        ),
        Subscription(
            id=f"subscription-{number}",
            customer_id=customer_id,
            plan_key="pro",
            plan_version=1,
            active_from=start,
            anchor=start,
            recorded_at=start,
            settlement_mode=mode,
        ),
    ]
    records += [
        Grant(
            id=f"grant-{number}-{index}",
            customer_id=customer_id,
            amount=amount,
            currency="USD",
            effective_at=start,
            created_at=start + timedelta(seconds=index),
        )
        for index, amount in enumerate(grants)
    ]
    return records


def catalog_of(records: list[Record]) -> Catalog:
    """A catalog that has folded the records in."""
    catalog = Catalog()
    for entry_id, record in enumerate(records, 1):
        catalog.apply(entry_id, record)
    return catalog


def customer_by_subject(customers: int) -> dict[str, str]:
    """Whose usage each subject's is, as the oracle reads it."""
    return {f"s{number}{part}": f"customer-{number}" for number in range(customers) for part in "ab"}


def events(
    random_: random.Random,
    count: int,
    customers: int,
    start: datetime = START,
    span: timedelta = timedelta(days=3),
) -> Iterator[dict[str, Any]]:
    """Events of all types in order of time; quantities are integers, decimals and numeric strings."""
    for number in range(count):
        at = start + span * number / max(count, 1)
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": f"e{number}",
            "source": "test",
            "subject": f"s{random_.randrange(customers)}{random_.choice('ab')}",
            "time": at.isoformat(),
        }
        kind = random_.random()
        if kind < 0.6:
            event |= {
                "type": "prompt",
                "data": {"kind": random_.choice(["input", "output"]), "tokens": random_.randrange(200)},
            }
        elif kind < 0.8:
            event |= {"type": "call", "data": {}}
        else:
            amount = f"{random_.randrange(1000)}.{random_.randrange(1000):03}"
            value = Decimal(amount) if random_.random() < 0.5 else amount
            event |= {"type": "store", "data": {"gigabytes": value}}
        yield event


_encode = msgspec.json.Encoder(decimal_format="number").encode


def line(event: dict[str, Any]) -> bytes:
    """An event as a line of JSON, numbers exact."""
    return _encode(event)
