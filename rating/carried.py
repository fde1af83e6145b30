"""
What a period carries over where a move within it changes a price: how far tiers and free units have come.

Each part of such a period is a meter of its own, and begins at what the parts before it had come to. Usage that comes
late for one moves the beginning of those after it, so that they are priced anew: the sum depends on the usage alone,
and not on the order in which it came. A maximum, an average and the like count the whole period: a part has what it
changed about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal

from rating.account import Account
from rating.money import ONE, ZERO
from rating.prices import Pricing
from rating.tallies import Tally, UniqueTally, add, merged_value
from rating.usage import MeterState


def earlier_parts(account: Account, meter: MeterState) -> list[MeterState]:
    """The meters of the parts of its period that came before, as far as they are in the state, the first one first."""
    if meter.counted_from is None:
        return []
    found = [
        other
        for other in account.state.meters
        if other.subscription_id == meter.subscription_id
        and other.card_key == meter.card_key
        and meter.counted_from <= other.period_start < meter.period_start
    ]
    return sorted(found, key=lambda other: other.period_start)


def later_parts(account: Account, meter: MeterState) -> list[MeterState]:
    """The meters of the later parts of its period."""
    return [
        other
        for other in account.continued
        if other.counted_from is not None
        and other.subscription_id == meter.subscription_id
        and other.card_key == meter.card_key
        and other.counted_from <= meter.period_start < other.period_start
    ]


def carry_over(account: Account, pricing_of: Callable[[Account, MeterState], Pricing]) -> None:
    """Bring up to date what the later parts of periods have carried; those that change are priced anew."""
    for meter in sorted(account.continued, key=lambda meter: meter.period_start):
        earlier = earlier_parts(account, meter)
        if not earlier:
            # They have left the state, if there were any: what was carried stands.
            continue
        before = earlier[-1]
        carried = before.reached
        charged = before.charged_before + before.cost(pricing_of(account, before), before.usage)
        if meter.tally is not None and (meter.dirty or any(part.dirty for part in earlier)):
            shift = counted(meter.tally, earlier) - carried - meter.usage
            if shift:
                meter.usage += shift
                meter.slices[-1].quantity += shift
                meter.dirty = True
        if (carried, charged) != (meter.carried, meter.charged_before):
            meter.dirty = meter.dirty or meter.closed or carried != meter.carried
            meter.rechain = meter.rechain or (bool(meter.slices) and carried != meter.carried)
            meter.carried, meter.charged_before = carried, charged
            meter.piece = None


def add_to_period(
    account: Account, meter: MeterState, tally: Tally, value: Decimal | str, at: datetime, event_id: str
) -> Decimal:
    """Add an event to the tally of a later part of a period. Returns by how much the period's aggregate changed."""
    earlier = earlier_parts(account, meter)
    if isinstance(tally, UniqueTally):
        # Sets may be large, and are not merged for each event.
        tallies = [tally, *(part.tally for part in earlier if isinstance(part.tally, UniqueTally))]
        assert isinstance(value, str)
        is_new = not any(known.has(value) for known in tallies)
        add(tally, value, at, event_id)
        return ONE if is_new else ZERO
    add(tally, value, at, event_id)
    return counted(tally, earlier) - meter.reached


def counted(tally: Tally, earlier: Iterable[MeterState]) -> Decimal:
    """What a tally comes to together with those of the earlier parts of its period."""
    return merged_value([*(part.tally for part in earlier if part.tally is not None), tally])


def unbind_earlier(account: Account, meter: MeterState) -> None:
    """
    Let usage of earlier parts of a meter's period be settled at once: it also moves what the meter costs.

    Without a piece there is no bound for what it costs.
    """
    for part in earlier_parts(account, meter):
        part.piece = None
