"""
Lanes: the fast path of usage that needs no look at its account. An optimization, and nothing else.

Most events are one more of a subject and type whose route is known. Where that leads to one usage period that only
adds up, unfiltered, usage *gathers* in a lane: folding the event touches the lane and nothing else. What has gathered
goes to the period before its account is priced. Lanes may change which event of a batch has the account settled, as
another cut of the stream would, and nothing else: the laws are tested with lanes and without.

A lane is bounded by all that bounds its route: the slice of the window, the billing period, the version of the plan,
the owner of the subject, and from when to when usage may be received. It holds until what the catalog says of its
customer changes, which closes the lanes of that customer alone. A share of the headroom limits what may gather: the
event that reaches the limit has the account settled there and then, since access may change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Any

from msgspec import Struct

from rating.account import Account
from rating.catalog import ALWAYS, NEVER
from rating.meters import Aggregation
from rating.money import ZERO
from rating.prints import factor_of
from rating.usage import Slice, UsagePeriod

NO_LIMIT = 10**30
"""Units that no lane gathers between two beats."""
FLOOR = Context(prec=28, rounding=ROUND_FLOOR, traps=[])
"""For bounds only, which may be too small but never too great. No amount passes through it."""


class Gathered(Struct, array_like=True, frozen=True, gc=False):
    """What a lane has gathered since the account was packed."""

    place: tuple[str, int, int]
    """Customer, period among the account's, slice among the period's."""
    quantity: int | Decimal
    events: int


class Lane:
    """
    Takes events of one subject and type to their one usage period, while their time is within one slice and one route.

    `span` is from when to when the route holds: a window may begin before a billing period, and end after it.
    """

    __slots__ = (
        "account",
        "aggregation",
        "end",
        "event_type",
        "events",
        "factor",
        "limit",
        "mark",
        "part",
        "period",
        "place",
        "quantity_left",
        "read",
        "start",
        "subject",
    )  # fmt: skip

    def __init__(
        self,
        subject: str,
        event_type: str,
        account: Account,
        period: UsagePeriod,
        part: Slice,
        span: tuple[datetime, datetime],
        read: Callable[[Any], Any],
        aggregation: Aggregation,
        mark: int,
    ) -> None:
        self.subject = subject
        self.event_type = event_type
        self.account = account
        self.period = period
        self.part = part
        self.start = max(part.start, span[0])
        self.end = min(part.end, span[1])
        self.read = read
        self.aggregation = aggregation
        self.mark = mark
        """Whose the ids of its events are."""
        self.factor = factor_of(event_type, subject, period.card_key)
        """What their prints have in common: see `rating.prints`."""
        self.events = 0
        self.place = ("", 0, 0)
        """The customer, and the places of the period and the slice in the state as it was packed."""
        self.limit: int | Decimal = 0
        """What may gather before the account has to be settled at once: until then, access can't change."""
        self.quantity_left: int | Decimal = 0
        """What of the limit is left: usage is taken off it, and an integer stays one."""

    @property
    def quantity(self) -> int | Decimal:
        """What has gathered."""
        return self.limit - self.quantity_left

    def take_off(self, quantity: Decimal) -> None:
        """Usage was booked without this lane: shrink its limit."""
        self.limit -= quantity
        self.quantity_left -= quantity

    def set_limit(self, headroom: Decimal | None, sharers: int) -> None:
        """
        Set the limit of a lane that is empty, in whole units.

        Args:
            headroom: What this lane may spend, in the currency; None: there is no bound.
            sharers: How many lanes share what is left of the price segment that the period is on, this one included.
        """
        period = self.period
        segment = period.segment
        limit = NO_LIMIT
        if headroom is not None:
            if segment is None or (segment.until is not None and period.reached > segment.until):
                limit = 0
            else:
                if segment.unit_price and headroom.is_finite():
                    limit = min(limit, int(FLOOR.divide(headroom, segment.unit_price)))
                if segment.until is not None:
                    limit = min(limit, int(segment.until - period.reached) // sharers)
        self.limit = self.quantity_left = limit

    def empty(self) -> None:
        """Hand what has gathered over to the period."""
        if self.events:
            self.account.take(self.period, self.part, self.quantity, self.events)
            self.limit = self.quantity_left
            self.events = 0


class Lanes:
    """
    The lanes of a key group: how to find one, and what ends them.

    Args:
        with_lanes: Whether any are to be opened.
    """

    def __init__(self, with_lanes: bool = True) -> None:
        self._with_lanes = with_lanes
        self.by_type: dict[str, dict[str, Lane]] = {}
        """By event type, then by subject."""
        self.closes_at = NEVER
        """Usage that is received from here on is too late for some lane."""
        self.opens_at = ALWAYS[0]
        """Usage that is received before is too early for some lane."""
        self._of: dict[str, list[Lane]] = {}
        """By customer."""

    def of(self, account: Account) -> Sequence[Lane]:
        """The lanes of an account."""
        return self._of.get(account.state.customer_id, ())

    # -- open, close ----------------------------------------------------------------------------

    def open(self, lane: Lane, owned_from: datetime) -> None:
        """
        Let further events of a subject and type gather in a lane, in place of the one they had.

        It gets half the free headroom; a second lane on the same period gets none until the next settle.

        Args:
            lane: New.
            owned_from: Usage that was received before belongs to another customer.
        """
        if not self._with_lanes:
            return
        by_subject = self.by_type.setdefault(lane.event_type, {})
        before = by_subject.get(lane.subject)
        if before is not None:
            self._detach(before)
        by_subject[lane.subject] = lane
        self.closes_at = min(self.closes_at, lane.period.closes_at)
        self.opens_at = max(self.opens_at, owned_from)
        account = lane.account
        if account.headroom is None:
            lane.set_limit(None, 1)
        elif account.headroom > 0 and not any(other.period is lane.period for other in self.of(account)):
            half = FLOOR.divide(account.headroom, 2)
            account.set_headroom(half)
            lane.set_limit(half, 1)
        self._of.setdefault(account.state.customer_id, []).append(lane)

    def close(self, account: Account) -> None:
        """Close an account's lanes: what they were opened under has changed."""
        for lane in self._of.pop(account.state.customer_id, ()):
            lane.empty()
            del self.by_type[lane.event_type][lane.subject]

    def close_all(self) -> None:
        """Close all lanes: what concerns everybody has changed."""
        for lanes in self._of.values():
            for lane in lanes:
                lane.empty()
        self._of.clear()
        self.by_type.clear()
        self.closes_at = NEVER
        self.opens_at = ALWAYS[0]

    def close_subjects(self, subjects: set[str]) -> None:
        """Close the lanes of subjects that changed hands."""
        for by_subject in self.by_type.values():
            for subject in subjects & by_subject.keys():
                self._detach(by_subject.pop(subject))

    def _detach(self, lane: Lane) -> None:
        lane.empty()
        self._of[lane.account.state.customer_id].remove(lane)

    # -- gather, and share the headroom -----------------------------------------------------------

    def empty(self, account: Account) -> None:
        """Hand what has gathered in an account's lanes over to its periods."""
        for lane in self.of(account):
            lane.empty()

    def take_off(self, account: Account, period: UsagePeriod, quantity: Decimal) -> None:
        """Usage was booked in a period without its lanes: shrink their limits."""
        for lane in self.of(account):
            if lane.period is period:
                lane.take_off(quantity)

    def stop(self, account: Account, periods: Iterable[UsagePeriod]) -> None:
        """Let the next usage in lanes of some periods be settled at once: it changes what another one costs, too."""
        for period in periods:
            period.segment = None
            for lane in self.of(account):
                if lane.period is period:
                    lane.empty()
                    if account.headroom is not None:
                        lane.set_limit(ZERO, 1)

    def split_headroom(self, account: Account) -> None:
        """Split an account's headroom among its lanes, right after a settle; one share is for usage without a lane."""
        lanes = self.of(account)
        if not lanes:
            return
        headroom = account.headroom
        if headroom is not None:
            headroom = FLOOR.divide(headroom, len(lanes) + 1)
            account.set_headroom(headroom)
        periods = [id(lane.period) for lane in lanes]
        for lane, period in zip(lanes, periods, strict=True):
            lane.set_limit(headroom, periods.count(period))

    # -- snapshots --------------------------------------------------------------------------------

    def place(self, account: Account) -> None:
        """Note where in the packed state the usage of lanes goes. It holds until more changes than what they gather."""
        periods = account.state.periods
        for lane in self.of(account):
            slices = lane.period.slices
            lane.place = (account.state.customer_id, _place(lane.period, periods), _place(lane.part, slices))

    def gathered(self, account: Account) -> list[Gathered]:
        """What an account's lanes have gathered since it was packed."""
        return [Gathered(lane.place, lane.quantity, lane.events) for lane in self.of(account) if lane.events]


def _place(sought: object, among: Sequence[object]) -> int:
    """The place of this very object."""
    return next(place for place, found in enumerate(among) if found is sought)
