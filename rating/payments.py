"""
Payments: who pays for what usage costs.

Each is a function of an account and one of its usage periods:

    settle_period     charge slices what they cost now over what they cost before, or give back what they cost less
      collect         grants pay, in burn order; the rest is uncovered
      refund          in reverse: first what is uncovered, then the last grant that paid
    repay_uncovered   grants that became known, or got something back, pay what is uncovered

A refund goes to those that may pay for usage of the time that is corrected before any other. It goes by the period and
not by the window, and what only shifts between windows stays paid for: so who paid does not depend on how the stream
was cut. Where the grant that gets it back had paid for another window, who paid for the corrected one takes that over.
Under `credit_only` a grant also repays what was used beyond the balance. What was refunded pays at once for what is
uncovered and may be paid with it. Which grant pays first is the wallet's matter: see `rating.wallet`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from rating.account import Account
from rating.money import ZERO
from rating.usage import Slice, UsagePeriod
from rating.wallet import LiveGrant, book, may_pay


def settle_period(account: Account, period: UsagePeriod, parts: Sequence[Slice], now: datetime) -> None:
    """
    Charge what slices cost now over what they cost before, or give back what they cost less.

    What shifts between slices that the same grants may pay for takes along who paid it. Of the rest, what is given
    back comes first, so that it pays for what is collected.
    """
    changed = [part for part in parts if part.amount != part.settled]
    if len(changed) > 1:
        changed.sort(key=_refunds_first)
        shift_between_slices(account, changed)
        for part in changed:
            _settle_slice(account, period, part, now)
    for part in changed:
        _settle_slice(account, period, part, now)
        assert part.amount == part.settled, f"period {period.card_key} gave back more than it was charged"


def repay_uncovered(account: Account, now: datetime) -> list[UsagePeriod]:
    """
    Let grants pay what is uncovered and may be paid with them. Returns the periods it touched.

    There is such where a grant became known after usage that it may pay for, where one got something back,
    and, under `credit_only`, where one was active at some instant since what was used beyond the balance. Where
    that may be in windows that left the state, these are `wanted`, and all waits for them: older usage comes first.
    """
    wallet = account.wallet
    wallet.has_refunds = False
    touched: list[UsagePeriod] = []
    owing = [period for period in account.state.periods if period.uncovered > 0]
    waits = False
    for live in wallet.live_grants:
        for period in owing:
            waits = _wants_windows(account, period, live, now) or waits
    if waits:
        return touched
    # As if somebody had looked all the time: by when each could first have paid, then in burn order.
    able = [
        (max(live.effective_at, part.start), place, number, part.start)
        for number, period in enumerate(owing)
        for part in period.slices
        if part.uncovered > 0
        for place, live in enumerate(wallet.live_grants)
        if live.grant.pays_for(period.feature_key) and _may_repay(period, live, part.start, now)
    ]
    for _, place, number, start in sorted(able):
        period = owing[number]
        paid = _repay(account, period, wallet.live_grants[place], start, now)
        if paid and not any(period is one for one in touched):
            touched.append(period)
    return touched


# -- between slices -------------------------------------------------------------------------------


def _change(part: Slice) -> Decimal:
    return part.amount - part.settled


def _refunds_first(part: Slice) -> Decimal:
    return min(_change(part), ZERO)


def shift_between_slices(account: Account, changed: Sequence[Slice]) -> None:
    """
    Let what some slices cost less be paid for what others cost more, where no grant starts or ends between.

    In the order of `changed`: what costs more is paid by the first that still costs less. So each is passed once.
    """
    cheaper: dict[int, Iterator[Slice]] = {}
    paying: dict[int, Slice | None] = {}
    by_span: dict[int, list[Slice]] = {}
    span_of = account.wallet.span_of
    for part in changed:
        if _change(part) < 0:
            by_span.setdefault(span_of(part.start), []).append(part)
    for span, parts in by_span.items():
        cheaper[span] = iter(parts)
        paying[span] = next(cheaper[span])
    for target in changed:
        if _change(target) <= 0:
            continue
        span = span_of(target.start)
        source = paying.get(span)
        while source is not None and (amount := min(_change(target), -_change(source))) > 0:
            source.settled -= amount
            target.settled += amount
            shift_payment(source, target, amount)
            if not _change(source):
                source = paying[span] = next(cheaper[span], None)


def shift_payment(source: Slice, target: Slice, amount: Decimal) -> None:
    """
    Take an amount from what was paid for a slice to what was paid for another of the same period.

    First what is uncovered, then by the grants that paid last. What the slice was not charged stays owed between them.
    """
    uncovered = min(amount, max(source.uncovered, ZERO))
    left = amount - uncovered
    for grant_id in reversed(list(source.paid)):
        taken = min(left, source.paid[grant_id])
        if taken > 0:
            left -= taken
            book(source.paid, grant_id, -taken)
            book(target.paid, grant_id, taken)
    source.uncovered -= uncovered + left
    target.uncovered += uncovered + left


# -- collect --------------------------------------------------------------------------------------


def _settle_slice(account: Account, period: UsagePeriod, part: Slice, now: datetime) -> None:
    change = _change(part)
    if not change:
        return
    if change > 0:
        collect(account, period, part, change, now)
    else:
        change = -refund(account, period, part, -change, now)
    account.charge(change)
    part.settled += change


def collect(account: Account, period: UsagePeriod, part: Slice, amount: Decimal, now: datetime) -> None:
    """Let grants pay an amount in burn order; what none of them pays is uncovered."""
    used_at = part.start
    for live in account.wallet.live_grants:
        if live.effective_at <= used_at < live.ends_at and live.grant.pays_for(period.feature_key):
            amount -= _pay(account, period, part, live, amount, now)
            if not amount:
                return
    account.book_uncovered(period, part, amount)


def _pay(
    account: Account, period: UsagePeriod, part: Slice, live: LiveGrant, amount: Decimal, now: datetime
) -> Decimal:
    """Let a grant pay up to an amount for a slice. Returns what it paid."""
    taken = account.wallet.pay(live, amount, now)
    if taken:
        book(part.paid, live.grant.id, taken)
        book(period.paid, live.grant.id, taken)
    return taken


# -- refund ---------------------------------------------------------------------------------------


def _paid_by(charged: UsagePeriod | Slice, payer: str | None) -> Decimal:
    """What a grant paid of what was charged; without a grant, what is uncovered."""
    return charged.uncovered if payer is None else charged.paid.get(payer, ZERO)


def refund(account: Account, period: UsagePeriod, part: Slice, amount: Decimal, now: datetime) -> Decimal:
    """Give back up to an amount, as far as the period has been charged. Returns how much."""
    left = amount
    wallet = account.wallet
    paid_by = [grant for grant in reversed(wallet.grants) if grant.id in period.paid]
    payers = [grant.id for grant in paid_by if grant.id in part.paid or may_pay(grant, part.start)]
    for payer in (None, *payers):
        if _paid_by(period, payer) <= 0:
            continue
        for other in (part, *period.slices):
            if _paid_by(other, payer) > 0:
                taken = min(left, _paid_by(other, payer), _paid_by(period, payer))
                if other is not part:
                    taken = _reassign_payer(account, period, part, other, taken)
                left -= _refund_payer(account, period, other, payer, taken)
                if not left:
                    break
        if not left:
            break
    # What is left was charged in windows that have left the state, or where a period became cheaper as a whole.
    for payer in (*payers, None, *(grant.id for grant in paid_by)):
        left -= _refund_payer(account, period, part, payer, min(left, _paid_by(period, payer)))
    if wallet.has_refunds:
        wallet.weigh(now)
    return amount - left


def _reassign_payer(account: Account, period: UsagePeriod, part: Slice, other: Slice, amount: Decimal) -> Decimal:
    """Let grants that paid for a slice pay for another as well, where they may. Returns how much they can."""
    left = amount
    for grant in account.wallet.grants:
        taken = min(left, _paid_by(part, grant.id))
        if taken > 0 and may_pay(grant, other.start):
            left -= taken
            book(part.paid, grant.id, -taken)
            book(other.paid, grant.id, taken)
    if left != amount:
        period.reprice_all = True
    return amount - left


def _refund_payer(account: Account, period: UsagePeriod, part: Slice, payer: str | None, amount: Decimal) -> Decimal:
    """Refund who paid for a period, or take off what is uncovered. Returns how much."""
    if amount <= 0:
        return ZERO
    if payer is None:
        account.book_uncovered(period, part, -amount)
        return amount
    account.wallet.refund(payer, amount)
    book(part.paid, payer, -amount)
    book(period.paid, payer, -amount)
    return amount


# -- repay ----------------------------------------------------------------------------------------


def _repay(account: Account, period: UsagePeriod, live: LiveGrant, start: datetime, now: datetime) -> Decimal:
    """Let a grant pay what is uncovered of a period's slices that start at an instant. Returns what it paid."""
    paid = ZERO
    for part in period.slices:
        # A window that made the period cheaper owes less than nothing: no grant pays for more than what is left.
        owed = min(part.uncovered, period.uncovered)
        if part.start == start and owed > 0:
            taken = _pay(account, period, part, live, owed, now)
            account.book_uncovered(period, part, -taken)
            paid += taken
    return paid


def _may_repay(period: UsagePeriod, live: LiveGrant, used_at: datetime, now: datetime) -> bool:
    """
    Whether a grant may pay for what was used at an instant, and is uncovered.

    Under `credit_only` it may where it was active at some instant from then up to now.
    """
    known = now if period.repays and live.effective_at < live.ends_at else used_at
    return live.effective_at <= known and used_at < live.ends_at


def _wants_windows(account: Account, period: UsagePeriod, live: LiveGrant, now: datetime) -> bool:
    """Whether windows of a period that left the state are to come back, since a grant may pay for them."""
    if not live.remaining or not live.grant.pays_for(period.feature_key):
        return False
    if any(period is wanted for wanted in account.wanted) or period.reopened:
        return True
    if period.closed_through is None:
        return False
    if period.uncovered <= sum((part.uncovered for part in period.slices), ZERO):
        return False
    first, last = period.owed_from or period.period_start, period.owed_through or period.closed_through
    known = account.looked_for.get(period.key)
    if known is not None and known[:2] == (first, last) and live.grant.id in known[2]:
        return False
    if not _may_repay(period, live, first, now) and not (live.effective_at <= last and first < live.ends_at):
        return False
    account.want_windows(period)
    return True
