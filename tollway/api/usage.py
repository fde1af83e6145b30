"""
How much a meter counted, as the ledger has it: usage that was rated, by the windows of its charges.

Only for meters that add up (SUM, COUNT), in whole hours or more, and not by subject: the ledger keeps no events. What
waits to be rated is not in it. A meter is read through a feature that has all of it, or else through features that
share no usage because they differ in the text of one and the same dimension.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, LiteralString

import msgspec
from litestar import Response, get
from litestar.params import FromPath, QueryParameter

from rating.catalog import FeatureSet, MeterSet
from rating.meters import Aggregation, Feature, Meter
from rating.money import ZERO
from rating.periods import Cadence, add_duration
from tollway.api import notes
from tollway.api.problems import bad_request, not_found
from tollway.api.setup import meter_body
from tollway.api.stores import ApiStores, Stores
from tollway.api.threads import threaded
from tollway.api.wire import Json, instant, listed
from tollway.ledger_reads import find_customer

WINDOWS: dict[str, tuple[str, str]] = {"HOUR": ("hour", "PT1H"), "DAY": ("day", "P1D"), "MONTH": ("month", "P1M")}
ADDING_UP = (Aggregation.SUM, Aggregation.COUNT)
QUERY: LiteralString = (
    "select date_trunc(%(unit)s, window_start at time zone 'UTC') at time zone 'UTC' as start, sum(quantity)"
    " from charges where feature_key = any(%(features)s) and events > 0"
    " and (%(customers)s::text[] is null or customer_id = any(%(customers)s))"
    " and (%(from)s::timestamptz is null or window_start >= %(from)s)"
    " and (%(to)s::timestamptz is null or window_start < %(to)s)"
    " group by start order by start"
)

_numbers = msgspec.json.Encoder(decimal_format="number")


@get("/api/v1/meters/{meter:str}/query", tags=["Usage"])
@threaded
def query_meter(
    meter: FromPath[str],
    stores: Stores,
    start: Annotated[datetime | None, QueryParameter(name="from")] = None,
    end: Annotated[datetime | None, QueryParameter(name="to")] = None,
    window_size: Annotated[str | None, QueryParameter(name="windowSize")] = None,
    subject: Annotated[list[str] | None, QueryParameter(name="subject")] = None,
    customer_id: Annotated[list[str] | None, QueryParameter(name="filterCustomerId")] = None,
) -> Response[bytes]:
    """What a meter counted and was rated, in all or by window, of all customers or of some."""
    if window_size is not None and window_size not in WINDOWS:
        raise bad_request("window_size", f"expected one of {', '.join(WINDOWS)}, the ledger's windows being hours")
    if subject:
        raise bad_request("subject", "expected none, since the ledger has usage by customer: use `filterCustomerId`")
    for name, at in (("from", start), ("to", end)):
        if at is not None and at.tzinfo is None:
            raise bad_request(name, "expected an instant with an offset, as in 2026-03-01T12:00:00Z")
    feature_keys = _read_through(stores, meter)
    unit, cadence = WINDOWS[window_size or "HOUR"]
    with stores.connection() as connection:
        customers = [find_customer(connection, customer).id for customer in listed(customer_id)]
        rows = connection.execute(
            QUERY,
            {"unit": unit, "features": feature_keys, "customers": customers or None, "from": start, "to": end},
        ).fetchall()
    if window_size is None:
        total = sum((value for _, value in rows), ZERO)
        first = start or (rows[0][0] if rows else datetime.now(UTC))
        last = end or (rows[-1][0] + timedelta(hours=1) if rows else first)
        data = [_row(first, last, total)]
    else:
        data = [_row(at, add_duration(at, Cadence.parse(cadence)), value) for at, value in rows]
    body = {"from": instant(start), "to": instant(end), "windowSize": window_size, "data": data}
    content = {name: value for name, value in body.items() if value is not None}
    return Response(_numbers.encode(content), media_type="application/json")


def _row(start: datetime, end: datetime, value: Any) -> Json:
    return {"value": value, "windowStart": instant(start), "windowEnd": instant(end), "subject": None, "groupBy": {}}


def _read_through(stores: ApiStores, id_or_slug: str) -> list[str]:
    """The features whose usage is that of the meter. Raises `Problem` where there are none."""
    with stores.connection() as connection:
        meters = notes.read(connection, "meter", "order by key")
        features = [
            noted.record.feature
            for noted in notes.read(connection, "feature", "order by key")
            if isinstance(noted.record, FeatureSet)
        ]
    for noted in meters:
        assert isinstance(noted.record, MeterSet)
        meter = noted.record.meter
        if id_or_slug in (meter.key, meter_body(noted)["id"]):
            return _of_meter(meter, [feature for feature in features if feature.meter_key == meter.key])
    raise not_found("meter", id_or_slug)


def _of_meter(meter: Meter, features: list[Feature]) -> list[str]:
    if meter.aggregation not in ADDING_UP:
        kinds = " or ".join(ADDING_UP)
        raise bad_request("meter", f"expected a meter of {kinds}: what {meter.aggregation} has does not add up")
    whole = [feature.key for feature in features if not feature.filters]
    if whole:
        return whole[:1]
    dimensions = {tuple(feature.filters) for feature in features}
    texts = [text for feature in features for allowed in feature.filters.values() for text in allowed]
    if len(dimensions) > 1 or any(len(names) > 1 for names in dimensions) or len(set(texts)) < len(texts):
        raise bad_request("meter", "expected a feature with all usage of the meter: those there are share usage")
    return [feature.key for feature in features]


ROUTES: list[Any] = [query_meter]
