"""
What credits take off an invoice, in minor units.

The ledger knows to the last digit what credits paid of each billing period. An invoice rounds that once, for all of its
lines together and all invoices before it: what the invoices that stand show of credits is what credits paid of all
that they bill, rounded. Were each line rounded by itself, nine lines could show more than was ever granted.

A line gets what was paid of its period, rounded down to the minor unit. The units that are left go by the largest
remainder, then in the order of the lines, one to a line; first to lines that credits paid in full. A line never gets
more than it comes to, nor any where credits paid nothing. What finds no place, as where a line comes to nothing by
rounding, waits for the next invoice.

What credits paid in full comes to nothing: where rounding has made such a line larger than its credits, the difference
is a discount. Any other line is to be paid as far as it shows no credits.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal
from typing import NamedTuple

from rating.money import ONE, ZERO, minor_digits, round_minor, rounded


class Coverage(NamedTuple):
    """What credits paid of a billing period."""

    net: Decimal
    """What its details come to, in minor units."""
    paid: Decimal
    """By credits, exact."""
    uncovered: Decimal
    """What they left, exact."""
    shown: Decimal
    """What the invoices that stand show of credits."""

    def left(self, credits: Decimal, currency: str) -> Decimal:
        """What is left of the period, in minor units, where the invoices come to show so much of credits."""
        return ZERO if self.is_covered(currency) else self.net - credits

    def is_covered(self, currency: str) -> bool:
        """Whether credits left nothing that could be paid."""
        return self.paid > 0 and not round_minor(self.uncovered, currency)


def spread(target: Decimal, periods: Sequence[Coverage], currency: str) -> list[Decimal]:
    """
    Spread credits over the lines of an invoice.

    Args:
        target: What all lines together are to show, in minor units.
        periods: That of each line.
        currency: Theirs.

    Returns:
        What each line shows. Together it is the target, as far as the lines have room for it.
    """
    digits = minor_digits(currency)
    step = ONE.scaleb(-digits)
    wanted = [period.paid - period.shown for period in periods]
    least = [-period.shown for period in periods]
    most = [(period.net if period.paid > 0 else ZERO) - period.shown for period in periods]
    free = [
        bound if period.is_covered(currency) else low for low, bound, period in zip(least, most, periods, strict=True)
    ]
    shares = [
        max(min(rounded(share, digits, ROUND_FLOOR), high), low)
        for share, low, high in zip(wanted, least, most, strict=True)
    ]
    order = sorted(range(len(periods)), key=lambda index: (shares[index] - wanted[index], index))
    left = target - sum(shares, ZERO)
    for bounds, at_once in ((free, step), (most, step), (most, None)):
        for index in order:
            room = max(bounds[index] - shares[index], ZERO)
            given = min(left, room if at_once is None else min(room, at_once))
            if given > 0:
                shares[index] += given
                left -= given
    for at_once in (step, None):
        for index in reversed(order):
            room = shares[index] - least[index]
            taken = min(-left, room if at_once is None else min(room, at_once))
            if taken > 0:
                shares[index] -= taken
                left += taken
    return shares
