"""Running the API, and what Tollway shows beyond OpenMeter's API: signals, and events that were not rated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any

import psycopg
import redis
from litestar import Response, get
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST

from rating.money import plain
from rating.refusals import ParkCode, RejectCode
from sinks.postgres.ledger import DUPLICATE_MISMATCH
from sinks.postgres.statements import statement
from tollway.api.metrics import exposition
from tollway.api.problems import Busy, check_choices
from tollway.api.stores import ApiStores, Stores
from tollway.api.threads import listing, threaded
from tollway.api.wire import PAGE_SIZE_MAX, Json, compact, instant
from tollway.ledger_reads import dead_letters, parked, parked_counts, signals, unpriced

_log = logging.getLogger(__name__)

Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_SIZE_MAX)]
DEAD_REASONS = (*RejectCode, DUPLICATE_MISMATCH)
TAGS = ["Operations"]
NO_KEY: list[dict[str, list[str]]] = [{}]
"""Probes have none."""


class Check(Struct, frozen=True):
    """Whether a store answers."""

    name: str
    ok: bool


@get("/healthz", sync_to_thread=False, tags=TAGS, security=NO_KEY)
def healthz() -> Json:
    """The process runs. Nothing else is looked at."""
    return {"status": "ok"}


@get("/readyz", tags=TAGS, security=NO_KEY)
@threaded
def readyz(stores: Stores) -> Response[Json]:
    """Redis and PostgreSQL answer, and the schema is there; 503 otherwise."""
    checks = [
        Check("redis", _answers(lambda: stores.redis.ping())),
        Check("postgres", _answers(lambda: _schema(stores))),
    ]
    ready = all(check.ok for check in checks)
    body: Json = {
        "status": "ok" if ready else "unavailable",
        "checks": {check.name: "ok" if check.ok else "unavailable" for check in checks},
    }
    return Response(body, status_code=200 if ready else 503)


def _answers(ask: Callable[[], Any]) -> bool:
    try:
        ask()
    except (redis.RedisError, psycopg.Error, Busy) as error:
        _log.info("not ready: %s", type(error).__name__)
        return False
    return True


def _schema(stores: ApiStores) -> None:
    with stores.connection() as connection:
        connection.execute(statement("has_api_schema"))


@get("/metrics", tags=TAGS, media_type=CONTENT_TYPE_LATEST)
@threaded
def metrics() -> Response[bytes]:
    """What the API counts, for Prometheus."""
    return Response(exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@get("/api/v3/tollway/customers/{customer:str}/signals", tags=TAGS)
@listing
def list_customer_signals(
    customer: FromPath[str], stores: Stores, kind: FromQuery[str | None] = None, limit: Limit = 100
) -> Json:
    """What the customer was signalled, the newest first."""
    with stores.connection() as connection:
        found = signals(connection, customer, kind=kind, limit=limit)
    return {
        "data": [
            compact(
                {
                    "id": one.id,
                    "customer": {"id": one.customer_id, "key": one.customer_key},
                    "sequence": one.sequence,
                    "kind": one.kind,
                    "feature_key": one.feature_key or None,
                    "reason": one.reason or None,
                    "live": plain(one.live),
                    "revision": one.revision,
                    "raised_at": instant(one.raised_at),
                }
            )
            for one in found
        ]
    }


@get("/api/v3/tollway/parked-events", tags=TAGS)
@listing
def list_parked_events(
    stores: Stores,
    reason: Annotated[str | None, QueryParameter(name="filter[reason]")] = None,
    customer: Annotated[str | None, QueryParameter(name="filter[customer]")] = None,
    parts: FromQuery[bool] = False,
    limit: Limit = 100,
) -> Json:
    """Events that wait for the catalog, the newest first; with `parts`, what of rated ones waits for one meter."""
    check_choices("filter[reason]", [reason] if reason is not None else [], tuple(ParkCode))
    with stores.connection() as connection:
        found = parked(connection, reason=reason, customer=customer, parts=parts, limit=limit)
        by_reason = parked_counts(connection, customer=customer, parts=parts)
    counts = {name: count for name, count in by_reason.items() if reason in (None, name)}
    return {
        "data": [
            compact(
                {
                    "source": one.source,
                    "id": one.id,
                    "reason": one.reason,
                    "message": one.message,
                    "type": one.event_type or None,
                    "subject": one.subject,
                    "customer_id": one.customer_id,
                    "meter": one.meter or None,
                    "dimensions": one.dimensions if one.meter else None,
                    "quantity": None if one.quantity is None else plain(one.quantity),
                    "event_time": instant(one.event_time),
                    "received_at": instant(one.received_at),
                    "control_version": one.control_version,
                    "parked_at": instant(one.parked_at),
                    "raw": one.raw.decode(errors="replace"),
                }
            )
            for one in found
        ],
        "meta": {"total": sum(counts.values()), "by_reason": counts},
    }


@get("/api/v3/tollway/unpriced", tags=TAGS)
@listing
def list_unpriced_usage(
    stores: Stores,
    meter: Annotated[str | None, QueryParameter(name="filter[meter]")] = None,
    customer: Annotated[str | None, QueryParameter(name="filter[customer]")] = None,
    limit: Limit = 100,
) -> Json:
    """Usage of meters that no feature of the customer's plan prices, by meter and dimensions, the most events first."""
    with stores.connection() as connection:
        found = unpriced(connection, meter=meter, customer=customer, limit=limit + 1)
    return {
        "data": [
            compact(
                {
                    "meter": one.meter,
                    "dimensions": one.dimensions,
                    "events": one.events,
                    "quantity": None if one.quantity is None else plain(one.quantity),
                    "since": instant(one.since),
                    "until": instant(one.until),
                    "customer_count": one.customer_count,
                    "customers": one.customers,
                }
            )
            for one in found[:limit]
        ],
        "meta": {"has_more": len(found) > limit},
    }


@get("/api/v3/tollway/dead-letters", tags=TAGS)
@listing
def list_dead_letters(
    stores: Stores,
    reason: Annotated[str | None, QueryParameter(name="filter[reason]")] = None,
    limit: Limit = 100,
) -> Json:
    """Events that will never be rated, the newest first."""
    check_choices("filter[reason]", [reason] if reason is not None else [], DEAD_REASONS)
    with stores.connection() as connection:
        found = dead_letters(connection, reason=reason, limit=limit)
    return {
        "data": [
            compact(
                {
                    "digest": one.digest,
                    "reason": one.reason,
                    "meter": one.meter or None,
                    "message": one.message,
                    "path": one.path,
                    "recorded_at": instant(one.recorded_at),
                    "raw": one.raw.decode(errors="replace"),
                }
            )
            for one in found
        ]
    }


ROUTES: list[Any] = [
    healthz,
    readyz,
    metrics,
    list_customer_signals,
    list_parked_events,
    list_unpriced_usage,
    list_dead_letters,
]
