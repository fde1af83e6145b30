"""
Drives parked events again, once the catalog can place them.

An event goes back to the end of the log first, and leaves `parked_events` after: a crash between the two
appends it twice, and the second is dropped as a duplicate.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
import psycopg
from msgspec import Struct

from dataflows.catalog_view import CatalogView
from dataflows.messages import microseconds
from rating.catalog import Catalog
from rating.outcome import ParkCode
from sinks.event_log import EventLog

ROWS_MAX = 1000


class Redrive:
    """Looks through events that were parked under an older catalog than the present one."""

    def __init__(self, dsn: str, log: EventLog, view: CatalogView) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True, application_name="tollway-redrive")
        self._log = log
        self._view = view

    def drive(self) -> int:
        """Put a batch of events that can now be placed back into the log. Returns how many."""
        version = self._view.version
        catalog = self._view.catalog
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(
                "select owner, source, id, meter, subject, event_time, received_at, raw from parked_events"
                " where control_version < %s and reason <> %s order by control_version limit %s for update skip locked",
                (version, ParkCode.PERIOD_CLOSED, ROWS_MAX),
            )
            ready: list[tuple[str, ...]] = []
            waiting: list[tuple[str, ...]] = []
            for *identity, subject, at, received_at, raw in cursor.fetchall():
                placed = can_place(catalog, subject, at, raw)
                (ready if placed else waiting).append(tuple(identity))
                if placed:
                    self._log.append([raw], microseconds(received_at), identity[-1])
            named = "where owner = %s and source = %s and id = %s and meter = %s"
            if ready:
                cursor.executemany(f"delete from parked_events {named}".encode(), ready)
            if waiting:
                cursor.executemany(
                    f"update parked_events set control_version = %s {named}".encode(),
                    [(version, *identity) for identity in waiting],
                )
        return len(ready)

    def close(self) -> None:
        """End the connections."""
        self._connection.close()
        self._log.close()


class _Placed(Struct, gc=False):
    type: str = ""


_decode = msgspec.json.Decoder(_Placed).decode


def can_place(catalog: Catalog, subject: str, at: datetime, raw: bytes) -> bool:
    """Whether the catalog now has a customer, a subscription and a priced feature for an event."""
    customer_id = catalog.customer_id_by_subject.get(subject)
    subscription = catalog.subscription_at(customer_id, at) if customer_id is not None else None
    if subscription is None:
        return False
    metered = {feature.key for feature, _ in catalog.features_of(_decode(raw).type)}
    return any(placement.card.feature_key in metered for placement in catalog.placements_at(subscription, at))
