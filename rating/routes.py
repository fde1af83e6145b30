"""
ATTRIBUTE: which meters an event counts towards, and what it adds to each.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct

from rating.calendar import Calendar
from rating.catalog import Subscription
from rating.credits import NEVER, Account
from rating.events import CloudEvent
from rating.meters import (
    PLAIN_INTEGER_LIMIT,
    Aggregation,
    Feature,
    Meter,
    add,
    compile_path,
    dimension_text,
    new_tally,
    quantity,
    tally_value,
)
from rating.outcome import ParkCode, RejectCode, Rejected
from rating.usage import MeterState

ADDITIVE = frozenset({Aggregation.SUM, Aggregation.COUNT})


class Read(Struct, frozen=True, gc=False):
    """How an event of a route counts towards one meter."""

    meter: MeterState
    value: Callable[[Any], Any]
    """Takes the value out of an event's data."""
    path: str
    aggregation: Aggregation
    is_sum: bool
    conditions: tuple[tuple[Callable[[Any], Any], frozenset[str]], ...]

    def counts(self, data: Any) -> bool:
        """Whether the feature's filters let an event pass."""
        for dimension, allowed in self.conditions:
            value = dimension(data)
            if (value if value.__class__ is str else dimension_text(value)) not in allowed:
                return False
        return True


class Route(Struct, frozen=True, gc=False):
    """Where events of one subject and type go while their time is within [start, end)."""

    account: Account
    start: datetime
    end: datetime
    closes_at: datetime
    reads: tuple[Read, ...]
    is_plain: bool
    """Whether every event adds to one meter, so that usage may gather in a lane."""


def route_to(
    account: Account,
    subscription: Subscription,
    features: tuple[tuple[Feature, Meter], ...],
    at: datetime,
    now: datetime,
    calendar: Calendar,
) -> Route | ParkCode:
    """
    The way to an account's meters under the subscription in force at an instant; or why there is none.

    Args:
        account: The customer's.
        subscription: In force at `at`.
        features: The features that meter events of the type, each with its meter.
        at: Time of use.
        now: The present instant.
        calendar: Opens the meters that are not open yet.
    """
    placements = account.placements_at(calendar.catalog, subscription, at)
    reads: list[Read] = []
    for feature, metered in features:
        placement = placements.get(feature.key)
        if placement is None:
            continue
        meter = calendar.meter(account, placement, now)
        if meter is None:
            return ParkCode.PERIOD_CLOSED
        reads.append(
            Read(
                meter=meter,
                value=compile_path(metered.value_property) if metered.value_property else _no_value,
                path=metered.value_property or "",
                aggregation=metered.aggregation,
                is_sum=metered.aggregation is Aggregation.SUM,
                conditions=tuple(
                    (compile_path(metered.group_by[dimension]), frozenset(allowed))
                    for dimension, allowed in sorted(feature.filters.items())
                ),
            )
        )
    if not reads:
        return ParkCode.NO_FEATURE
    start = max(read.meter.period_start for read in reads)
    end = min(read.meter.period_end for read in reads)
    # Of subscriptions that overlap, the one that started last is in force only up to its end.
    for other in calendar.catalog.subscriptions[account.state.customer_id].values():
        if other is not subscription:
            if other.active_from > at:
                end = min(end, other.active_from)
            if (other.active_to or NEVER) <= at:
                start = max(start, other.active_to or NEVER)
    return Route(
        account=account,
        start=start,
        end=end,
        closes_at=min(read.meter.closes_at for read in reads),
        reads=tuple(reads),
        is_plain=len(reads) == 1 and not reads[0].conditions and reads[0].aggregation in ADDITIVE,
    )


def _no_value(_data: Any) -> None:
    """What COUNT takes out of an event's data."""


def measure(route: Route, event: CloudEvent, at: datetime, line: bytes) -> list[tuple[MeterState, Decimal]] | Rejected:
    """What an event adds to each meter of its route, all or nothing; `line` is the event's bytes."""
    measured: list[tuple[MeterState, Decimal]] = []
    tallied: list[tuple[Read, Any]] = []
    data = event.data
    for read in route.reads:
        if read.conditions and not read.counts(data):
            continue
        value = read.value(data)
        if read.is_sum and value.__class__ is int and 0 <= value < PLAIN_INTEGER_LIMIT:
            measured.append((read.meter, Decimal(value)))
            continue
        value = quantity(value, read.aggregation)
        if isinstance(value, RejectCode):
            message = f"expected a number >= 0 at `{read.path}` for feature `{read.meter.feature_key}`"
            return Rejected(value, message, read.path.replace("$", "$.data", 1), line)
        if read.aggregation in ADDITIVE:
            assert isinstance(value, Decimal)
            measured.append((read.meter, value))
        else:
            tallied.append((read, value))
    for read, value in tallied:
        meter = read.meter
        if meter.tally is None:
            meter.tally = new_tally(read.aggregation)
        add(meter.tally, value, at, event.id)
        measured.append((meter, tally_value(meter.tally) - meter.usage))
    return measured
