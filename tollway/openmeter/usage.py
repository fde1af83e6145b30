"""
How much a meter counted: usage that was rated, as the ledger has it.

The ledger keeps no events. It knows what each customer's feature came to by charge window (an hour, or what
`TOLLWAY_WINDOW_SECONDS` says), and for meters that do not add up only by billing period. So a query is answered where
that is enough, and is refused with the reason where it is not; it is never answered with another number than the one
that was asked for. What came late shows in the window in which it was counted, and what waits to be rated in none.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from litestar import Request, get
from litestar.params import FromPath, QueryParameter

from rating.catalog import FeatureSet
from rating.meters import Feature
from rating.money import use_exact
from rating.periods import Cadence, add_duration
from tollway.control import notes
from tollway.ledger_reads import Connection, find_customer, rows
from tollway.openmeter.metering import WINDOWS, Query, Row, read_usage, way_of
from tollway.openmeter.meters import Meter, read_meter
from tollway.openmeter.problems import bad_request, utc_instant
from tollway.openmeter.routes import v1
from tollway.openmeter.shapes import Quantity, View
from tollway.openmeter.stores import Stores
from tollway.openmeter.threads import listing
from tollway.openmeter.wire import listed

CUSTOMER: Final = "customer_id"
SUBJECT: Final = "subject"
FILTER_GROUP_BY: Final = "filterGroupBy["
NOT_READ: Final = ("advancedMeterGroupByFilters",)


class UsageRow(View, frozen=True):
    """What was used in a window."""

    value: Quantity
    window_start: datetime
    window_end: datetime
    subject: str | None
    group_by: dict[str, str]
    customer_id: str | None = None


class Usage(View, frozen=True, rename={"from_": "from"}):
    """What a meter counted."""

    data: list[UsageRow]
    from_: datetime | None = None
    to: datetime | None = None
    window_size: str | None = None


@v1(get, "/meters/{meter:str}/query", on=listing, tags=["Usage"])
def query_meter(
    meter: FromPath[str],
    stores: Stores,
    request: Request[Any, Any, Any],
    start: Annotated[datetime | None, QueryParameter(name="from")] = None,
    end: Annotated[datetime | None, QueryParameter(name="to")] = None,
    window_size: Annotated[str | None, QueryParameter(name="windowSize")] = None,
    window_time_zone: Annotated[str | None, QueryParameter(name="windowTimeZone")] = None,
    subject: Annotated[list[str] | None, QueryParameter(name="subject")] = None,
    customer_id: Annotated[list[str] | None, QueryParameter(name="filterCustomerId")] = None,
    group_by: Annotated[list[str] | None, QueryParameter(name="groupBy")] = None,
) -> Usage:
    """
    What a meter counted and was rated, in all or by window, of all customers or of some.

    `groupBy` takes `customer_id` and one dimension of the meter, `filterGroupBy[dimension]` texts of it.
    """
    use_exact()
    start, end = _instants(start, end, window_size, window_time_zone)
    dimensions, filters = [name for name in listed(group_by) if name != CUSTOMER], _filters(request)
    dimension = next(iter({*dimensions, *filters}), None)
    with stores.connection() as connection:
        asked = read_meter(connection, meter)
        _check_dimensions(asked, {*dimensions, *filters})
        way = way_of(_features(connection, asked), dimension, filters.get(dimension or ""))
        customers, subjects = _customers(connection, listed(customer_id), listed(subject))
        query = Query(start, end, window_size, customers, CUSTOMER in listed(group_by), bool(dimensions))
        found = read_usage(connection, asked, way, query)
    data = []
    for row in found:
        # Several customers have one subject in common where it moved from one to the other.
        names = {subjects.get(owner) for owner in ([row.customer_id] if row.customer_id else customers or ())}
        text = way.parts.get(row.feature_key or "")
        opened, closed = _window(row, query, found)
        data.append(
            UsageRow(
                value=row.value,
                window_start=opened,
                window_end=closed,
                subject=names.pop() if len(names) == 1 else None,
                group_by={dimension: text} if dimension is not None and text is not None else {},
                customer_id=row.customer_id,
            )
        )
    return Usage(data=data, from_=start, to=end, window_size=window_size)


def _window(row: Row, query: Query, found: list[Row]) -> tuple[datetime, datetime]:
    """From when to when a row counts."""
    if query.window is not None:
        return row.start, add_duration(row.start, Cadence.parse(WINDOWS[query.window][1]))
    start = query.start or min(one.start for one in found)
    return start, query.end or max(datetime.now(UTC), *(one.start for one in found))


def _instants(
    start: datetime | None, end: datetime | None, window: str | None, time_zone: str | None
) -> tuple[datetime | None, datetime | None]:
    """From when to when, in UTC. Raises `Problem`."""
    if window is not None and window not in WINDOWS:
        raise bad_request("window_size", f"expected one of {', '.join(WINDOWS)}, got `{window[:40]}`")
    if time_zone not in (None, "", "UTC", "Etc/UTC"):
        raise bad_request("window_time_zone", "expected UTC: the ledger's windows are those of UTC")
    start, end = (at and utc_instant(name, at) for name, at in (("from", start), ("to", end)))
    if start is not None and end is not None and start >= end:
        raise bad_request("to", "expected an instant after `from`")
    return start, end


def _filters(request: Request[Any, Any, Any]) -> dict[str, list[str]]:
    """The texts that a dimension may have, by dimension."""
    found: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        if name.startswith(NOT_READ):
            raise bad_request(name, "expected none: the ledger has usage by feature; use `filterGroupBy[dimension]`")
        if name.startswith(FILTER_GROUP_BY) and name.endswith("]"):
            found.setdefault(name.removeprefix(FILTER_GROUP_BY)[:-1], []).extend(listed([value]))
        elif name.startswith(FILTER_GROUP_BY.rstrip("[")):
            raise bad_request("filterGroupBy", "expected `filterGroupBy[dimension]=text`")
    return found


def _features(connection: Connection, meter: Meter) -> list[Feature]:
    return [
        noted.record.feature
        for noted in notes.read(connection, "feature", "noted_in_order")
        if isinstance(noted.record, FeatureSet) and noted.record.feature.meter_key == meter.key
    ]


def _check_dimensions(meter: Meter, names: set[str]) -> None:
    for name in sorted(names):
        if name == SUBJECT:
            raise bad_request("group_by", "expected `customer_id`: the ledger has usage by customer, not by subject")
        if name not in meter.group_by:
            known = ", ".join([CUSTOMER, *meter.group_by])
            raise bad_request("group_by", f"expected one of {known}, got `{name[:40]}`")
    if len(names) > 1:
        raise bad_request("group_by", "expected one dimension: the ledger has usage by feature, not by several at once")


def _customers(
    connection: Connection, named: list[str], subjects: list[str]
) -> tuple[list[str] | None, dict[str, str]]:
    """
    The customers that are asked for, None for all, and the subject of each, where subjects are asked for.

    Usage of a subject is known where all usage of its customer came under it, or under others that are named too.
    """
    ids = [find_customer(connection, name).id for name in named]
    if not subjects:
        return ids or None, {}
    found: dict[str, str] = {}
    for row in rows(connection, "used_subjects", {"subjects": subjects}):
        others = [subject for subject in row["subjects"] if subject not in subjects]
        if others:
            message = (
                f"expected all subjects that usage of customer `{row['id']}` came under, `{others[0][:40]}` too:"
                " the ledger has usage by customer; or use `filterCustomerId`"
            )
            raise bad_request("subject", message)
        found[row["id"]] = row["subjects"][0] if len(row["subjects"]) == 1 else ""
    chosen = [customer_id for customer_id in found if not ids or customer_id in ids]
    return chosen, {customer_id: subject for customer_id, subject in found.items() if subject}


ROUTES = [query_meter]
