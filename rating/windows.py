"""
Windows that left the state, and come back from the ledger.

A window leaves once newer ones are open, a period once it has closed; what they came to is in the ledger. They come
back where something concerns them after all: a grant that became known later and may pay for them, or usage that was
received in time and could be placed only now. Its row tells of a window what the engine knew of it: usage is dated by
the start of its window, or of the part of it that begins where a grant did that was known by then.

A row of the ledger that was written in an epoch that a crash undid is deleted, and told again from the snapshot. So
what comes back is told otherwise only once a snapshot holds it; and the ledger keeps the row that is replaced, for
where more than one epoch is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from rating.meters import Aggregation
from rating.money import ZERO
from rating.outcome import ChargeRow, WindowPart
from rating.periods import window_at
from rating.tallies import HighestTally, LowestTally, Tally
from rating.usage import MeterKey, MeterState, Slice
from rating.wallet import book

LoadWindows = Callable[[str, MeterKey], Sequence[ChargeRow]]
"""Given a customer and a rate card's billing period: what the ledger has of it, a row for each window."""


def windows_that_left(meter: MeterState, rows: Sequence[ChargeRow], window_seconds: int) -> list[Slice] | None:
    """
    The windows of a period that are not open any more, in order.

    None where the rows do not add up to what left: those that were told last may not be in the ledger yet.
    """
    open_windows = {part.window_start for part in meter.slices}
    left = [row for row in rows if row.window_start not in open_windows]
    events = meter.events - sum(part.events for part in meter.slices)
    quantity = meter.usage - sum((part.quantity for part in meter.slices), ZERO)
    uncovered = meter.uncovered - sum((part.uncovered for part in meter.slices), ZERO)
    paid = dict(meter.paid)
    for part in meter.slices:
        for grant_id, amount in part.paid.items():
            book(paid, grant_id, -amount)
    found: dict[str, Decimal] = {}
    for row in left:
        for grant_id, amount in row.paid.items():
            book(found, grant_id, amount)
    in_ledger = (
        sum(row.events for row in left),
        sum((row.quantity for row in left), ZERO),
        sum((row.uncovered for row in left), ZERO),
        found,
    )
    return slices_of(left, window_seconds) if in_ledger == (events, quantity, uncovered, paid) else None


def slices_of(rows: Sequence[ChargeRow], window_seconds: int) -> list[Slice]:
    """Windows as the state holds them, in order."""
    slices = []
    before = ZERO
    for row in sorted(rows, key=lambda row: row.window_start):
        start, end = window_at(row.window_start, window_seconds)
        whole = WindowPart(start, end, row.quantity, row.late_quantity, row.events, row.amount, row.uncovered, row.paid)
        for part in row.parts or (whole,):
            slices.append(
                Slice(
                    start=part.start,
                    end=part.end,
                    window_start=start,
                    quantity=part.quantity,
                    late_quantity=part.late_quantity,
                    events=part.events,
                    total_before=before,
                    amount=part.amount,
                    settled=part.amount,
                    paid=dict(part.paid),
                    uncovered=part.uncovered,
                    was_left=True,
                )
            )
            before += part.amount
    return slices


def bring_back(meter: MeterState, rows: Sequence[ChargeRow], window_seconds: int) -> None:
    """Make a meter that was just opened what it was when its period left the state, all its windows open."""
    meter.slices = slices_of(rows, window_seconds)
    meter.usage = sum((row.quantity for row in rows), ZERO)
    meter.events = sum(row.events for row in rows)
    meter.commitment = sum((row.commitment for row in rows), ZERO)
    meter.amount = sum((row.amount for row in rows), ZERO) - meter.commitment
    meter.uncovered = sum((row.uncovered for row in rows), ZERO)
    for row in rows:
        for grant_id, amount in row.paid.items():
            book(meter.paid, grant_id, amount)
    meter.closed = any(row.closed for row in rows)
    meter.piece = None


def comes_back(aggregation: Aggregation) -> bool:
    """Whether what an aggregation remembers follows from what it came to."""
    return aggregation in (Aggregation.SUM, Aggregation.COUNT, Aggregation.MAX, Aggregation.MIN)


def tally_of(aggregation: Aggregation, meter: MeterState) -> Tally | None:
    """What an aggregation that comes back remembered."""
    if aggregation is Aggregation.MAX:
        return HighestTally(meter.usage)
    if aggregation is Aggregation.MIN:
        return LowestTally(meter.usage if meter.events else None)
    return None
