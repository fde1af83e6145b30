"""
Whether an event can be rated as the catalog stands, without rating it: what waiting events are asked.

It is the keyed step's own decision, down to filters, values and closed periods, but for what only a key group's state
knows: which ids were rated already. The law: where nothing was rated before, folding an event parks it exactly for the
reason that `place` gives, and rates or rejects it where `place` gives none.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from rating.calendar import closes_at
from rating.catalog import Catalog, Placement, Subscription
from rating.events import CloudEvent
from rating.meters import top_field
from rating.refusals import ParkCode
from rating.routes import measure, meters_of
from rating.time_rules import TimeRules
from rating.usage import UsagePeriod


class EventStanding(Struct, frozen=True):
    """Whose an event is, and why it waits; None: it waits no more."""

    customer_id: str | None
    code: ParkCode | None


def metered_fields(catalog: Catalog) -> list[str]:
    """The top-level fields of `data` that some meter looks at: what an `EventDecoder` has to know."""
    paths = {
        path
        for meter in catalog.meters.values()
        for path in (meter.value_property, *meter.group_by.values())
        if path is not None
    }
    return sorted({top_field(path) for path in paths})


def place_unread(
    catalog: Catalog, subject: str, event_type: str, at: datetime, received_at: datetime, meter: str = ""
) -> EventStanding:
    """
    Decide what can be decided without an event's data; where that gives no reason to wait, `place` decides.

    Args:
        catalog: As it stands.
        subject: The event's.
        event_type: The event's type.
        at: Its time of use.
        received_at: When it was first received.
        meter: The key of the one meter whose usage waits; empty: the whole event does.
    """
    return _by_subscription(catalog, subject, event_type, at, received_at, meter)[0]


def place(
    catalog: Catalog, rules: TimeRules, event: CloudEvent, at: datetime, received_at: datetime, meter: str = ""
) -> EventStanding:
    """
    Whose an event is and why it waits.

    Args:
        catalog: As it stands.
        rules: The deployment's.
        event: Decoded with the `metered_fields` of the catalog.
        at: Its time of use.
        received_at: When it was first received.
        meter: The key of the one meter whose usage waits; empty: the whole event does.
    """
    standing, subscription = _by_subscription(catalog, event.subject, event.type, at, received_at, meter)
    if standing.code is not None:
        return standing
    assert subscription is not None

    def opened(placement: Placement) -> tuple[UsagePeriod, datetime]:
        return _SOME_PERIOD, closes_at(subscription, placement.ends, rules.grace)

    placements = {found.card.feature_key: found for found in catalog.placements_at(subscription, at)}
    meters = meters_of(catalog.features_of(event.type), placements, opened)
    end = measure(meters, event, received_at, b"", meter).end(meter)
    return _standing(standing.customer_id, end if isinstance(end, ParkCode) else None, meter)


def _by_subscription(
    catalog: Catalog, subject: str, event_type: str, at: datetime, received_at: datetime, meter: str
) -> tuple[EventStanding, Subscription | None]:
    customer_id = catalog.owner_of_usage(subject, at, received_at)
    if customer_id is None:
        return _standing(None, ParkCode.UNKNOWN_SUBJECT, meter), None
    subscription = catalog.subscription_of_usage(customer_id, at, received_at)
    if subscription is None:
        return _standing(customer_id, ParkCode.NO_SUBSCRIPTION, meter), None
    if not catalog.features_of(event_type):
        return _standing(customer_id, ParkCode.NO_FEATURE, meter), subscription
    return EventStanding(customer_id, None), subscription


def _standing(customer_id: str | None, code: ParkCode | None, meter: str) -> EventStanding:
    """What of a rated event waits has no other reason than that no feature prices it, or that its period closed."""
    if meter and code is not None and code is not ParkCode.PERIOD_CLOSED:
        code = ParkCode.UNPRICED
    return EventStanding(customer_id, code)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SOME_PERIOD: Final = UsagePeriod(
    subscription_id="",
    card_key="",
    feature_key=None,
    period_start=_EPOCH,
    period_end=_EPOCH,
    full_start=_EPOCH,
    full_end=_EPOCH,
    closes_at=_EPOCH,
    repays=False,
    booked_from=_EPOCH,
    segment=None,
)
"""Stands for whichever period usage would be added to: nothing is."""
