"""
What a period carries over where a move within it changes a price: how far tiers and free units have come.

Each part of such a billing period is a usage period of its own, and begins at what the parts before it had come to.
Usage that comes late for one moves the beginning of those after it, so that they are priced again: the sum depends on
the usage alone, and not on the order in which it came. A maximum, an average and the like count the whole billing
period: a part has what it changed about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal

from rating.account import Account
from rating.money import ONE, ZERO
from rating.prices import Pricing
from rating.tallies import Tally, UniqueTally, add, merged_value
from rating.usage import UsagePeriod


def earlier_parts(account: Account, period: UsagePeriod) -> list[UsagePeriod]:
    """The parts of its billing period that came before it, as far as they are in the state, the first one first."""
    if period.counted_from is None:
        return []
    found = [
        other
        for other in account.state.periods
        if other.subscription_id == period.subscription_id
        and other.card_key == period.card_key
        and period.counted_from <= other.period_start < period.period_start
    ]
    return sorted(found, key=lambda other: other.period_start)


def later_parts(account: Account, period: UsagePeriod) -> list[UsagePeriod]:
    """The later parts of its billing period."""
    return [
        other
        for other in account.continued
        if other.counted_from is not None
        and other.subscription_id == period.subscription_id
        and other.card_key == period.card_key
        and other.counted_from <= period.period_start < other.period_start
    ]


def carry_over(account: Account, pricing_of: Callable[[Account, UsagePeriod], Pricing]) -> None:
    """Bring up to date what the later parts of periods have carried; those that change are priced again."""
    for period in sorted(account.continued, key=lambda period: period.period_start):
        earlier = earlier_parts(account, period)
        if not earlier:
            # They have left the state, if there were any: what was carried stands.
            continue
        before = earlier[-1]
        carried = before.reached
        charged = before.charged_before + before.cost(pricing_of(account, before), before.usage)
        if period.tally is not None and (period.dirty or any(part.dirty for part in earlier)):
            shift = counted(period.tally, earlier) - carried - period.usage
            if shift:
                period.usage += shift
                period.slices[-1].quantity += shift
                period.dirty = True
        if (carried, charged) != (period.carried, period.charged_before):
            period.dirty = period.dirty or period.closed or carried != period.carried
            period.reprice_all = period.reprice_all or (bool(period.slices) and carried != period.carried)
            period.carried, period.charged_before = carried, charged
            period.segment = None


def add_to_period(
    account: Account, period: UsagePeriod, tally: Tally, value: Decimal | str, at: datetime, event_id: str
) -> Decimal:
    """Add an event to the tally of a later part of a period. Returns by how much the period's aggregate changed."""
    earlier = earlier_parts(account, period)
    if isinstance(tally, UniqueTally):
        # Sets may be large, and are not merged for each event.
        tallies = [tally, *(part.tally for part in earlier if isinstance(part.tally, UniqueTally))]
        assert isinstance(value, str)
        is_new = not any(known.has(value) for known in tallies)
        add(tally, value, at, event_id)
        return ONE if is_new else ZERO
    add(tally, value, at, event_id)
    return counted(tally, earlier) - period.reached


def counted(tally: Tally, earlier: Iterable[UsagePeriod]) -> Decimal:
    """What a tally comes to together with those of the earlier parts of its period."""
    return merged_value([*(part.tally for part in earlier if part.tally is not None), tally])


def unbind_earlier(account: Account, period: UsagePeriod) -> None:
    """
    Let usage of the earlier parts of a billing period be settled at once: it also moves what this part costs.

    Without a price segment there is no bound for what it costs.
    """
    for part in earlier_parts(account, period):
        part.segment = None
