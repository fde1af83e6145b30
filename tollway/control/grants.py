"""
Grants: prepaid credits of a customer, made once and never changed, until what is left is voided.

A key makes granting safe to repeat: the same customer, key and content again is the grant there is, and
other content under the same key is refused.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec.structs import replace

from config.limits import GRANT_FEATURES
from rating.catalog import Customer, Grant
from rating.periods import Cadence, add_duration
from tollway.control.checks import (
    KEY_LENGTH_MAX,
    check_count,
    check_currency,
    check_described,
    check_duration,
    check_positive,
    check_text,
    check_unique,
    instant_text,
    utc_instant,
)
from tollway.control.currency import in_currency
from tollway.control.deletion import check_not_deleted
from tollway.control.drafts import GrantDraft
from tollway.control.errors import ControlCode, ControlError, conflict, invalid
from tollway.control.transaction import Transaction

PRIORITY_MAX: Final = 1000

_CONTENT = ("amount", "priority", "features", "effective_at", "expires_at", "name")


def grant(changes: Transaction, customer: Customer | str, draft: GrantDraft) -> Grant:
    """
    Grant prepaid credits.

    If the customer has a grant of this key and the same content, that one is returned. An effective
    instant that both left to the moment is the same.
    """
    if isinstance(customer, str):
        customer = changes.customer(customer)
    check_not_deleted(customer, "customer")
    if draft.currency is not None:
        check_currency(draft.currency, "currency")
        customer = in_currency(changes, customer, draft.currency)
    effective = None if draft.effective_at is None else utc_instant(draft.effective_at, "effective_at")
    _check_fields(changes, customer, draft)
    now = utc_instant(changes.now(), "now")
    known = None
    if draft.key is not None:
        check_text(draft.key, "key", KEY_LENGTH_MAX)
        known = changes.grant_by_key(customer.id, draft.key)
    features = draft.features
    if known is not None and set(known.features) == set(features):
        features = known.features
    created_at = now if known is None else known.created_at
    starts = effective or created_at
    wanted = Grant(
        id=changes.identify(now, "grant", customer.id, draft.key or "") if known is None else known.id,
        customer_id=customer.id,
        amount=draft.amount,
        currency=customer.currency,
        effective_at=starts,
        created_at=created_at,
        priority=draft.priority,
        features=features,
        expires_at=_expiry(draft, starts),
        voided_at=None if known is None else known.voided_at,
        key=draft.key,
        name=draft.name,
    )
    if known is None:
        changes.record(wanted)
        return wanted
    for field in _CONTENT:
        if getattr(wanted, field) != getattr(known, field):
            what = f"expected the {field} that grant `{draft.key}` was made with, got another"
            hint = "use a key of its own for a new grant; to correct one, void it and grant anew"
            raise ControlError(ControlCode.KEY_REUSED, what, field, hint)
    return known


def _check_fields(changes: Transaction, customer: Customer, draft: GrantDraft) -> None:
    check_positive(draft.amount, "amount", "write how much is granted, as a decimal")
    if draft.currency is not None and draft.currency != customer.currency:
        what = f"expected `{customer.currency}`, the customer's currency, got `{draft.currency}`"
        raise conflict("currency", what, "leave it out, or grant in that currency")
    if not 1 <= draft.priority <= PRIORITY_MAX:
        hint = "lower burns first; 10 is usual"
        raise invalid("priority", f"an integer of 1 to {PRIORITY_MAX}", str(draft.priority), hint)
    check_described(draft.name, "name")
    check_count(len(draft.features), "features", GRANT_FEATURES)
    check_unique(draft.features, "features", None)
    for index, key in enumerate(draft.features):
        changes.feature(key, f"features[{index}]")


def _expiry(draft: GrantDraft, starts: datetime) -> datetime | None:
    if draft.expires_after is not None:
        if draft.expires_at is not None:
            hint = "remove one of the two"
            raise invalid("expires_after", "one of `expires_at` and `expires_after`", "both", hint)
        check_duration(draft.expires_after, "expires_after")
        return add_duration(starts, Cadence.parse(draft.expires_after))
    if draft.expires_at is None:
        return None
    expires = utc_instant(draft.expires_at, "expires_at")
    if expires <= starts:
        hint = "a grant pays from its effective instant up to its expiry: swap or correct them"
        expected = f"an instant after {instant_text(starts)}, when it starts"
        raise invalid("expires_at", expected, instant_text(expires), hint)
    return expires


def void_grant(changes: Transaction, grant_id: str) -> Grant:
    """
    Take back what is left of a grant, from now on. Voiding it again changes nothing.

    What is used up is asked of the ledger, which has what was rated so far: of usage that is under way some may
    still come to be paid by the grant, up to the instant in which it is voided.
    """
    known = changes.find_grant(grant_id)
    if known.voided_at is not None:
        return known
    now = utc_instant(changes.now(), "now")
    if known.expires_at is not None and known.expires_at <= now:
        what = f"expected a grant with something left, got one that expired at {instant_text(known.expires_at)}"
        raise conflict("id", what, "there is nothing to void")
    paid = changes.rows(
        "paid_by_grant",
        known.customer_id,
        known.id,
    )
    if paid and paid[0][0] >= known.amount:
        raise conflict(
            "id", "expected a grant with something left, got one that is used up", "there is nothing to void"
        )
    voided = replace(known, voided_at=now)
    changes.record(voided)
    return voided
