"""Running the API, and what Tollway shows beyond OpenMeter's API: signals, and events that were not rated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

import psycopg
import redis
from litestar import Response, get
from litestar.params import FromPath, FromQuery, QueryParameter
from prometheus_client import CONTENT_TYPE_LATEST

from rating.money import plain
from rating.refusals import ParkCode, RejectCode
from sinks.postgres.ledger import DUPLICATE_MISMATCH
from sinks.postgres.pool import Busy
from sinks.postgres.statements import statement
from tollway.api.server.metrics import exposition
from tollway.api.server.stores import AllStores, ServerStores
from tollway.ledger_reads import dead_letters, parked, parked_counts, signals, told, unpriced
from tollway.openmeter.problems import check_choices
from tollway.openmeter.shapes import Amount, DataOf, View
from tollway.openmeter.threads import listing, threaded
from tollway.openmeter.wire import PAGE_SIZE_MAX

_log = logging.getLogger(__name__)

Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_SIZE_MAX)]
DEAD_REASONS = (*RejectCode, DUPLICATE_MISMATCH)
TAGS = ["Operations"]
NO_KEY: list[dict[str, list[str]]] = [{}]
"""Probes have none."""


class Health(View, frozen=True):
    """The process runs."""

    status: Literal["ok"]


Answers = Literal["ok", "unavailable"]


class Readiness(View, frozen=True):
    """Which stores answer."""

    status: Answers
    checks: dict[str, Answers]


class SignalledCustomer(View, frozen=True):
    """A customer by its id and key."""

    id: str
    key: str


class Signal(View, frozen=True):
    """A change of access, or a threshold that was passed."""

    id: str
    customer: SignalledCustomer
    sequence: int
    kind: str
    live: Amount
    revision: int
    raised_at: datetime
    feature_key: str | None = None
    reason: str | None = None


class ParkedEvent(View, frozen=True):
    """An event that waits; or, where it names a meter, what of a rated event does."""

    source: str
    id: str
    reason: str
    message: str
    subject: str
    event_time: datetime
    received_at: datetime
    control_version: int
    parked_at: datetime
    raw: str
    type: str | None = None
    customer_id: str | None = None
    meter: str | None = None
    dimensions: dict[str, str] | None = None
    quantity: Amount | None = None


class ParkedCounts(View, frozen=True):
    """How many wait in all, and by reason."""

    total: int
    by_reason: dict[str, int]


class ParkedEvents(View, frozen=True):
    """The newest events that wait, and how many there are."""

    data: list[ParkedEvent]
    meta: ParkedCounts


class UnpricedUsage(View, frozen=True):
    """Usage of one meter with the same dimensions that no feature prices."""

    meter: str
    dimensions: dict[str, str]
    events: int
    since: datetime
    until: datetime
    customer_count: int
    customers: list[str]
    """The keys of the first of them."""
    quantity: Amount | None = None
    """Where it simply adds up."""


class HasMore(View, frozen=True):
    """Whether there are more than were asked for."""

    has_more: bool


class Unpriced(View, frozen=True):
    """Usage that no price covers."""

    data: list[UnpricedUsage]
    meta: HasMore


class DeadLetter(View, frozen=True):
    """An event that will never be rated, or not for one meter."""

    digest: str
    reason: str
    message: str
    path: str
    recorded_at: datetime
    raw: str
    meter: str | None = None
    """The meter that it has no value for, where the rest of it was rated."""


@get("/healthz", sync_to_thread=False, tags=TAGS, security=NO_KEY)
def healthz() -> Health:
    """The process runs. Nothing else is looked at."""
    return Health(status="ok")


@get("/readyz", tags=TAGS, security=NO_KEY)
@threaded
def readyz(stores: AllStores) -> Response[Readiness]:
    """Redis and PostgreSQL answer, and the schema is there; 503 otherwise."""
    checks = {"redis": _answers(lambda: stores.redis.ping()), "postgres": _answers(lambda: _schema(stores))}
    ready = all(checks.values())
    body = Readiness(
        status="ok" if ready else "unavailable",
        checks={name: "ok" if answers else "unavailable" for name, answers in checks.items()},
    )
    return Response(body, status_code=200 if ready else 503)


def _answers(ask: Callable[[], Any]) -> bool:
    try:
        ask()
    except (redis.RedisError, psycopg.Error, Busy) as error:
        _log.info("not ready: %s", type(error).__name__)
        return False
    return True


def _schema(stores: ServerStores) -> None:
    with stores.connection() as connection:
        connection.execute(statement("has_api_schema"))


@get("/metrics", tags=TAGS, media_type=CONTENT_TYPE_LATEST)
@threaded
def metrics() -> Response[str]:
    """What the API counts, for Prometheus."""
    return Response(exposition().decode(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@get("/api/v3/tollway/customers/{customer:str}/signals", tags=TAGS)
@listing
def list_customer_signals(
    customer: FromPath[str], stores: AllStores, kind: FromQuery[str | None] = None, limit: Limit = 100
) -> DataOf[Signal]:
    """What the customer was signalled, the newest first."""
    with stores.connection() as connection:
        found = signals(connection, customer, kind=kind, limit=limit)
    return DataOf(data=[_signal(one) for one in found])


def _signal(one: told.SignalRecord) -> Signal:
    return Signal(
        id=one.id,
        customer=SignalledCustomer(id=one.customer_id, key=one.customer_key),
        sequence=one.sequence,
        kind=one.kind,
        feature_key=one.feature_key or None,
        reason=one.reason or None,
        live=plain(one.live),
        revision=one.revision,
        raised_at=one.raised_at,
    )


@get("/api/v3/tollway/parked-events", tags=TAGS)
@listing
def list_parked_events(
    stores: AllStores,
    reason: Annotated[str | None, QueryParameter(name="filter[reason]")] = None,
    customer: Annotated[str | None, QueryParameter(name="filter[customer]")] = None,
    parts: FromQuery[bool] = False,
    limit: Limit = 100,
) -> ParkedEvents:
    """Events that wait for the catalog, the newest first; with `parts`, what of rated ones waits for one meter."""
    check_choices("filter[reason]", [reason] if reason is not None else [], tuple(ParkCode))
    with stores.connection() as connection:
        found = parked(connection, reason=reason, customer=customer, parts=parts, limit=limit)
        by_reason = parked_counts(connection, customer=customer, parts=parts)
    counts = {name: count for name, count in by_reason.items() if reason in (None, name)}
    meta = ParkedCounts(total=sum(counts.values()), by_reason=counts)
    return ParkedEvents(data=[_parked(one) for one in found], meta=meta)


def _parked(one: told.ParkedEvent) -> ParkedEvent:
    return ParkedEvent(
        source=one.source,
        id=one.id,
        reason=one.reason,
        message=one.message,
        type=one.event_type or None,
        subject=one.subject,
        customer_id=one.customer_id,
        meter=one.meter or None,
        dimensions=one.dimensions if one.meter else None,
        quantity=None if one.quantity is None else plain(one.quantity),
        event_time=one.event_time,
        received_at=one.received_at,
        control_version=one.control_version,
        parked_at=one.parked_at,
        raw=one.raw.decode(errors="replace"),
    )


@get("/api/v3/tollway/unpriced", tags=TAGS)
@listing
def list_unpriced_usage(
    stores: AllStores,
    meter: Annotated[str | None, QueryParameter(name="filter[meter]")] = None,
    customer: Annotated[str | None, QueryParameter(name="filter[customer]")] = None,
    limit: Limit = 100,
) -> Unpriced:
    """Usage of meters that no feature of the customer's plan prices, by meter and dimensions, the most events first."""
    with stores.connection() as connection:
        found = unpriced(connection, meter=meter, customer=customer, limit=limit + 1)
    return Unpriced(data=[_unpriced(one) for one in found[:limit]], meta=HasMore(has_more=len(found) > limit))


def _unpriced(one: told.Unpriced) -> UnpricedUsage:
    return UnpricedUsage(
        meter=one.meter,
        dimensions=one.dimensions,
        events=one.events,
        quantity=None if one.quantity is None else plain(one.quantity),
        since=one.since,
        until=one.until,
        customer_count=one.customer_count,
        customers=one.customers,
    )


@get("/api/v3/tollway/dead-letters", tags=TAGS)
@listing
def list_dead_letters(
    stores: AllStores,
    reason: Annotated[str | None, QueryParameter(name="filter[reason]")] = None,
    limit: Limit = 100,
) -> DataOf[DeadLetter]:
    """Events that will never be rated, the newest first."""
    check_choices("filter[reason]", [reason] if reason is not None else [], DEAD_REASONS)
    with stores.connection() as connection:
        found = dead_letters(connection, reason=reason, limit=limit)
    return DataOf(data=[_dead_letter(one) for one in found])


def _dead_letter(one: told.DeadLetter) -> DeadLetter:
    return DeadLetter(
        digest=one.digest,
        reason=one.reason,
        meter=one.meter or None,
        message=one.message,
        path=one.path,
        recorded_at=one.recorded_at,
        raw=one.raw.decode(errors="replace"),
    )


ROUTES: list[Any] = [
    healthz,
    readyz,
    metrics,
    list_customer_signals,
    list_parked_events,
    list_unpriced_usage,
    list_dead_letters,
]
