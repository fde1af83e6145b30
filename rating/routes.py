"""
ATTRIBUTE: which meters an event counts towards, and what it adds to each.

A plan prices the usage of a meter through features, each of which takes all of it, or what its filters let pass. What
no feature takes is unpriced; what an event lacks for one meter is refused for that meter alone, and the rest counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct, field

from rating.account import Account
from rating.calendar import Calendar
from rating.catalog import ALWAYS, NEVER, Placement, Subscription
from rating.events import CloudEvent
from rating.lanes import Lanes
from rating.meters import PLAIN_INTEGER_LIMIT, Aggregation, Feature, Meter, compile_path, dimension_text, quantity
from rating.refusals import ParkCode, RejectCode, Rejected
from rating.tallies import UNIQUE_MAX, is_beyond
from rating.usage import UsagePeriod

ADDITIVE = frozenset({Aggregation.SUM, Aggregation.COUNT})

Dimension = Callable[[Any], Any]
"""Takes a dimension's value out of an event's data."""


class Taker(Struct, frozen=True, gc=False):
    """A feature of the plan that prices usage of a meter."""

    period: UsagePeriod | None
    """Where it counts; None: that billing period has left the state for good."""
    closes_at: datetime
    """From here on newly received usage of the period is too late."""
    conditions: tuple[tuple[Dimension, frozenset[str]], ...]

    def takes(self, data: Any) -> bool:
        """Whether the feature's filters let an event pass."""
        for dimension, allowed in self.conditions:
            value = dimension(data)
            if (value if value.__class__ is str else dimension_text(value)) not in allowed:
                return False
        return True


class Metered(Struct, frozen=True, gc=False):
    """How events of a route count towards one meter of the plan."""

    key: str
    value: Callable[[Any], Any]
    """Takes the value out of an event's data."""
    path: str
    aggregation: Aggregation
    takers: tuple[Taker, ...]
    rest: tuple[Taker, ...]
    """Features that take what none of the others does."""
    dimensions: tuple[tuple[str, Dimension], ...]
    """The dimensions by which the features distinguish usage, with their names."""

    def taken_by(self, data: Any) -> list[Taker]:
        """The features that take an event's usage."""
        return [taker for taker in self.takers if taker.takes(data)] or [
            taker for taker in self.rest if taker.takes(data)
        ]


class Route(Struct, frozen=True, gc=False):
    """Where events of one subject and type go while their time is within [start, end)."""

    account: Account
    start: datetime
    end: datetime
    meters: tuple[Metered, ...]
    owned_from: datetime = ALWAYS[0]
    """Events that were received before belong to another customer, who had the subject then."""

    @property
    def has_left(self) -> bool:
        """Whether one of its billing periods has left the state: what comes in time for that has to look again."""
        return any(taker.period is None for metered in self.meters for taker in (*metered.takers, *metered.rest))

    @property
    def only_taker(self) -> Taker | None:
        """The one feature that takes all there is, so that usage may gather in a lane."""
        if len(self.meters) != 1:
            return None
        metered = self.meters[0]
        takers = (*metered.takers, *metered.rest)
        is_plain = len(takers) == 1 and not takers[0].conditions and metered.aggregation in ADDITIVE
        return takers[0] if is_plain else None


class KnownRoutes:
    """
    The routes that were found, by subject and event type, until something they rest on changes; and the lanes on them.

    Args:
        lanes: The key group's.
    """

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self._routes: dict[tuple[str, str], Route] = {}
        self._of: dict[str, set[tuple[str, str]]] = {}
        """By customer, the routes that lead to it."""

    def get(self, subject: str, event_type: str) -> Route | None:
        """The route of a subject's events of a type."""
        return self._routes.get((subject, event_type))

    def keep(self, subject: str, event_type: str, route: Route) -> None:
        """Remember a route."""
        self._routes[subject, event_type] = route
        self._of.setdefault(route.account.state.customer_id, set()).add((subject, event_type))

    def customer_ids(self) -> list[str]:
        """Customers that some route leads to."""
        return [*self._of]

    def forget_all(self) -> None:
        """What concerns everybody has changed."""
        self._routes.clear()
        self._of.clear()
        self.lanes.close_all()

    def forget_account(self, account: Account) -> None:
        """What the catalog says of a customer has changed. All others go on as they do."""
        self.lanes.close(account)
        for key in self._of.pop(account.state.customer_id, ()):
            self._routes.pop(key, None)

    def forget_subjects(self, moved: set[str]) -> None:
        """Subjects have changed hands: that concerns two customers."""
        self.lanes.close_subjects(moved)
        for key in [key for key in self._routes if key[0] in moved]:
            del self._routes[key]


class Part(Struct, frozen=True, gc=False):
    """What of an event waits: its usage of one meter."""

    code: ParkCode
    meter: str
    dimensions: dict[str, str]
    quantity: Decimal | None


class Measured(Struct):
    """What an event comes to."""

    counted: list[tuple[UsagePeriod, Aggregation, Decimal | str]] = field(default_factory=list)
    """What it adds to each usage period of the account: a number, or a text where texts are counted."""
    refused: list[Rejected] = field(default_factory=list)
    """For meters whose value is not in it, or is no value."""
    waiting: list[Part] = field(default_factory=list)
    """For meters of which no feature takes it, or only one whose period has closed."""

    def end(self, only: str = "") -> ParkCode | Rejected | None:
        """
        How the event ends as a whole, or what of it is for `only` one meter; None: it is rated, if only as unpriced.

        Usage that no feature prices waits by itself, by its meter: the event is not in its way, and never comes again.
        """
        if self.counted:
            return None
        if only and self.waiting:
            return self.waiting[0].code
        codes = {waits.code for waits in self.waiting}
        if ParkCode.UNPRICED in codes:
            return None
        if codes:
            return ParkCode.PERIOD_CLOSED
        return self.refused[0] if self.refused else ParkCode.NO_FEATURE


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
        calendar: Opens the usage periods that are not open yet.
    """
    placements = account.placements_at(calendar.catalog, subscription, at)
    start, end = _in_force(calendar, account, subscription, at)
    spans = [(start, end)]

    def opened(placement: Placement) -> tuple[UsagePeriod | None, datetime]:
        period = calendar.usage_period(account, placement, now)
        if period is None:
            spans.append((placement.period.start, placement.period.end))
            return None, placement.period.start
        spans.append((period.period_start, period.period_end))
        return period, period.closes_at

    meters = meters_of(features, placements, opened)
    if not meters:
        return ParkCode.NO_FEATURE
    return Route(account, max(start for start, _ in spans), min(end for _, end in spans), meters)


def meters_of(
    features: tuple[tuple[Feature, Meter], ...],
    placements: Mapping[str | None, Placement],
    opened: Callable[[Placement], tuple[UsagePeriod | None, datetime]],
) -> tuple[Metered, ...]:
    """
    The meters of a plan that events of a type count towards.

    Args:
        features: The features that meter events of the type, each with its meter.
        placements: By feature, where usage belongs at the instant.
        opened: Gives a placement's usage period, and from when on usage of it is received too late.
    """
    by_meter: dict[str, tuple[Meter, list[Feature]]] = {}
    for feature, meter in features:
        if feature.key in placements:
            by_meter.setdefault(meter.key, (meter, []))[1].append(feature)
    found = []
    for meter, priced in by_meter.values():
        takers: list[Taker] = []
        rest: list[Taker] = []
        for feature in priced:
            (rest if feature.others else takers).append(_taker(*opened(placements[feature.key]), feature, meter))
        dimensions = sorted({dimension for feature in priced for dimension in feature.filters})
        found.append(
            Metered(
                key=meter.key,
                value=compile_path(meter.value_property) if meter.value_property else _no_value,
                path=meter.value_property or "",
                aggregation=meter.aggregation,
                takers=tuple(takers),
                rest=tuple(rest),
                dimensions=tuple((name, compile_path(meter.group_by[name])) for name in dimensions),
            )
        )
    return tuple(found)


def _taker(opened: UsagePeriod | None, closes_at: datetime, feature: Feature, meter: Meter) -> Taker:
    return Taker(
        period=opened,
        closes_at=closes_at,
        conditions=tuple(
            (compile_path(meter.group_by[dimension]), frozenset(allowed))
            for dimension, allowed in sorted(feature.filters.items())
        ),
    )


def _in_force(
    calendar: Calendar, account: Account, subscription: Subscription, at: datetime
) -> tuple[datetime, datetime]:
    """From when to when a subscription is the one in force around an instant, on one version of its plan."""
    span = subscription.version_span(at)
    start, end = max(span.start, subscription.active_from), min(span.end, subscription.active_to or NEVER)
    # Of subscriptions that overlap, the one that started last is in force only up to its end.
    for other in calendar.catalog.subscriptions[account.state.customer_id].values():
        if other is not subscription:
            if other.active_from > at:
                end = min(end, other.active_from)
            if (other.active_to or NEVER) <= at:
                start = max(start, other.active_to or NEVER)
    return start, end


def _no_value(_data: Any) -> None:
    """What COUNT takes out of an event's data."""


def measure(
    meters: Iterable[Metered], event: CloudEvent, received_at: datetime, line: bytes, only: str = ""
) -> Measured:
    """
    What an event comes to for each meter. Nothing is changed by asking.

    Args:
        meters: Of a route that covers the event's time.
        event: To be counted.
        received_at: When it was first received.
        line: Its bytes.
        only: The key of the one meter to look at; empty: all.
    """
    measured = Measured()
    data = event.data
    for metered in meters:
        if only and metered.key != only:
            continue
        takers = metered.taken_by(data)
        value = metered.value(data)
        if value.__class__ is int and 0 <= value < PLAIN_INTEGER_LIMIT and metered.aggregation is Aggregation.SUM:
            value = Decimal(value)
        else:
            value = quantity(value, metered.aggregation)
        if value.__class__ is RejectCode:
            # What has no value and no feature that would take it is no usage.
            if takers or value is not RejectCode.VALUE_MISSING:
                measured.refused.append(_refused(metered, value, line))
            continue
        if not takers and (value or metered.aggregation is not Aggregation.SUM):
            measured.waiting.append(_part(ParkCode.UNPRICED, metered, data, value))
        is_closed = False
        for taker in takers:
            if taker.period is None or received_at >= taker.closes_at:
                is_closed = True
            elif value.__class__ is str and is_beyond(taker.period.tally, value):
                measured.refused.append(_one_too_many(metered, line))
            else:
                measured.counted.append((taker.period, metered.aggregation, value))
        if is_closed:
            measured.waiting.append(_part(ParkCode.PERIOD_CLOSED, metered, data, value))
    return measured


def _refused(metered: Metered, code: RejectCode, line: bytes) -> Rejected:
    expected = "a text" if metered.aggregation is Aggregation.UNIQUE_COUNT else "a number >= 0"
    message = f"expected {expected} at `{metered.path}` for meter `{metered.key}`"
    return Rejected(code, message, metered.path.replace("$", "$.data", 1), line, metered.key)


def _one_too_many(metered: Metered, line: bytes) -> Rejected:
    message = f"expected at most {UNIQUE_MAX} different texts in a billing period for meter `{metered.key}`"
    path = metered.path.replace("$", "$.data", 1)
    return Rejected(RejectCode.VALUE_TOO_MANY, message, path, line, metered.key)


def _part(code: ParkCode, metered: Metered, data: Any, value: Decimal | str) -> Part:
    texts = {name: dimension_text(dimension(data)) for name, dimension in metered.dimensions}
    shown = {name: text for name, text in texts.items() if text is not None}
    return Part(code, metered.key, shown, value if isinstance(value, Decimal) else None)
