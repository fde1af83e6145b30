"""
RATE: folds usage into windows and the billing period, and prices what changed.

State is kept per usage period: one rate card of one customer in one billing period. Quantities are exact
decimals in the meter's unit, amounts exact decimals in the plan's currency. A charge is always a
difference of two totals of the period, so how the stream was cut does not change the sum.

An event is folded at once (an addition); pricing follows on the beat. Between two pricings a period
knows its *price segment*: the linear part of the price that it has reached, so that a charge is one multiplication.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime
from decimal import Decimal

from msgspec import Struct, field

from rating.charge import PriceSegment, commitment, continued, segment_at, top_up, total
from rating.money import ZERO
from rating.periods import window_at
from rating.prices import Pricing
from rating.tallies import Tally

PeriodKey = tuple[str, str, datetime]
"""Subscription, rate card, and start of the billing period."""


class Slice(Struct, array_like=True):
    """
    The open part of a window, cut where a grant starts or expires.

    Within a slice the same grants may pay, so eligibility by time of use is exact. Usage that is late for its
    window has a slice of its own, which lies before the window that shows it.
    """

    start: datetime
    end: datetime
    window_start: datetime
    quantity: Decimal = ZERO
    late_quantity: Decimal = ZERO
    events: int = 0
    total_before: Decimal = ZERO
    """What the period cost before this slice."""
    amount: Decimal = ZERO
    """What the slice costs: may be negative, where more usage made the whole period cheaper."""
    settled: Decimal = ZERO
    """How much of `amount` SETTLE has seen."""
    paid: dict[str, Decimal] = field(default_factory=dict)
    """What each grant paid within this slice."""
    uncovered: Decimal = ZERO
    was_left: bool = False
    """Whether it has been out of the state, and came back from the ledger."""

    @property
    def is_late(self) -> bool:
        """Whether it holds usage that came after its own window had closed."""
        return self.start < self.window_start


class UsagePeriod(Struct, array_like=True):
    """One rate card of one customer in one billing period, or in the part of it in which the card has one price."""

    subscription_id: str
    card_key: str
    feature_key: str | None
    period_start: datetime
    period_end: datetime
    full_start: datetime
    full_end: datetime
    closes_at: datetime
    """From here on newly received usage of the period is too late."""
    repays: bool
    """Whether the next grant repays what is uncovered: `credit_only`."""
    booked_from: datetime
    """From here on the price counts: the period's start, or its end for a fee in arrears."""
    usage: Decimal = ZERO
    """The meter's aggregate over the period."""
    events: int = 0
    amount: Decimal = ZERO
    """What `usage` costs, as of the last pricing."""
    commitment: Decimal = ZERO
    """What the minimum added when the period closed."""
    paid: dict[str, Decimal] = field(default_factory=dict)
    """What each grant paid in the period, in the order of first use."""
    uncovered: Decimal = ZERO
    closed: bool = False
    closed_through: datetime | None = None
    """Windows that end by here have left the state; later usage of theirs shows in the current one."""
    slices: list[Slice] = field(default_factory=list)
    """Open slices by window and start; the last is never one of late usage."""
    reprice_all: bool = False
    """Whether a slice other than the last changed since the last pricing."""
    segment: PriceSegment | None = None
    tally: Tally | None = None
    """What a non-additive aggregation remembers; None for SUM and COUNT."""
    dirty: bool = False
    booked: bool = False
    """Whether a fee in arrears has come due."""
    counted_from: datetime | None = None
    """Where the usage that tiers count begins, if that is before the period: a move has changed the price."""
    carried: Decimal = ZERO
    """What usage had come to when its price changed."""
    charged_before: Decimal = ZERO
    """What the parts of the period before this one cost."""
    reopened: list[Slice] = field(default_factory=list)
    """Windows that came back from the ledger, until a snapshot has held them."""
    owed_from: datetime | None = None
    """The start of the first slice that left the state and was not paid for in full."""
    owed_through: datetime | None = None
    """The start of the last such slice."""

    @property
    def key(self) -> PeriodKey:
        """What identifies it among those of its customer."""
        return self.subscription_id, self.card_key, self.period_start

    @property
    def reached(self) -> Decimal:
        """What tiers count: the usage, and what was carried into the period."""
        return self.usage + self.carried

    def cost(self, pricing: Pricing, usage: Decimal) -> Decimal:
        """What usage of the period costs; no minimum."""
        return total(pricing, usage) if self.counted_from is None else continued(pricing, self.carried, usage)

    def minimum(self, pricing: Pricing) -> Decimal:
        """What the minimum adds when the period closes: it counts all parts of it."""
        if self.counted_from is None:
            return commitment(pricing, self.usage)
        return top_up(pricing, self.charged_before + self.cost(pricing, self.usage))


def slice_at(period: UsagePeriod, at: datetime, boundaries: list[datetime], window_seconds: int) -> Slice:
    """
    The slice that usage at an instant belongs to, opened if need be.

    Args:
        period: The period; gains a slice where none covers the instant.
        at: Time of use.
        boundaries: The instants at which the customer's grants start or expire, rising.
        window_seconds: Length of a window.
    """
    slices = period.slices
    through = period.closed_through
    late = through is not None and at < through
    # Late usage may be in any of the windows. All other is in the last part of one that begins by then, if in any.
    place = len(slices) if late else bisect_right(slices, (at, at), key=_place)
    while place:
        place -= 1
        found = slices[place]
        if found.start <= at < found.end:
            return found
        if not late and found.window_start <= found.start <= at:
            break
    if through is not None and late:
        # Shown in the newest window. Only grants cut its span, which may overlap that of an earlier late slice.
        window_start, start, end = slices[-1].window_start, period.period_start, through
    else:
        window_start, end = window_at(at, window_seconds)
        start = max(window_start, period.period_start)
    index = bisect_right(boundaries, at)
    if index and boundaries[index - 1] > start:
        start = boundaries[index - 1]
    if index < len(boundaries) and boundaries[index] < end:
        end = boundaries[index]
    opened = Slice(start, end, window_start)
    place = bisect_right(slices, (window_start, start), key=_place)
    if slices and place == 0:
        opened.total_before = slices[0].total_before
    slices.insert(place, opened)
    period.reprice_all = True
    return opened


def slice_due_at(period: UsagePeriod, at: datetime, boundaries: list[datetime], window_seconds: int) -> Slice:
    """
    The slice of what falls due at an instant without usage, opened if need be: it begins there, and so has that date.

    The other arguments are those of `slice_at`.
    """
    cut_slices(period, at)
    part = slice_at(period, at, boundaries, window_seconds)
    if part.start < at and not part.is_late:
        # Just opened, behind what the window had.
        part.start = at
    return part


def _place(part: Slice) -> tuple[datetime, datetime]:
    """What slices are in the order of."""
    return part.window_start, part.start


def cut_slices(period: UsagePeriod, boundary: datetime) -> None:
    """A grant starts or expires at `boundary`: usage from there on belongs to a slice of its own."""
    for part in period.slices:
        if part.start < boundary < part.end:
            part.end = boundary


def price_period(period: UsagePeriod, pricing: Pricing, fee: Decimal = ZERO) -> None:
    """
    Bring the amounts of the period and of its open slices up to its usage.

    The slices are a chain in order of window and time: each costs the total after it less the total before
    it, in whatever order their usage arrived. The last one also carries what is due at the period's end.

    Args:
        period: Has a slice, and one at the period's end where something is due then.
        pricing: What its usage costs, and what is due at the period's start.
        fee: Due at the period's end. The period's commitment is too.
    """
    usage, reached = period.usage, period.reached
    segment = period.segment
    if segment is None or not segment.covers(reached):
        segment = period.segment = segment_at(pricing, reached)
    period.amount = segment.base + (reached - segment.start) * segment.unit_price
    if period.counted_from is not None:
        period.amount = max(period.amount - total(pricing, period.carried), ZERO)
    period.amount += fee
    slices = period.slices
    if period.reprice_all:
        before = slices[0].total_before
        reached = usage - sum((part.quantity for part in slices), ZERO)
        for part in slices[:-1]:
            part.total_before = before
            reached += part.quantity
            before = period.cost(pricing, reached)
            part.amount = before - part.total_before
        slices[-1].total_before = before
    last = slices[-1]
    last.amount = period.amount + period.commitment - last.total_before


def close_windows(period: UsagePeriod, late_windows: int) -> bool:
    """Drop all but the newest windows. Their rows are in the ledger, and their usage stays in the period's."""
    slices = period.slices
    if len(slices) <= late_windows or period.reopened:
        return False
    starts = sorted({part.window_start for part in slices})
    if len(starts) <= late_windows:
        return False
    first_kept = starts[-late_windows]
    kept = [part for part in slices if part.window_start >= first_kept]
    owed = [part.start for part in slices if part.window_start < first_kept and part.uncovered > 0]
    if owed:
        period.owed_from = min(period.owed_from or owed[0], *owed)
        period.owed_through = max(period.owed_through or owed[0], *owed)
    period.closed_through = first_kept
    period.slices = kept
    return True


def merged(parts: list[Slice]) -> Slice:
    """The slices of one window as one."""
    whole = Slice(parts[0].start, parts[-1].end, parts[0].window_start)
    for part in parts:
        whole.quantity += part.quantity
        whole.late_quantity += part.late_quantity
        whole.events += part.events
        whole.amount += part.amount
        whole.uncovered += part.uncovered
        for grant_id, amount in part.paid.items():
            whole.paid[grant_id] = whole.paid.get(grant_id, ZERO) + amount
    return whole
