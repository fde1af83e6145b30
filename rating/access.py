"""
Decides whether a customer may go on, and says what it has left.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from rating.account import Account
from rating.carried import later_parts
from rating.catalog import Customer, SettlementMode
from rating.money import plain
from rating.outcome import BalanceRow, PeriodUsage


class AccessState(StrEnum):
    """May this customer go on?"""

    ALLOWED = "allowed"
    BLOCKED = "blocked"


BOUNDLESS = Decimal("Infinity")
"""The headroom of a customer who is blocked: usage can only bring it back where it makes the period cheaper."""
NO_CREDIT_AVAILABLE = "no_credit_available"
"""The reason, in OpenMeter's word, that goes with a blocked access."""
CUSTOMER_DELETED = "customer_deleted"
"""The reason of one who was deleted: its usage is that of nobody, so that it would be served for nothing."""


class AccessDecision(NamedTuple):
    """Whether a customer may go on, and how much it can spend before that, or anything else here, could change."""

    access: AccessState
    reason: str
    level: int
    threshold: str
    blocked_features: tuple[str, ...]
    headroom: Decimal | None
    """A lower bound; None: nothing can change."""


def decide_access(account: Account, customer: Customer, now: datetime) -> AccessDecision:
    """Decide whether a customer may go on at an instant. Nothing is changed by asking."""
    state, wallet = account.state, account.wallet
    live = wallet.settled - state.overage
    blocks = account.mode is SettlementMode.CREDIT_ONLY or (account.mode is not None and customer.block_when_exhausted)
    blocked = blocks and live <= 0
    blocked_features: list[str] = []
    stops = [live] if live > 0 else []
    is_deleted = customer.deleted_at is not None
    for feature_key in account.features:
        left = wallet.available_for(feature_key, now) - state.overage
        if left > 0:
            stops.append(left)
        elif blocks and not blocked:
            blocked_features.append(feature_key)
    # Where there is more than one grant, it matters which usage comes first to exhaust one.
    burning = [grant for grant in wallet.in_force(now) if grant.remaining]
    if len(burning) > 1:
        for feature in account.features or (None,):
            stops += [g.remaining for g in burning if g.grant.pays_for(feature)][:1]
    level, threshold = 0, ""
    for limit in account.limits:
        if live > limit:
            stops.append(live - limit)
            break
        level, threshold = level + 1, plain(limit)
    return AccessDecision(
        access=AccessState.BLOCKED if blocked or is_deleted else AccessState.ALLOWED,
        reason=CUSTOMER_DELETED if is_deleted else NO_CREDIT_AVAILABLE if blocked else "",
        level=level,
        threshold=threshold,
        blocked_features=tuple(blocked_features),
        headroom=min(stops, default=BOUNDLESS) if blocks or wallet.funded else None,
    )


def balance_row(account: Account, customer: Customer, decision: AccessDecision, now: datetime) -> BalanceRow:
    """What a customer has left at an instant, beside the access that was decided for it."""
    state, wallet = account.state, account.wallet
    return BalanceRow(
        customer_id=state.customer_id,
        customer_key=customer.key,
        currency=customer.currency,
        funded=wallet.funded,
        settled=wallet.settled,
        live=wallet.settled - state.overage,
        pending=wallet.pending,
        overage=state.overage,
        consumed=wallet.consumed,
        expired=wallet.expired,
        voided=wallet.voided,
        uncovered=state.uncovered,
        charged=state.charged,
        access=decision.access,
        reason=decision.reason,
        level=decision.level,
        threshold=decision.threshold,
        blocked_features=decision.blocked_features,
        revision=account.revision,
        as_of=now,
        usage=_usage(account, now) if account.metered else (),
    )


def _usage(account: Account, now: datetime) -> tuple[PeriodUsage, ...]:
    found = []
    for period in account.state.periods:
        if period.feature_key in account.metered:
            end = min([period.period_end, *(part.period_start for part in later_parts(account, period))])
            if now < end:
                found.append(PeriodUsage(period.feature_key, period.period_start, end, period.reached))
    return tuple(found)
