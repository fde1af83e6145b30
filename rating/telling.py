"""
What is told of a meter: a row for each of its open windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from rating.account import Account
from rating.money import ZERO
from rating.rows import ChargeRow, WindowPart
from rating.usage import MeterState, Slice, merged


def charge_rows(account: Account, meter: MeterState, whole: bool) -> Iterator[ChargeRow]:
    """The rows of a meter's windows: of all that are open, or of the last alone."""
    slices = meter.slices
    last = slices[-1]
    if len(slices) == 1 or (not whole and slices[-2].window_start != last.window_start):
        yield _row(account, meter, [last], meter.commitment)
        return
    # Slices are in the order of their windows.
    for window_start, parts in groupby(slices, key=_window):
        if whole or window_start == last.window_start:
            commitment = meter.commitment if window_start == last.window_start else ZERO
            yield _row(account, meter, list(parts), commitment)


def _window(part: Slice) -> datetime:
    return part.window_start


def _row(account: Account, meter: MeterState, slices: list[Slice], commitment: Decimal) -> ChargeRow:
    customer = account.customer
    first = slices[0]
    window_start = first.window_start
    if len(slices) == 1:
        within, was_left, is_whole = first, first.was_left, first.start == window_start
    else:
        within, was_left, is_whole = merged(slices), any(part.was_left for part in slices), False
    return ChargeRow(
        account.state.customer_id,
        meter.subscription_id,
        meter.card_key,
        meter.period_start,
        window_start,
        meter.feature_key,
        meter.period_end,
        meter.full_start,
        meter.full_end,
        customer.currency if customer is not None else "",
        "credit_only" if meter.repays else "credit_then_invoice",
        within.quantity,
        within.late_quantity,
        within.events,
        within.amount,
        commitment,
        within.amount - within.uncovered,
        within.uncovered,
        dict(within.paid),
        meter.closed,
        account.revision,
        () if is_whole else tuple(map(_part, slices)),
        was_left,
    )


def _part(found: Slice) -> WindowPart:
    return WindowPart(
        found.start,
        found.end,
        found.quantity,
        found.late_quantity,
        found.events,
        found.amount,
        found.uncovered,
        dict(found.paid),
    )
