"""
Reading metered usage from the ledger: by window for meters that add up, by billing period for the others.

A meter is read through the features that have all its usage; for subscriptions without any, through features that
share no usage, since they differ in the text of one and the same dimension. What is asked for is told, or refused with
the reason; never another number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeVar

from config.settings import load_settings
from rating.meters import Aggregation, Feature
from rating.money import ZERO, quotient
from rating.periods import Cadence, add_duration, window_at
from rating.tallies import AVERAGE_DIGITS
from tollway.ledger_reads import Connection, rows
from tollway.openmeter.meters import Meter
from tollway.openmeter.problems import Problem, bad_request
from tollway.openmeter.wire import instant

WINDOWS: Final = {
    "MINUTE": ("minute", "PT1M", 60),
    "HOUR": ("hour", "PT1H", 3600),
    "DAY": ("day", "P1D", 86_400),
    "MONTH": ("month", "P1M", 86_400),
}
"""By name: as PostgreSQL names it, how long it is, and the seconds that a charge window has to divide."""

ADDING_UP: Final = (Aggregation.SUM, Aggregation.COUNT)

T = TypeVar("T")


class Way(NamedTuple):
    """The features that a meter is read through."""

    whole: list[str]
    """They have all usage of the meter."""
    parts: dict[str, str]
    """They share no usage: by feature, its text of the dimension."""
    unread: list[str]
    """Others of the meter."""


class Row(NamedTuple):
    """What was counted in a window."""

    customer_id: str | None
    feature_key: str | None
    start: datetime
    """Of the window; without windows, of the first one or of the first billing period."""
    value: Decimal


class Query(NamedTuple):
    """What is asked."""

    start: datetime | None
    end: datetime | None
    window: str | None
    customers: list[str] | None
    by_customer: bool
    by_feature: bool


def way_of(features: list[Feature], dimension: str | None, texts: list[str] | None) -> Way:
    """
    How to read a meter.

    Args:
        features: All that are of the meter.
        dimension: By the texts of which usage is told apart; None: it is not.
        texts: Only these texts of the dimension; None for all.

    Raises:
        Problem: The features there are do not tell.
    """
    if dimension is None:
        whole = [feature.key for feature in features if not feature.filters and not feature.others]
        filtered = [feature for feature in features if feature.filters or feature.others]
        parts = _parts(filtered, None)
        if not whole and not parts:
            why = "there is none" if parts == {} else "those that there are share usage"
            raise bad_request("meter", f"expected a feature with all usage of the meter: {why}")
        unread = [] if parts is not None else [feature.key for feature in filtered]
        return Way(whole, parts or {}, unread)
    by_dimension = [feature for feature in features if list(feature.filters) == [dimension] and not feature.others]
    parts = _parts(by_dimension, dimension)
    missing = sorted(set(texts or ()).difference((parts or {}).values()))
    if not parts or missing:
        what = f"`{missing[0][:40]}`" if parts and missing else "each text"
        message = f"expected a feature for {what} of `{dimension}` alone: the ledger has usage by feature"
        raise bad_request("group_by" if texts is None else f"filterGroupBy[{dimension}]", message)
    return Way([], {key: text for key, text in parts.items() if texts is None or text in texts}, [])


def _parts(features: list[Feature], dimension: str | None) -> dict[str, str] | None:
    """
    Features that differ in the texts of one dimension, by feature its texts; None where they may share usage.

    One that takes what the others do not shares nothing with them.
    """
    named = [feature for feature in features if not feature.others]
    names = {tuple(feature.filters) for feature in named}
    texts = [text for feature in named for allowed in feature.filters.values() for text in allowed]
    shared = len(names) > 1 or any(len(found) > 1 for found in names) or len(set(texts)) < len(texts)
    if shared or len(features) > len(named) + 1:
        return None
    if dimension is not None and any(len(feature.filters[dimension]) > 1 for feature in features):
        return None
    return {
        feature.key: ",".join(text for allowed in feature.filters.values() for text in allowed) for feature in features
    }


def read_usage(connection: Connection, meter: Meter, way: Way, query: Query) -> list[Row]:
    """What a meter counted, as it is asked for. Raises `Problem` where the ledger does not know."""
    _check_unread(connection, way, query)
    return (_windows if meter.aggregation in ADDING_UP else _periods)(connection, meter, way, query)


def _windows(connection: Connection, meter: Meter, way: Way, query: Query) -> list[Row]:
    """What a meter that adds up counted, by window."""
    seconds = load_settings(os.environ).window_seconds
    unit, _, divided = WINDOWS[query.window or "DAY"]
    if query.window is not None and divided % seconds:
        raise bad_request(
            "window_size", f"expected windows that are made of the ledger's, which are {seconds} s: see the settings"
        )
    features = [*way.whole, *way.parts]
    asked = {"features": features, "whole": way.whole, "customers": query.customers}
    cut = [window_at(at, seconds)[0] for at in (query.start, query.end) if at is not None and at < datetime.now(UTC)]
    cut = [window for window in cut if window not in (query.start, query.end)]
    for row in rows(connection, "meter_cut", asked | {"windows": cut}):
        if row["window_start"] is not None:
            begun = instant(row["window_start"])
            message = f"expected a whole window: the ledger has usage in that of {seconds} s from {begun} as one"
            raise bad_request("from" if query.start and row["window_start"] < query.start else "to", message)
    counted = rows(
        connection,
        "meter_windows",
        asked
        | {"unit": unit, "from": query.start, "to": query.end}
        | {"by_customer": query.by_customer, "by_feature": query.by_feature},
    )
    found = [Row(row["customer_id"], row["feature_key"], row["start"], row["value"]) for row in counted]
    return found if query.window else _merged(found, lambda values: sum((value.value for value in values), ZERO))


def _check_unread(connection: Connection, way: Way, query: Query) -> None:
    """No usage may be left out: where features share usage, each subscription needs one with all of it."""
    values = {"others": way.unread, "features": way.whole, "customers": query.customers}
    for row in rows(connection, "meter_unread", values) if way.unread else []:
        message = f"expected a feature with all usage of the meter in each plan: `{row['feature_key']}` shares usage"
        raise bad_request("meter", message)


def _merged(found: list[Row], value: Callable[[list[Row]], Decimal]) -> list[Row]:
    """One row for each customer and feature."""
    groups = _grouped(found, lambda row: (row.customer_id, row.feature_key))
    return [
        Row(customer_id, feature_key, min(row.start for row in group), value(group))
        for (customer_id, feature_key), group in groups.items()
    ]


def _grouped(found: Iterable[T], key: Callable[[T], Any]) -> dict[Any, list[T]]:
    groups: dict[Any, list[T]] = {}
    for row in found:
        groups.setdefault(key(row), []).append(row)
    return groups


def _periods(connection: Connection, meter: Meter, way: Way, query: Query) -> list[Row]:
    """What a meter that does not add up came to: each billing period has to lie in one window."""
    asked = {"features": [*way.whole, *way.parts], "customers": query.customers}
    by_subscription = _grouped(rows(connection, "meter_periods", asked), lambda row: row["subscription_id"])
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    now = datetime.now(UTC)
    for found in by_subscription.values():
        whole = [row["feature_key"] for row in found if row["feature_key"] in way.whole]
        for row in found:
            if whole and row["feature_key"] != whole[0]:
                continue
            start, end = row["period_start"], row["period_end"]
            if (query.end and query.end <= start) or (query.start and query.start >= end):
                continue
            window = _window_of(start, query.window)
            if _is_cut(start, min(end, now), query, window):
                message = (
                    f"expected whole billing periods, as the one from {instant(start)} to {instant(end)}:"
                    f" the ledger has {meter.aggregation} by billing period only"
                )
                raise bad_request("window_size" if query.window else "from", message)
            key = (
                window[0] if window else None,
                row["customer_id"] if query.by_customer else None,
                row["feature_key"] if query.by_feature else None,
            )
            groups.setdefault(key, []).append(row)
    found_rows = []
    for (opened, customer, feature), group in groups.items():
        first = min(row["period_start"] for row in group)
        group.sort(key=lambda row: row["period_start"])
        found_rows.append(Row(customer, feature, opened or first, _combined(meter, group)))
    return sorted(found_rows, key=lambda row: (row.start, row.customer_id or "", row.feature_key or ""))


def _window_of(at: datetime, size: str | None) -> tuple[datetime, datetime] | None:
    """The window that an instant falls in."""
    if size is None:
        return None
    unit, cadence, _ = WINDOWS[size]
    fields = {"minute": 0, "second": 0, "microsecond": 0}
    if unit == "minute":
        del fields["minute"]
    elif unit != "hour":
        fields["hour"] = 0
    start = at.astimezone(UTC).replace(**fields)  # type: ignore[arg-type]
    start = start.replace(day=1) if unit == "month" else start
    return start, add_duration(start, Cadence.parse(cadence))


def _is_cut(start: datetime, end: datetime, query: Query, window: tuple[datetime, datetime] | None) -> bool:
    """Whether a period, as far as it has come, is not all in what is asked for, or not all in one window."""
    if (query.start is not None and start < query.start) or (query.end is not None and end > query.end):
        return True
    return window is not None and end > window[1]


def _combined(meter: Meter, periods: list[dict[str, Any]]) -> Decimal:
    """What several billing periods come to together. Raises `Problem` where that can't be known."""
    values: list[Decimal] = [row["value"] for row in periods]
    match meter.aggregation:
        case Aggregation.MAX:
            return max(values)
        case Aggregation.MIN:
            return min(values)
        case Aggregation.AVG if len(periods) > 1:
            events = sum(row["events"] for row in periods)
            total = sum((row["value"] * row["events"] for row in periods), ZERO)
            return quotient(total, Decimal(events), AVERAGE_DIGITS)
        case Aggregation.LATEST if len({row["customer_id"] for row in periods}) > 1 or _overlap(periods):
            raise _several(meter, "which of them came last is not known")
        case Aggregation.UNIQUE_COUNT if len(periods) > 1:
            raise _several(meter, "what they have in common is not known")
    return values[-1]


def _overlap(periods: list[dict[str, Any]]) -> bool:
    """Whether periods, which are in the order of their starts, are not one after the other."""
    return any(later["period_start"] < earlier["period_end"] for earlier, later in pairwise(periods))


def _several(meter: Meter, why: str) -> Problem:
    message = (
        f"expected one billing period of one customer: the ledger has {meter.aggregation} by billing period, and {why};"
        " use `filterCustomerId`, `from` and `to`, or group by `customer_id`"
    )
    return bad_request("meter", message)
