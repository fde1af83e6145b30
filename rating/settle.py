"""
SETTLE: what usage costs, who pays for it, and whether its customer may go on.

It follows `rating.intake`, which has counted the usage: on the beat, or at once where access could change. The way of
an account, in order:

    carry over      the later parts of billing periods begin where the earlier ones have come to      rating.carried
    price           each dirty period, and in it each slice, costs what its usage costs now           rating.usage
    charge          what is owed more burns grants, what is owed less is refunded                     rating.payments
    repay           grants that are new, or got something back, pay what is uncovered                 rating.payments
    emit            a row for each window that changed: usage, amount, and who paid                   rating.outcome
    close windows   all but the newest ones leave the state, since the ledger has their rows          rating.usage
    decide access   what is left, whether the customer may go on, and how much before that changes    rating.access

All amounts are totals, so it does not matter how often this is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rating.access import AccessState, balance_row, decide_access
from rating.account import Account
from rating.calendar import NOTHING, TICK, Calendar, is_in_arrears
from rating.carried import carry_over, unbind_earlier
from rating.charge import is_given, total
from rating.money import ZERO
from rating.outcome import Outcome, charge_rows
from rating.payments import repay_uncovered, settle_period
from rating.usage import UsagePeriod, close_windows, price_period, slice_at, slice_due_at

Changed = list[tuple[UsagePeriod, bool]]
"""Periods that were priced, each with whether any slice but the last may have changed."""


def settle_account(
    account: Account, calendar: Calendar, now: datetime, out: Outcome, last: Sequence[UsagePeriod] = ()
) -> None:
    """
    Price and settle the dirty periods of an account, and emit what changed.

    What an event used that may have exhausted a grant is settled `last`: all before it fitted in the headroom,
    where order does not matter, so credits burn in the order in which the usage was rated.

    Args:
        account: Time has had its effect on it.
        calendar: Knows what prices a period.
        now: The present instant.
        out: Gains the rows.
        last: Periods to be settled after all others.
    """
    calendar.lanes.empty(account)
    account.begin_settle()
    now = max(now, account.state.advanced_to or now)
    if account.continued:
        carry_over(account, calendar.pricing)
    dirty = _dirty_periods(account, last)
    reopened = account.open_returned(calendar.epoch)
    changed = _price_and_charge(account, calendar, dirty, now)
    if account.wallet.has_refunds or reopened or (account.state.overage and account.wallet.live_grants):
        repaid = [*repay_uncovered(account, now), *reopened]
        changed = [entry for entry in changed if not any(entry[0] is period for period in repaid)]
        changed += {id(period): (period, True) for period in repaid}.values()
    _emit_rows(account, calendar, changed, out)
    for period in reopened:
        if account.wanted:
            # Others are still to come back, and no grant has paid yet: it comes back once more, with them.
            account.want_windows(period)
        else:
            account.looked(period, now)
    for period in account.continued:
        unbind_earlier(account, period)
    _publish_balance(account, calendar, now, out)


def _dirty_periods(account: Account, last: Sequence[UsagePeriod]) -> list[UsagePeriod]:
    """The periods to be priced, in the order in which they are settled."""
    dirty = [period for period in account.state.periods if period.dirty]
    if last:
        dirty = [period for period in dirty if not any(period is one for one in last)]
        dirty += [period for period in last if period.dirty]
    return dirty


def _price_and_charge(account: Account, calendar: Calendar, dirty: Sequence[UsagePeriod], now: datetime) -> Changed:
    """Bring what periods cost up to their usage, and charge the difference. Returns those that have rows to emit."""
    changed: Changed = []
    for period in dirty:
        # What a period is used before it begins counts from then on. What a move has put off is given back.
        is_due = period.booked_from <= now
        if not is_due and not period.amount:
            continue
        period.dirty = False
        opens = price(account, period, calendar, is_due)
        if opens is None:
            continue
        if opens:
            # What is owed for having the plan comes before what was used since.
            settle_period(account, period, period.slices[:1], now)
        changed.append((period, period.reprice_all))
        period.reprice_all = False
    for period, whole in changed:
        settle_period(account, period, period.slices if whole else period.slices[-1:], now)
    return changed


def price(account: Account, period: UsagePeriod, calendar: Calendar, is_due: bool) -> bool | None:
    """
    Bring a period's amounts up to its usage.

    What it costs without any usage has a slice at the period's start, what is due at its end (a fee in arrears, a
    minimum) one at its end: so who pays for it is decided by when it is due, whatever usage came when.

    Returns:
        Whether the slice at the start is new; None where there is nothing to emit.
    """
    window_seconds = calendar.rules.window_seconds
    pricing = calendar.pricing(account, period)
    if period.closed:
        period.commitment = period.minimum(pricing)
    fee = ZERO
    given = pricing.discounts.percentage is not None and period.counted_from is None and is_given(pricing)
    given_at_end = False
    if period.booked_from > period.period_start and is_in_arrears(pricing):
        given_at_end = given
        fee, pricing = total(pricing, ZERO) if is_due else ZERO, NOTHING
    slices = period.slices
    opens = False
    # A price segment is known once the price was looked at, or where the first one owes nothing without usage.
    if (period.segment is None or given) and period.closed_through is None:
        has_start = bool(slices) and slices[0].start <= period.period_start
        opens = not has_start and (period.cost(pricing, ZERO) != ZERO or (given and not given_at_end))
    if opens:
        slice_at(period, period.period_start, account.wallet.boundaries, window_seconds)
    if period.commitment or fee or (given_at_end and is_due):
        # Usage that gathers does so in a slice that may end there now.
        calendar.lanes.close(account)
        slice_due_at(period, period.period_end - TICK, account.wallet.boundaries, window_seconds)
    elif not slices:
        # Opened for usage that did not come.
        return None
    price_period(period, pricing, fee)
    return opens


def _emit_rows(account: Account, calendar: Calendar, changed: Changed, out: Outcome) -> None:
    """Emit the rows of the windows that changed; windows that newer ones have followed leave the state."""
    for period, whole in changed:
        out.charges += charge_rows(account, period, whole or period.reprice_all)
        if period.closed:
            account.note_emitted(period, calendar.epoch)
        if close_windows(period, calendar.rules.late_windows):
            calendar.lanes.close(account)


def _publish_balance(account: Account, calendar: Calendar, now: datetime, out: Outcome) -> None:
    """Decide access, split the headroom that follows from it, and emit the balance. A change of access is urgent."""
    if account.customer is None:
        return
    decision = decide_access(account, account.customer, now)
    account.set_headroom(decision.headroom)
    calendar.lanes.split_headroom(account)
    out.balances.append(balance_row(account, account.customer, decision, now))
    is_first = account.last_published is None
    if account.publish((decision.access, decision.level, decision.blocked_features)):
        out.urgent = out.urgent or not is_first or decision.access is AccessState.BLOCKED
